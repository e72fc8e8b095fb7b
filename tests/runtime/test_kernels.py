"""A kernel pack inside the reference engine, on the CPU: the references of the ops run, and count."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

import bwdeploy_kernels
from bwdeploy_runtime.config import EngineConfig
from bwdeploy_runtime.engines import kernels
from bwdeploy_runtime.engines.kernels import import_pack
from bwdeploy_runtime.engines.reference import ReferenceEngine
from bwdeploy_runtime.errors import EngineError
from bwdeploy_runtime.stub.link import EngineLink
from bwdeploy_runtime.worker.__main__ import EngineWorker
from tests.runtime.answering import Answering
from tests.runtime.conftest import KERNEL_OPS

if TYPE_CHECKING:
    from collections.abc import Callable

PROMPT = "the quick brown fox"
NORM, SILU = KERNEL_OPS


@pytest.fixture
def version(tiny_fp8_checkpoint: Path, kernel_pack: Path, tmp_path: Path) -> Path:
    """A version directory."""
    (tmp_path / "checkpoint").symlink_to(tiny_fp8_checkpoint)
    (tmp_path / "kernels").symlink_to(kernel_pack)
    return tmp_path


@pytest.fixture
def _package_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests share one process, in which the package can be imported from one place only."""
    monkeypatch.setattr(kernels, "import_pack", lambda _directory: None)


def config(*ops: str) -> EngineConfig:
    return EngineConfig(runtime="reference", kernels="kernels" if ops else None, kernel_ops=ops)


@pytest.mark.usefixtures("_package_of_this_process")
def test_the_ops_stand_in_the_model_and_are_counted_and_the_tokens_stay(version: Path) -> None:
    plain, engine = ReferenceEngine(), ReferenceEngine()
    plain.load(config(), version, wake=lambda: None)
    info = engine.load(config(*KERNEL_OPS), version, wake=lambda: None)
    assert info.kernels == {NORM: 3, SILU: 2}  # two layers: nothing is added before the first norm
    before = engine.kernel_calls()
    with Answering(plain, config()) as without, Answering(engine, config(*KERNEL_OPS)) as with_ops:
        assert with_ops.ask(PROMPT, max_tokens=8).text == without.ask(PROMPT, max_tokens=8).text != ""
    assert plain.kernel_calls() == {}
    calls = {op: count - before[op] for op, count in engine.kernel_calls().items()}
    assert calls == {NORM: 3 * 8, SILU: 2 * 8}


@pytest.mark.usefixtures("_package_of_this_process")
@pytest.mark.parametrize(
    ("ops", "reason"),
    [
        (("no_such_op",), "no_such_op"),
        (("add_rmsnorm_quant_nvfp4",), "add_rmsnorm_quant_nvfp4"),
    ],
)
def test_a_pack_without_the_op_refuses_the_load_with_the_reason(
    version: Path, ops: tuple[str, ...], reason: str
) -> None:
    with pytest.raises(EngineError, match=f"^the kernels {ops[0]} cannot be used: .*{reason}"):
        ReferenceEngine().load(config(*ops), version, wake=lambda: None)


@pytest.mark.usefixtures("_package_of_this_process")
def test_a_model_with_no_place_for_an_op_refuses_the_load(tiny_checkpoint: Path, version: Path) -> None:
    (version / "checkpoint").unlink()
    (version / "checkpoint").symlink_to(tiny_checkpoint)
    with pytest.raises(EngineError, match="wanted ops that this model has a place for"):
        ReferenceEngine().load(config(SILU), version, wake=lambda: None)


def test_the_package_of_another_pack_is_not_taken_for_this_one(
    kernel_pack: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not Path(bwdeploy_kernels.__file__).is_relative_to(kernel_pack)
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(EngineError, match=r"was imported from .* and not from the pack"):
        import_pack(kernel_pack)


def test_a_directory_without_the_package_is_named_although_another_one_could_be_imported(
    tmp_path: Path,
) -> None:
    with pytest.raises(EngineError, match=f"{tmp_path} holds no kernel pack"):
        import_pack(tmp_path)


def test_calls_add_up_over_the_lives_of_the_engine(
    engine_directory: Callable[[EngineConfig], Path],
) -> None:
    settings = EngineConfig(runtime="echo")
    link = EngineLink(settings, engine_directory(settings))
    nobody = cast("Any", None)
    counted = []
    for calls in ({}, {NORM: 5}, {NORM: 7, SILU: 1}):
        link.on_kernel_calls(calls)
        counted.append(link.kernel_calls)
    link.on_ready(nobody, nobody, {})  # the next life begins with nothing
    for calls in ({}, {NORM: 2, SILU: 0}):
        link.on_kernel_calls(calls)
        counted.append(link.kernel_calls)
    assert counted == [{}, {NORM: 5}, {NORM: 7, SILU: 1}, {NORM: 7, SILU: 1}, {NORM: 9, SILU: 1}]
    link.close()


def test_a_counter_that_cannot_be_read_keeps_its_value_and_is_told_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = socket.socketpair()
    worker = EngineWorker(ours, EngineConfig(runtime="echo"))
    answers: Any = [OSError("a"), OSError("b"), {NORM: 2}, OSError("c")]

    def read() -> dict[str, int]:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return cast("dict[str, int]", answer)

    monkeypatch.setattr(worker._engine, "kernel_calls", read)
    with ours, theirs:
        counted = [worker._kernel_calls({NORM: 1}) for _ in range(4)]
    assert counted == [{NORM: 1}, {NORM: 1}, {NORM: 2}, {NORM: 1}]
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == ["a", "c"]
