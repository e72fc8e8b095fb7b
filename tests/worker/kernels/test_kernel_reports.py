from __future__ import annotations

from bwdeploy.pipeline.kernel_jobs import KernelCase, KernelTestResult
from bwdeploy.report import kernels
from tests.worker.kernels.figures import a_bench_result, a_figure


def test_a_point_that_loses_is_shown_as_losing() -> None:
    text = kernels.bench_text(a_bench_result(a_figure(2.0), a_figure(3.5, rows=64)))
    assert "faster than torch.compile: 1 of 2 points, missed at 64 x 5120 1.17 times" in text
    rows = [line.split() for line in text.splitlines() if line.strip().startswith("5120")]
    assert [row[-1] for row in rows] == ["wins", "misses"]
    assert "3.00 (missed)" in text


def test_the_copy_bandwidth_stands_beside_the_points_that_have_it() -> None:
    headings, rows = kernels.figure_table([a_figure(2.0), a_figure(2.0, rows=8192, copy_share=0.9)])
    assert headings[-2:] == ["share of copy", "verdict"]
    assert [row[-2:] for row in rows] == [["", "wins"], ["0.900 (missed)", "misses"]]
    assert "share of copy" not in kernels.figure_table([a_figure(2.0)])[0]


def test_what_was_left_out_is_said_with_its_reason() -> None:
    assert "left out: flashinfer-python: not installed" in kernels.bench_text(a_bench_result(a_figure(1.0)))


def test_failed_and_skipped_comparisons_are_named_and_passed_ones_counted() -> None:
    cases = [
        KernelCase(op="one", case="19 x 80", status="passed"),
        KernelCase(op="one", case="1 x 80", status="failed", message="out: 7 differ"),
        KernelCase(op="two", case="all", status="skipped", message="it needs two GPUs"),
    ]
    result = KernelTestResult(device="cpu", cases=tuple(cases), calls={"one": 2}, seconds=1.0)
    lines = kernels.test_text(result).splitlines()
    assert lines[0] == "one: 1 passed, 1 failed, 0 skipped; 2 calls counted"
    assert "  failed: one: 1 x 80: out: 7 differ" in lines
    assert "  skipped: two: all: it needs two GPUs" in lines
