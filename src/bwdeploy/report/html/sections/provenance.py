"""Where everything comes from: machine, tools, inputs by digest, and the recipe as it was written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.report.html.blocks import Code, Facts, Section, Table

if TYPE_CHECKING:
    from bwdeploy.report.html.blocks import Block
    from bwdeploy.report.html.data import ReportData

_MOST_SOURCES = 400


def provenance_section(data: ReportData) -> Section:
    """The build's own record."""
    blocks: list[Block] = [Facts((("bwdeploy", data.version), *_host(data)))]
    tools = sorted({(tool, version) for stage in data.stages for tool, version in stage.tools.items()})
    if tools:
        blocks.append(Table("Tools", ("Distribution", "Version"), tuple(tools), texts=frozenset({0, 1})))
    blocks.append(
        Table(
            "Keys of the stages",
            ("Stage", "Key"),
            tuple((stage.name, stage.key) for stage in data.stages),
            texts=frozenset({0, 1}),
            folded=True,
        )
    )
    sources = [(stage.name, file, digest) for stage in data.stages for file, digest in stage.sources.items()]
    if sources:
        left = len(sources) - _MOST_SOURCES
        blocks.append(
            Table(
                "Inputs and their SHA-256"
                + (f" (the first {_MOST_SOURCES}; {left} more)" if left > 0 else ""),
                ("File", "Stage", "SHA-256"),
                tuple((file, stage, digest) for stage, file, digest in sources[:_MOST_SOURCES]),
                texts=frozenset({0, 1, 2}),
                folded=True,
            )
        )
    blocks.append(Code("The recipe as it was written", data.recipe_text))
    return Section("provenance", "Provenance", tuple(blocks))


def _host(data: ReportData) -> tuple[tuple[str, str], ...]:
    names = {
        "device": "Device of jobs",
        "machine": "Processor",
        "system": "System",
        "python": "Python",
        "cores": "Cores",
    }
    return tuple((names.get(name, name), str(value)) for name, value in data.host.items())
