from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bwdeploy.pipeline.jobs import Progress
from bwdeploy.worker import process

RUN = [sys.executable, "-m", "bwdeploy.worker"]


def write_job(directory: Path, entry: str, request: dict[str, Any]) -> Path:
    job = directory / "job.json"
    content = {
        "entry": entry,
        "request": request,
        "result": str(directory / "result.json"),
    }
    job.write_text(json.dumps(content))
    return job


def run_job(job: Path, **environment: str) -> tuple[dict[str, Any], subprocess.CompletedProcess[str]]:
    done = subprocess.run(  # noqa: PLW1510 - failures are what is tested
        [*RUN, str(job)], capture_output=True, text=True, timeout=120, env=os.environ | environment
    )
    return json.loads((job.parent / "result.json").read_text()), done


def quantize_request(source: Path, out: Path, **changes: Any) -> dict[str, Any]:
    out.mkdir()
    return {
        "source": str(source),
        "out": str(out),
        "format": "fp8",
        "recipe": None,
        "kv_cache": "none",
        "overrides": [],
        "calibration": {"samples": 8, "seq_len": 32},
        "device": "cpu",
        "trust_remote_code": False,
    } | changes


def test_job_runs_and_stdout_carries_nothing_but_progress(tiny_llama: Path, tmp_path: Path) -> None:
    request = quantize_request(tiny_llama, tmp_path / "out")
    answer, done = run_job(write_job(tmp_path, "bwdeploy.worker.quantize:run", request))
    assert answer["ok"], answer
    assert answer["result"]["quant_algo"] == "FP8"
    assert answer["result"]["peak_memory_bytes"] > 100_000_000
    steps = [Progress.model_validate_json(line) for line in done.stdout.splitlines()]
    assert {"import", "load", "calibrate", "export"} <= {step.phase for step in steps}
    assert any(step.phase == "calibrate" and step.done == step.total == 2 for step in steps)
    assert [path.name for path in tmp_path.glob(".result*")] == []


@pytest.mark.parametrize(
    "entry", ["os:system", "bwdeploy.worker.process:peak_memory_bytes", "bwdeploy.cli:main"]
)
def test_undeclared_entry_is_refused(entry: str, tmp_path: Path) -> None:
    answer, done = run_job(write_job(tmp_path, entry, {}))
    assert not answer["ok"]
    assert done.returncode == 1
    assert f"{entry!r} is no entry of a declared job" in answer["error"]["message"]
    assert "bwdeploy.worker.audit:run" in answer["error"]["message"]


def test_malformed_request_is_refused(tmp_path: Path) -> None:
    answer, _ = run_job(write_job(tmp_path, "bwdeploy.worker.convert_gguf:run", {"gguf": 3}))
    assert "does not fit ConvertGguf" in answer["error"]["message"]


def test_recipe_problem_comes_back_with_its_finding_and_the_log_has_the_traceback(
    tiny_llama: Path, tmp_path: Path
) -> None:
    request = quantize_request(tiny_llama, tmp_path / "out", format="fp9")
    answer, done = run_job(write_job(tmp_path, "bwdeploy.worker.quantize:run", request))
    assert answer["error"]["kind"] == "recipe"
    assert answer["error"]["findings"][0]["path"] == "quantize.format"
    assert "Traceback" in done.stderr
    assert done.stdout.count("Traceback") == 0


def test_missing_package_names_the_extra(tmp_path: Path) -> None:
    # A directory first on the path that behaves like an environment without the package.
    (tmp_path / "path" / "gguf").mkdir(parents=True)
    (tmp_path / "path" / "gguf" / "__init__.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'gguf'\", name='gguf')\n"
    )
    model = tmp_path / "x.gguf"
    model.write_bytes(b"GGUF" + (3).to_bytes(4, "little") + (1).to_bytes(8, "little") + bytes(200))
    request = {"gguf": str(model), "out": str(tmp_path)}
    job = write_job(tmp_path, "bwdeploy.worker.convert_gguf:run", request)
    answer, _ = run_job(job, PYTHONPATH=str(tmp_path / "path"))
    assert answer["error"]["kind"] == "host"
    assert "bwdeploy[models]" in answer["error"]["hint"]


def test_scikit_learn_is_hidden_until_somebody_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "sklearn"]:
        monkeypatch.delitem(sys.modules, name)
    process.hide_scikit_learn()
    try:
        assert importlib.util.find_spec("sklearn") is None
    finally:
        process.show_scikit_learn()
    assert "sklearn" not in sys.modules
