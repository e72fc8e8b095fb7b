"""What differs in meaning between two recipes or two builds: `bwdeploy diff A B`.

Recipes are compared as they take effect, after base, matrix and defaults, never as text. Beside the values
stand what follows from them (memory, estimate, findings) and, between two builds, the tools and artifacts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from bwdeploy.checks import check
from bwdeploy.difference.figures import figure_groups
from bwdeploy.difference.values import Change, value_changes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bwdeploy.difference.figures import FigureGroup
    from bwdeploy.difference.sides import Side
    from bwdeploy.errors import Finding


class Difference(NamedTuple):
    """All that differs."""

    a: Side
    b: Side
    values: tuple[Change, ...]
    groups: tuple[FigureGroup, ...]
    findings_a: tuple[Finding, ...]
    """Those that only A has."""
    findings_b: tuple[Finding, ...]
    builds: tuple[Change, ...]
    """Tool versions, artifact keys and files; empty unless both are builds."""

    @property
    def is_empty(self) -> bool:
        """Whether the two mean the same."""
        figures = any(group.figures for group in self.groups)
        return not (self.values or figures or self.findings_a or self.findings_b or self.builds)


def compare(a: Side, b: Side) -> Difference:
    """What differs between two sides.

    Raises:
        HostError: an installed tensorrt_llm carries a schema file that cannot be read.
    """
    first, second = check(a.loaded), check(b.loaded)
    known_a, known_b = set(map(_what, first)), set(map(_what, second))
    return Difference(
        a=a,
        b=b,
        values=tuple(value_changes(a.loaded, b.loaded)),
        groups=figure_groups(a, b),
        findings_a=tuple(finding for finding in first if _what(finding) not in known_b),
        findings_b=tuple(finding for finding in second if _what(finding) not in known_a),
        builds=tuple(_build_changes(a.manifest, b.manifest)) if a.manifest and b.manifest else (),
    )


def _what(finding: Finding) -> tuple[str, str, str, str]:
    """A finding without its place, which differs between any two files."""
    return finding.rule, finding.severity, finding.path, finding.message


def _build_changes(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[Change]:
    facts_a, facts_b = _build_facts(a), _build_facts(b)
    for path in dict.fromkeys((*facts_a, *facts_b)):
        if facts_a.get(path) != facts_b.get(path):
            yield Change(path, facts_a.get(path), facts_b.get(path))


def _build_facts(manifest: Mapping[str, Any]) -> dict[tuple[str, ...], Any]:
    facts: dict[tuple[str, ...], Any] = {("bwdeploy",): manifest.get("bwdeploy")}
    for stage in manifest.get("stages", ()):
        name = stage["name"]
        facts |= {("tools", tool): version for tool, version in stage.get("tools", {}).items()}
        facts[name, "key"] = stage["key"]
        facts |= {(name, file["path"]): file["sha256"] for file in stage.get("files", ())}
    return facts
