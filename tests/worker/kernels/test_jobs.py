"""The jobs themselves, on a machine without a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from bwdeploy.errors import HostError
from bwdeploy.pipeline.jobs import Progress
from bwdeploy.pipeline.kernel_jobs import KernelBench, KernelTest, KernelTestResult
from bwdeploy.worker.kernels import op_checks
from bwdeploy.worker.kernels import test as test_job
from bwdeploy.worker.kernels.bench import run as run_bench
from bwdeploy.worker.kernels.cases import Case
from bwdeploy.worker.kernels.loading import load_for_job
from bwdeploy.worker.kernels.op_checks import Subject
from tests.kernel_pack.packs import NORM_FP8, OPS, SILU_NVFP4, read, write_manifest, write_pack


def ignore(_progress: Progress) -> None:
    """A progress callback that does nothing."""


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pack(tmp_path_factory.mktemp("packs") / "pack")


def run_test(pack: Path, *ops: str) -> KernelTestResult:
    return test_job.run(KernelTest(pack=pack, ops=ops, device="cpu"), ignore)


def test_the_references_of_every_op_pass_on_the_cpu_and_what_is_skipped_says_why(pack: Path) -> None:
    result = run_test(pack)
    assert [case for case in result.cases if case.status == "failed"] == []
    assert {case.op for case in result.cases if case.status == "passed"} == set(OPS)
    assert all(case.message for case in result.cases if case.status == "skipped")
    assert all(result.calls[op] > 40 for op in OPS)


def test_only_the_named_ops_are_tested(pack: Path) -> None:
    assert {case.op for case in run_test(pack, SILU_NVFP4).cases} == {SILU_NVFP4}


def test_an_op_for_several_gpus_is_skipped_with_the_reason() -> None:
    (case,) = test_job.tested("allreduce_add_rmsnorm_quant", None, "cpu")
    assert case.status == "skipped"
    assert "a process for each GPU" in case.message


def test_an_op_whose_shapes_without_data_are_wrong_fails(pack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_for_job(pack, device="cpu", ops=(NORM_FP8,))
    case = Case(op=NORM_FP8, rows=4, width=32, scale="static")
    subject = Subject(pack=loaded, case=case, device="cpu")
    assert op_checks.check_fake(subject) == ""
    call = Subject.call

    def with_a_row_more(self: Subject, *arguments: object, **options: object) -> tuple[object, ...]:
        returned = call(self, *arguments, **options)  # type: ignore[arg-type]
        fake = type(returned[0]).__name__ == "FakeTensor"
        return (returned[0].new_empty(5, 32), *returned[1:]) if fake else returned

    monkeypatch.setattr(Subject, "call", with_a_row_more)
    assert "out: without data got ((5, 32)" in op_checks.check_fake(subject)


def test_a_call_that_raises_is_a_comparison_that_failed() -> None:
    def broken() -> str:
        raise RuntimeError("misaligned address")

    case = test_job.judged("one", "19 x 80", broken)
    assert (case.status, case.message) == ("failed", "RuntimeError: misaligned address")


def test_a_pack_for_another_gpu_is_refused_before_it_is_loaded(pack: Path, tmp_path: Path) -> None:
    manifest = read(pack)
    (tmp_path / "other").mkdir()
    write_manifest(tmp_path / "other", manifest | {"sms": ["sm_120a"]})
    with pytest.raises(HostError, match="does not fit this host"):
        load_for_job(tmp_path / "other", device="cuda", ops=())


def test_measuring_without_a_gpu_is_refused_with_what_to_do(pack: Path) -> None:
    with pytest.raises(HostError, match="got no CUDA GPU") as refused:
        run_bench(KernelBench(pack=pack, ops=()), ignore)
    assert "on the machine that serves" in refused.value.hint
