"""NVIDIA's aiconfigurator (0.12.0), out of process and in its own environment of 850 MB.

Found through `$BWDEPLOY_AICONFIGURATOR` (a python, or its `aiconfigurator` command), else on PATH, else in
bwdeploy's cache. It holds measured tables of operators for a few GPUs and one or two TensorRT-LLM versions,
and predicts from them; for what it has no tables the answer says so, and the caller falls back.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bwdeploy.errors import HostError, ToolError
from bwdeploy.places import cache_directory
from bwdeploy.tools import aiconfigurator_points

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE = "BWDEPLOY_AICONFIGURATOR"
TESTED_VERSION = "0.12.0"
SYSTEMS = {
    "b200": "b200_sxm",
    "b300": "b300_sxm",
    "gb200": "gb200",
    "gb300": "gb300",
    "h100": "h100_sxm",
    "h200": "h200_sxm",
    "rtx_pro_6000": "rtx_pro_6000_server",
}
"""GPU of a recipe → the tool's name of it; others it has no tables for."""

_COMMANDS = ("aiconfigurator", "aisimulate")
_LAST_LINES = 12
_VERSION_TIMEOUT_S = 60.0


class PointsRequest(NamedTuple):
    """What to predict: one model in one layout at several batch sizes."""

    config: Mapping[str, Any]
    """The model's config.json."""
    quantization: Mapping[str, Any] | None
    """Content of hf_quant_config.json under `quantization`; the tool reads formats from it."""
    system: str
    """One of the values of `SYSTEMS`."""
    input_tokens: int
    output_tokens: int
    batch_sizes: tuple[int, ...]
    """Requests of one attention rank of one pipeline stage."""
    tp: int
    """Tensor parallel ranks of attention: 1 under attention data parallelism."""
    pp: int
    attention_dp: int
    moe_tp: int
    moe_ep: int
    gemm: str | None
    """Formats in the tool's words; None: as it reads them from the checkpoint's configuration."""
    moe: str | None
    kv_cache: str | None
    front_gpus: int | None = None
    """Ask for the Pareto front over the tool's own layouts of so many GPUs as well."""


class PredictedPoint(NamedTuple):
    """One prediction."""

    concurrency: int
    tokens_per_s_per_user: float
    tokens_per_s_per_gpu: float
    first_token_ms: float
    token_ms: float
    measured_tables: bool
    """False when parts come from the tool's formulas."""
    warning: str


class FrontPoint(NamedTuple):
    """One point of the tool's Pareto front."""

    tokens_per_s_per_user: float
    tokens_per_s_per_gpu: float
    layout: str


class Prediction(NamedTuple):
    """All that the tool said."""

    version: str
    """Of the tool."""
    tables: str
    """The TensorRT-LLM version that its tables were taken with; empty without points."""
    points: tuple[PredictedPoint, ...]
    front: tuple[FrontPoint, ...]
    missing: tuple[str, ...]
    """Why it has no figure for a batch size, each reason once."""
    front_missing: str
    """Why there is no front although it was asked for, else empty."""


def find_python() -> Path | None:
    """The python of the tool's environment, None when the tool is not installed.

    Raises:
        HostError: `$BWDEPLOY_AICONFIGURATOR` names nothing that can be run.
    """
    if chosen := os.environ.get(VARIABLE):
        found = shutil.which(chosen)
        if found is None:
            raise HostError(f"${VARIABLE} is {chosen!r}, which is no program", hint=install_hint())
        return _python_of(Path(found))
    for command in _COMMANDS:
        if found := shutil.which(command):
            return _python_of(Path(found))
    managed = managed_environment() / "bin" / "python"
    return managed if managed.is_file() else None


def managed_environment() -> Path:
    """Where bwdeploy looks for an environment of its own."""
    return cache_directory() / "aiconfigurator" / "venv"


def install_hint() -> str:
    """How to get the tool."""
    place = managed_environment()
    return (
        f"install it with `python -m venv {place} && {place}/bin/pip install"
        f" aiconfigurator=={TESTED_VERSION}` (850 MB)"
    )


def version(python: Path) -> str:
    """The version of the tool.

    Raises:
        ToolError: it could not be run.
    """
    answer = _ask(python, {"task": "version"}, timeout_s=_VERSION_TIMEOUT_S)
    return str(answer["version"])


def predict(python: Path, request: PointsRequest, *, timeout_s: float = 300.0) -> Prediction:
    """Predict every point of a request.

    Raises:
        ToolError: the tool failed, took too long or answered in another form.
    """
    with tempfile.TemporaryDirectory(prefix="bwdeploy-aic-") as folder:
        model = Path(folder)
        _write(model / "config.json", request.config)
        if request.quantization is not None:
            _write(model / "hf_quant_config.json", {"quantization": request.quantization})
        answer = _ask(python, _task(request, model), timeout_s=timeout_s)
    try:
        return _prediction(answer)
    except (KeyError, TypeError, ValueError) as error:
        raise _failure(f"aiconfigurator answered in another form: {error!r}", _log()) from error


def _task(request: PointsRequest, model: Path) -> dict[str, Any]:
    return {
        "task": "points",
        "model": str(model),
        "system": request.system,
        "batch_sizes": list(request.batch_sizes),
        "front_gpus": request.front_gpus,
        "options": {
            "isl": request.input_tokens,
            "osl": request.output_tokens,
            "tp_size": request.tp,
            "pp_size": request.pp,
            "attention_dp_size": request.attention_dp,
            "moe_tp_size": request.moe_tp,
            "moe_ep_size": request.moe_ep,
            "gemm_quant_mode": request.gemm,
            "moe_quant_mode": request.moe,
            "kvcache_quant_mode": request.kv_cache,
        },
    }


def _ask(python: Path, task: dict[str, Any], *, timeout_s: float) -> dict[str, Any]:
    log = _log()
    with tempfile.TemporaryDirectory(prefix="bwdeploy-aic-") as folder, log.open("wb") as talk:
        request, result = Path(folder, "request.json"), Path(folder, "result.json")
        _write(request, task)
        script = str(Path(aiconfigurator_points.__file__).resolve())
        command = [str(python), "-I", script, str(request), str(result)]
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=talk,
                stderr=subprocess.STDOUT,
                env={**os.environ, "HF_HUB_OFFLINE": "1"},
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise _failure(f"aiconfigurator did not answer within {timeout_s:g} s", log) from error
        except OSError as error:
            raise _failure(f"aiconfigurator could not be started: {error}", log) from error
        if done.returncode != 0:
            raise _failure(f"aiconfigurator ended with exit status {done.returncode}", log)
        try:
            answer = json.loads(result.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise _failure("aiconfigurator wrote no result", log) from error
    if not isinstance(answer, dict) or "version" not in answer:
        raise _failure("aiconfigurator answered in another form", log)
    return answer


def _prediction(answer: dict[str, Any]) -> Prediction:
    rows = [row for row in answer["points"] if "error" not in row]
    missing = dict.fromkeys(str(row["error"]) for row in answer["points"] if "error" in row)
    return Prediction(
        version=str(answer["version"]),
        tables=str(rows[0]["version"]) if rows else "",
        points=tuple(
            PredictedPoint(
                concurrency=int(row["concurrency"]),
                tokens_per_s_per_user=float(row["tokens/s/user"]),
                tokens_per_s_per_gpu=float(row["tokens/s/gpu"]),
                first_token_ms=float(row["ttft"]),
                token_ms=float(row["tpot"]),
                measured_tables=row["mode"] == "SILICON",
                warning=str(row["warning"] or ""),
            )
            for row in rows
        ),
        front=tuple(
            FrontPoint(float(row["tokens/s/user"]), float(row["tokens/s/gpu"]), str(row["layout"]))
            for row in answer["front"]
        ),
        missing=tuple(missing),
        front_missing=str(answer["front_error"]),
    )


def _python_of(program: Path) -> Path:
    """A python as it is; of a console script the python that its first line names.

    Raises:
        HostError: it is neither.
    """
    if program.name.startswith("python"):
        return program
    with program.open("rb") as file:
        first = file.readline(512).decode("utf-8", errors="replace").strip()
    named = Path(first.removeprefix("#!").split(" ")[0]) if first.startswith("#!/") else None
    if named is None or not named.name.startswith("python"):
        raise HostError(
            f"{program} is neither a python nor a script of one",
            hint=f"set ${VARIABLE} to the python of the environment that aiconfigurator is installed in",
        )
    return named


def _log() -> Path:
    folder = cache_directory() / "aiconfigurator"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HostError(f"cannot write to {folder}: {error}", hint="set $BWDEPLOY_CACHE") from error
    return folder / "last.log"


def _write(file: Path, value: object) -> None:
    file.write_text(json.dumps(value), encoding="utf-8")


def _failure(message: str, log: Path) -> ToolError:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
    return ToolError(
        message,
        hint=f"use --method roofline; or {install_hint()}",
        log=log,
        last_lines=tuple(lines[-_LAST_LINES:]),
    )
