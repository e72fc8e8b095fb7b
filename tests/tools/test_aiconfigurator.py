from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bwdeploy.errors import HostError, ToolError
from bwdeploy.tools import aiconfigurator_environment as environment
from bwdeploy.tools.aiconfigurator import PointsRequest, predict, version
from bwdeploy.tools.aiconfigurator_environment import find_python

STAND_IN = Path(__file__).with_name("stand_in_aiconfigurator.py")
LLAMA_70B: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 8192,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "intermediate_size": 28672,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
}


def request(**changes: Any) -> PointsRequest:
    whole = PointsRequest(
        config=LLAMA_70B,
        quantization=None,
        system="b200_sxm",
        input_tokens=1024,
        output_tokens=1024,
        batch_sizes=(1, 64),
        tp=2,
        pp=1,
        attention_dp=1,
        moe_tp=2,
        moe_ep=1,
        gemm="nvfp4",
        moe="nvfp4",
        kv_cache="fp8",
    )
    return whole._replace(**changes)


def executable(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(0o755)
    return file


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BWDEPLOY_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The stand-in, behind the name of a python."""
    file = executable(tmp_path / "python-stand-in", f'#!/bin/sh\nexec "{sys.executable}" "{STAND_IN}" "$@"\n')
    monkeypatch.setenv("BWDEPLOY_AICONFIGURATOR", str(file))
    return file


def test_the_variable_names_a_python(python: Path) -> None:
    assert find_python() == python
    assert version(python) == "0.12.0"


def test_the_variable_names_a_command_whose_first_line_names_a_python(
    python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = executable(tmp_path / "aiconfigurator", f"#!{python}\n")
    monkeypatch.setenv("BWDEPLOY_AICONFIGURATOR", str(command))
    assert find_python() == python


def test_the_command_is_found_on_the_path(
    python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BWDEPLOY_AICONFIGURATOR")
    executable(tmp_path / "bin" / "aiconfigurator", f"#!{python}\n")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert find_python() == python


def test_the_environment_in_the_cache_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BWDEPLOY_AICONFIGURATOR", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_python() is None
    managed = executable(environment.managed_environment() / "bin" / "python", "#!/bin/sh\n")
    assert find_python() == managed


@pytest.mark.parametrize("content", [None, "#!/bin/sh\n", "\x7fELF"])
def test_a_variable_that_names_something_else_is_refused(
    content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = tmp_path / "tool"
    if content is not None:
        executable(named, content)
    monkeypatch.setenv("BWDEPLOY_AICONFIGURATOR", str(named))
    with pytest.raises(HostError) as caught:
        find_python()
    assert caught.value.hint


def test_predictions_are_typed(python: Path) -> None:
    said = predict(python, request(front_gpus=2))
    assert (said.version, said.tables, said.missing) == ("0.12.0", "1.3.0rc20", ())
    assert [point.concurrency for point in said.points] == [1, 64]
    assert said.points[0].tokens_per_s_per_user == pytest.approx(1000 / 5.1)
    assert said.points[0].measured_tables
    assert said.points[0].warning == ""
    assert said.front[0].layout == "tp1"


def test_batches_of_ranks_become_requests_of_the_deployment(python: Path) -> None:
    said = predict(python, request(batch_sizes=(8,), tp=1, attention_dp=4, pp=2))
    assert said.points[0].concurrency == 64


def test_formulas_and_warnings_of_the_tool_are_kept(python: Path) -> None:
    (point,) = predict(python, request(batch_sizes=(2000,))).points
    assert not point.measured_tables
    assert point.warning == "exceeds estimated KV cache"


def test_missing_tables_are_an_answer(python: Path) -> None:
    said = predict(python, request(system="rtx_pro_6000_server"))
    assert said.points == ()
    assert said.missing == ("ValueError: No database found",)


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("fail", "aiconfigurator ended with exit status 1"),
        ("silent", "aiconfigurator wrote no result"),
        ("other-form", "aiconfigurator answered in another form: KeyError"),
        ("no-speed", "aiconfigurator answered in another form: ValueError('nan is no speed')"),
        ("hang", "aiconfigurator did not answer within 1 s"),
    ],
)
def test_a_failing_tool_is_one_error_with_its_log(
    mode: str, message: str, python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_AIC", mode)
    with pytest.raises(ToolError) as caught:
        predict(python, request(), timeout_s=1.0 if mode == "hang" else 30.0)
    assert caught.value.message.startswith(message)
    assert "pip install aiconfigurator==0.12.0" in caught.value.hint
    assert caught.value.log is not None
    assert caught.value.log.is_file()
    if mode == "fail":
        assert "no module named aiconfigurator" in caught.value.last_lines


def test_a_flood_of_talk_is_kept_in_part(python: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN_AIC", "flood")
    with pytest.raises(ToolError) as caught:
        predict(python, request())
    assert caught.value.log is not None
    assert caught.value.log.stat().st_size < 2_000_000
    assert "bytes left out" in caught.value.log.read_text()
    assert caught.value.last_lines[-1] == "the end"
    assert all(len(line) <= 500 for line in caught.value.last_lines)


def test_what_the_tool_started_ends_with_it(
    python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid_file = tmp_path / "pid"
    monkeypatch.setenv("STAND_IN_AIC", "hang-below")
    monkeypatch.setenv("STAND_IN_AIC_PID", str(pid_file))
    with pytest.raises(ToolError, match="did not answer"):
        predict(python, request(), timeout_s=2.0)
    for _ in range(50):
        if not is_running(int(pid_file.read_text())):
            break
        time.sleep(0.1)
    assert not is_running(int(pid_file.read_text()))


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_a_success_leaves_no_log(python: Path, tmp_path: Path) -> None:
    predict(python, request())
    assert not list((tmp_path / "cache").rglob("*.log"))


def test_a_cache_that_cannot_be_written_moves_the_log(
    python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("BWDEPLOY_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("STAND_IN_AIC", "fail")
    with pytest.raises(ToolError) as caught:
        predict(python, request())
    assert caught.value.log is not None
    assert caught.value.log.parent == tmp_path


@pytest.mark.parametrize(
    "first_lines", ["#!/bin/sh\n'''exec' {python} \"$0\" \"$@\"\n' '''\n", "#!/usr/bin/env python-stand-in\n"]
)
@pytest.mark.parametrize("command", ["aiconfigurator", "aisimulate"])
def test_either_command_and_every_kind_of_first_line_is_understood(
    command: str, first_lines: str, python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BWDEPLOY_AICONFIGURATOR")
    executable(tmp_path / "bin" / command, first_lines.format(python=python))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{tmp_path}")
    assert find_python() == python


@pytest.mark.parametrize("name", ["aiconfigurator", "aisimulate"])
def test_the_tool_is_imported_under_either_name(name: str, tmp_path: Path) -> None:
    package = tmp_path / "packages" / name
    (package / "cli").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "cli" / "__init__.py").touch()
    (package / "cli" / "api.py").write_text(
        "from types import SimpleNamespace\n"
        "def cli_estimate(model, system, **options):\n"
        "    keys = ('ttft', 'tpot', 'concurrency', 'tokens/s/user', 'tokens/s/gpu', 'memory')\n"
        "    raw = dict.fromkeys(keys, 1.0) | {'version': '1.3.0'}\n"
        "    return SimpleNamespace(raw=raw, kv_cache_warning=None)\n"
    )
    facts = package.with_name(f"{name}-0.13.0.dist-info")
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.13.0\n")
    python = executable(
        tmp_path / "python-isolated",
        f'#!/bin/sh\nshift\nPYTHONPATH="{package.parent}" exec "{sys.executable}" -P "$@"\n',
    )
    said = predict(python, request(batch_sizes=(1,)))
    assert said.version == "0.13.0"
    assert len(said.points) == 1


def test_a_python_that_is_gone_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="could not be started"):
        version(tmp_path / "python")


def test_a_python_without_the_tool_is_one_error() -> None:
    with pytest.raises(ToolError, match="exit status 1") as caught:
        version(Path(sys.executable))
    assert any("aiconfigurator" in line for line in caught.value.last_lines)


@pytest.mark.slow
def test_the_real_tool_predicts_a_70b_model() -> None:
    if not os.environ.get("BWDEPLOY_AICONFIGURATOR"):
        pytest.skip("needs aiconfigurator 0.12.0: set $BWDEPLOY_AICONFIGURATOR to its python")
    python = find_python()
    assert python is not None
    assert version(python) == environment.TESTED_VERSION
    said = predict(python, request())
    assert [point.concurrency for point in said.points] == [1, 64]
    first, last = said.points
    assert 40 < first.tokens_per_s_per_user < 400
    assert first.tokens_per_s_per_gpu < last.tokens_per_s_per_gpu
    assert said.tables
