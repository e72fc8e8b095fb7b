"""NVIDIA's aiconfigurator (0.12.0), out of process: what it is asked and what it answers, typed.

It holds measured tables of operators for a few GPUs and one or two TensorRT-LLM versions, and predicts from
them; for what it has no tables the answer says so, and the caller falls back.
"""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bwdeploy.tools.aiconfigurator_process import ask, failure

if TYPE_CHECKING:
    from collections.abc import Mapping

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

_VERSION_TIMEOUT_S = 60.0
_POINTS_TIMEOUT_S = 180.0
_FRONT_TIMEOUT_S = 300.0


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


def version(python: Path) -> str:
    """The version of the tool.

    Raises:
        ToolError: it could not be run.
    """
    return str(ask(python, {"task": "version"}, timeout_s=_VERSION_TIMEOUT_S)["version"])


def predict(python: Path, request: PointsRequest, *, timeout_s: float | None = None) -> Prediction:
    """Predict every point of a request.

    Raises:
        ToolError: the tool failed, took too long or answered in another form.
    """
    usual_s = _FRONT_TIMEOUT_S if request.front_gpus else _POINTS_TIMEOUT_S
    with tempfile.TemporaryDirectory(prefix="bwdeploy-aic-") as folder:
        model = Path(folder)
        _write(model / "config.json", request.config)
        if request.quantization is not None:
            _write(model / "hf_quant_config.json", {"quantization": request.quantization})
        answer = ask(python, _task(request, model), timeout_s=timeout_s or usual_s)
    try:
        return _prediction(json.loads(json.dumps(answer).replace(folder, "config.json")))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise failure(f"aiconfigurator answered in another form: {error!r}") from error


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


def _prediction(answer: dict[str, Any]) -> Prediction:
    rows = [row for row in answer["points"] if "error" not in row]
    missing = dict.fromkeys(str(row["error"]) for row in answer["points"] if "error" in row)
    return Prediction(
        version=str(answer["version"]),
        tables=str(rows[0]["version"]) if rows else "",
        points=tuple(
            PredictedPoint(
                concurrency=int(_positive(row["concurrency"])),
                tokens_per_s_per_user=_positive(row["tokens/s/user"]),
                tokens_per_s_per_gpu=_positive(row["tokens/s/gpu"]),
                measured_tables=row["mode"] == "SILICON",
                warning=str(row["warning"] or ""),
            )
            for row in rows
        ),
        front=tuple(
            FrontPoint(_positive(row["tokens/s/user"]), _positive(row["tokens/s/gpu"]), str(row["layout"]))
            for row in answer["front"]
        ),
        missing=tuple(missing),
        front_missing=str(answer["front_error"]),
    )


def _write(file: Path, value: object) -> None:
    file.write_text(json.dumps(value), encoding="utf-8")


def _positive(value: Any) -> float:  # noqa: ANN401 - whatever the tool wrote
    number = float(value)
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{value!r} is no speed")
    return number
