"""plugins/measured.json and the table of plugins/README.md, made from what benchmarks/results/ holds.

    python -m benchmarks.kernel_tables

An architecture says `measured` only where these very sources were measured; what an earlier source reached is
named as such, and everything else was only compiled.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.results import RESULTS
from bwdeploy.kernels.digests import source_digest
from bwdeploy.kernels.measured import (
    Figure,
    Measured,
    Measurement,
    measured_file,
    measured_json,
    read_measured,
)
from bwdeploy.kernels.ops import shipped_ops
from bwdeploy.report.kernels import count_lines, figure_table, variants_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.kernels.ops import OpDeclaration

README = measured_file().with_name("README.md")
BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"
PATTERNS = ("kernels_*.json", "allreduce_kernels*.json")


def main() -> None:
    measured = measured_of([path for pattern in PATTERNS for path in sorted(RESULTS.glob(pattern))])
    measured_file().write_text(measured_json(measured), encoding="utf-8")
    README.write_text(with_tables(README.read_text(encoding="utf-8"), tables_text()), encoding="utf-8")


def measured_of(results: list[Path]) -> Measured:
    """Every op's newest measurement on each architecture."""
    ops: dict[str, dict[str, Measurement]] = {}
    for path in results:
        result = json.loads(path.read_text(encoding="utf-8"))
        for op, measurement in _measurements(result):
            of_op = ops.setdefault(op, {})
            sm = result["measured"]["sm"]
            if sm not in of_op or of_op[sm].date <= measurement.date:
                of_op[sm] = measurement
    return Measured(ops={op: ops[op] for op in sorted(ops)})


def _measurements(result: dict[str, Any]) -> Iterator[tuple[str, Measurement]]:
    measured = result["measured"]
    place = {key: measured[key] for key in ("gpu", "driver", "cuda", "torch", "commit", "date")}
    for op, digest in measured["sources"].items():
        rows = [
            {key: value for key, value in row.items() if key != "op"}
            for row in measured["rows"]
            if row["op"] == op
        ]
        if rows:
            yield (
                op,
                Measurement(
                    source_digest=digest, command=result["command"], rows=tuple(map(_figure, rows)), **place
                ),
            )


def _figure(row: dict[str, Any]) -> Figure:
    return Figure.model_validate(row)


def with_tables(readme: str, tables: str) -> str:
    """The README with what stands between the markers replaced."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{tables}\n{END}{after}"


def tables_text() -> str:
    """What stands between the markers, for the ops and the measurements as they are now."""
    ops, measured = shipped_ops(), read_measured(measured_file())
    parts = [_status_table(ops, measured)]
    for op in ops.values():
        for sm, measurement in measured.ops.get(op.name, {}).items():
            parts.append(_op_part(op, sm, measurement))
    return "\n".join(parts)


def _status_table(ops: dict[str, OpDeclaration], measured: Measured) -> str:
    sms = list(dict.fromkeys(sm for op in ops.values() for sm in op.sms))
    rows = [[f"`{op.name}`", *(status(op, sm, measured) for sm in sms)] for op in ops.values()]
    return _markdown(["op", *sms], rows)


def status(op: OpDeclaration, sm: str, measured: Measured) -> str:
    """Whether these sources were measured on an architecture, or only compiled for it."""
    if sm not in op.sms:
        return "not built"
    found = measured.ops.get(op.name, {}).get(sm)
    if found is None:
        return "compiled"
    if found.source_digest == source_digest(op):
        return f"measured on {found.gpu}"
    return f"compiled (an earlier source was measured on {found.gpu})"


def _op_part(op: OpDeclaration, sm: str, measurement: Measurement) -> str:
    stale = (
        ""
        if measurement.source_digest == source_digest(op)
        else " **These figures are of an earlier source.**"
    )
    lines = [
        f"## {op.name} on {sm}",
        "",
        f"{measurement.gpu}, driver {measurement.driver}, CUDA {measurement.cuda},",
        f"torch {measurement.torch}, commit {measurement.commit}, {measurement.date}:",
        f"`{measurement.command}`.{stale}",
        "",
    ]
    for variant in variants_of(measurement.rows):
        figures = [figure for figure in measurement.rows if figure.variant == variant]
        lines += [f"### {variant}", "", *(f"- {line}" for line in count_lines(figures)), ""]
        lines.append(_markdown(*figure_table(figures)))
    return "\n".join(lines)


def _markdown(headings: list[str], rows: list[list[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


if __name__ == "__main__":
    main()
