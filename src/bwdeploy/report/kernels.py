"""What was measured and tested of a kernel pack, as tables for a terminal and for plugins/README.md.

A point that misses what it has to reach is shown as missing it, in the table and in the count above it.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from bwdeploy.kernels.goals import COPY, verdicts
from bwdeploy.report.tables import aligned

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from bwdeploy.kernels.goals import Verdict
    from bwdeploy.kernels.measured import Figure
    from bwdeploy.pipeline.kernel_jobs import KernelBenchResult, KernelTestResult

Table = tuple[list[str], list[list[str]]]
"""Headings and rows of cells."""

_LAST = ("share of copy", "verdict")
_MISSED = " (missed)"


def bench_text(result: KernelBenchResult) -> str:
    """All figures of a run, by op and variant, with what they win and miss."""
    lines = [f"{result.machine['gpu']} ({result.sm}), torch {result.machine['torch']}"]
    lines += [f"copy, {name}: {speed:,.0f} GB/s" for name, speed in result.copy_gb_per_s.items()]
    for op in dict.fromkeys(figure.op for figure in result.figures):
        figures = [figure for figure in result.figures if figure.op == op]
        for variant in variants_of(figures):
            chosen = [figure for figure in figures if figure.variant == variant]
            lines += ["", f"{op}, {variant} (µs a launch)", *aligned(*figure_table(chosen))]
            lines += [f"  {line}" for line in count_lines(chosen)]
    lines += [""] if result.left_out else []
    lines += [f"left out: {name}: {reason}" for name, reason in result.left_out.items()]
    return "\n".join(lines)


def test_text(result: KernelTestResult) -> str:
    """How many comparisons passed, and each that did not."""
    lines = []
    for op in dict.fromkeys(case.op for case in result.cases):
        counts = Counter(case.status for case in result.cases if case.op == op)
        said = ", ".join(f"{counts[status]} {status}" for status in ("passed", "failed", "skipped"))
        lines.append(f"{op}: {said}; {result.calls.get(op, 0)} calls counted")
    for status in ("failed", "skipped"):
        chosen = [case for case in result.cases if case.status == status]
        lines += [f"  {status}: {case.op}: {case.case}: {case.message}" for case in chosen]
    lines.append(f"on {result.device}, {result.seconds:.1f} s")
    return "\n".join(lines)


def test_problem(result: KernelTestResult) -> str:
    """Why the pack did not pass; empty when it did. A test that compared nothing is none."""
    counts = Counter(case.status for case in result.cases)
    if counts["failed"]:
        return f"{counts['failed']} of {len(result.cases)} comparisons failed"
    return "" if counts["passed"] else "nothing could be compared here"


def variants_of(figures: Iterable[Figure]) -> tuple[str, ...]:
    """The variants in the order in which they were measured."""
    return tuple(dict.fromkeys(figure.variant for figure in figures))


def figure_table(figures: Sequence[Figure]) -> Table:
    """The figures of one variant: a row for each point, a column for each baseline, the verdict last."""
    baselines = list(dict.fromkeys(name for figure in figures for name in figure.baselines))
    with_share = any(figure.copy_share is not None for figure in figures)
    last = _LAST if with_share else _LAST[1:]
    headings = ["width", "rows", "ours", "p10 to p90", *baselines, *last]
    return headings, [_cells(figure, baselines, with_share=with_share) for figure in figures]


def count_lines(figures: Sequence[Figure]) -> Iterator[str]:
    """For each thing that a variant is judged against: at how many points it holds, and where not."""
    judged = [(figure, verdict) for figure in figures for verdict in verdicts(figure)]
    for against in dict.fromkeys(verdict.against for _, verdict in judged):
        chosen = [(figure, verdict) for figure, verdict in judged if verdict.against == against]
        missed = [pair for pair in chosen if not pair[1].met]
        line = f"{_goal(chosen[0][1])}: {len(chosen) - len(missed)} of {len(chosen)} points"
        places = "; ".join(f"{_place(figure)} {_amount(verdict)}" for figure, verdict in missed)
        yield f"{line}, missed at {places}" if missed else line


def _cells(figure: Figure, baselines: Sequence[str], *, with_share: bool) -> list[str]:
    judged = verdicts(figure)
    missed = {verdict.against for verdict in judged if not verdict.met}
    compared = [_marked(figure.baselines.get(name), ".2f", missed=name in missed) for name in baselines]
    share = [_marked(figure.copy_share, ".3f", missed=COPY in missed)] if with_share else []
    return [
        str(figure.width),
        str(figure.rows),
        f"{figure.microseconds:.2f}",
        f"{figure.p10:.2f} to {figure.p90:.2f}",
        *compared,
        *share,
        "misses" if missed else "wins" if judged else "",
    ]


def _marked(value: float | None, form: str, *, missed: bool) -> str:
    return "" if value is None else f"{value:{form}}{_MISSED if missed else ''}"


def _goal(verdict: Verdict) -> str:
    if verdict.against == COPY:
        return f"at least {verdict.limit:.0%} of the copy bandwidth"
    if verdict.limit < 1:
        return f"at most {verdict.limit:.0%} of {verdict.against}"
    return f"faster than {verdict.against}"


def _amount(verdict: Verdict) -> str:
    return f"{verdict.value:.1%}" if verdict.against == COPY else f"{verdict.value:.2f} times"


def _place(figure: Figure) -> str:
    return f"{figure.rows} x {figure.width}"
