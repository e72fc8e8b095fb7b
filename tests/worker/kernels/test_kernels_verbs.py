"""`bwdeploy kernels test|bench` as a user meets them: what is printed, and the exit code."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from bwdeploy.cli import main
from bwdeploy.pipeline.kernel_jobs import KernelBench, KernelCase, KernelTest, KernelTestResult
from bwdeploy.tools import executors
from tests.kernel_pack.packs import NORM_FP8, OPS, write_pack
from tests.worker.kernels.figures import a_bench_result, a_figure


class Answers:
    """An executor that answers every job with one result and keeps the request."""

    device = None

    def __init__(self, result: Any) -> None:
        self.result = result
        self.requests: list[Any] = []

    def run(self, request: Any, **_how: Any) -> Any:
        self.requests.append(request)
        return self.result


@pytest.fixture
def pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BWDEPLOY_CACHE", str(tmp_path / "cache"))
    return write_pack(tmp_path / "pack")


def run(monkeypatch: pytest.MonkeyPatch, *words: str, result: Any = None) -> tuple[int, Answers]:
    answers = Answers(result)
    monkeypatch.setattr(executors, "open_executor", lambda *_names, **_files: answers)
    monkeypatch.setattr(sys, "argv", ["bwdeploy", "kernels", *words])
    return main(), answers


def answer_of(status: Any) -> KernelTestResult:
    case = KernelCase(op=NORM_FP8, case="1 x 80", status=status, message="out: 7 differ")
    return KernelTestResult(device="cpu", cases=(case,), calls={NORM_FP8: 1}, seconds=0.1)


def test_a_pack_whose_kernel_differs_fails_the_test_with_exit_code_6(
    pack: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _ = run(monkeypatch, "test", str(pack), result=answer_of("failed"))
    out, err = capsys.readouterr()
    assert code == 6
    assert "failed: add_rmsnorm_quant_fp8: 1 x 80: out: 7 differ" in out
    assert "1 of 1 comparisons failed" in err
    code, _ = run(monkeypatch, "test", str(pack), "--json", result=answer_of("failed"))
    assert code == 6
    assert json.loads(capsys.readouterr().out)["ok"] is False


def test_a_pack_that_agrees_passes(pack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, asked = run(monkeypatch, "test", str(pack), NORM_FP8, "--device", "cpu", result=answer_of("passed"))
    assert code == 0
    assert asked.requests == [KernelTest(pack=pack.resolve(), ops=(NORM_FP8,), device="cpu")]


def test_a_test_that_compared_nothing_is_no_pass(
    pack: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _ = run(monkeypatch, "test", str(pack), result=answer_of("skipped"))
    assert code == 6
    assert "nothing could be compared here" in capsys.readouterr().err


def test_measuring_prints_the_tables_or_json(
    pack: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result = a_bench_result(a_figure(2.0))
    code, asked = run(monkeypatch, "bench", str(pack), "--quick", result=result)
    assert code == 0
    assert asked.requests == [KernelBench(pack=pack.resolve(), ops=(), quick=True)]
    assert "faster than torch.compile: 1 of 1 points" in capsys.readouterr().out
    run(monkeypatch, "bench", str(pack), "--json", result=result)
    assert json.loads(capsys.readouterr().out)["figures"][0]["microseconds"] == 2.0


def test_what_is_no_pack_and_what_is_no_op_of_it_are_refused_before_a_job_is_started(
    pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, asked = run(monkeypatch, "test", str(tmp_path))
    assert (code, asked.requests) == (3, [])
    assert "manifest.json: cannot be read" in capsys.readouterr().err
    code, asked = run(monkeypatch, "bench", str(pack), "add_rmsnorm")
    assert (code, asked.requests) == (2, [])
    assert all(op in capsys.readouterr().err for op in OPS[:1])
