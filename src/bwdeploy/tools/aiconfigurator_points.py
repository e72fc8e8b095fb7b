"""Runs inside the environment of NVIDIA's aiconfigurator: predicts points and writes them as JSON.

`python aiconfigurator_points.py REQUEST RESULT`. Started by the adapter `aiconfigurator`, never imported by
bwdeploy, and it imports nothing of bwdeploy. What the tool prints goes to the adapter's log. A batch size
that the tool has no figures for becomes an `error` of its row, not a failure.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

_MODES = ("SILICON", "HYBRID")
"""Measured tables first; HYBRID fills what is missing with the tool's own formulas."""
_KEYS = ("ttft", "tpot", "concurrency", "tokens/s/user", "tokens/s/gpu", "memory", "version")


def main(request_file: str, result_file: str) -> None:
    """Answer one request."""
    request = json.loads(Path(request_file).read_text(encoding="utf-8"))
    result: dict[str, Any] = {"version": version("aiconfigurator")}
    if request["task"] == "points":
        api = import_module("aiconfigurator.cli.api")
        result["points"] = [_point(api, request, batch) for batch in request["batch_sizes"]]
        result |= _front(api, request) if request["front_gpus"] else {"front": [], "front_error": ""}
    Path(result_file).write_text(json.dumps(result), encoding="utf-8")


def _point(api: Any, request: dict[str, Any], batch: int) -> dict[str, Any]:  # noqa: ANN401 - a module
    errors = []
    for mode in _MODES:
        try:
            found = api.cli_estimate(
                request["model"],
                request["system"],
                batch_size=batch,
                database_mode=mode,
                **request["options"],
            )
        except Exception as error:  # noqa: BLE001 - each release has other exceptions for missing data
            errors.append(f"{type(error).__name__}: {error}"[:400])
            continue
        row = {key: _plain(found.raw.get(key)) for key in _KEYS}
        return {"batch_size": batch, "mode": mode, "warning": found.kv_cache_warning, **row}
    return {"batch_size": batch, "error": errors[0]}


def _front(api: Any, request: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401 - a module
    """The Pareto front over the layouts that the tool itself would choose from."""
    limits = {"ttft": 1e6, "tpot": 1e5}
    options = {key: request["options"][key] for key in ("isl", "osl")}
    try:
        found = api.cli_default(
            request["model"], request["front_gpus"], request["system"], **options, **limits
        )
        rows = found.pareto_fronts["agg"].to_dict("records")
    except Exception as error:  # noqa: BLE001 - the points are there all the same
        return {"front": [], "front_error": f"{type(error).__name__}: {error}"[:400]}
    front = [
        {
            "tokens/s/user": _plain(row["tokens/s/user"]),
            "tokens/s/gpu": _plain(row["tokens/s/gpu"]),
            "layout": str(row.get("parallel", "")),
        }
        for row in rows
    ]
    return {"front": front, "front_error": ""}


def _plain(value: Any) -> Any:  # noqa: ANN401 - numpy scalars of the tool
    return value.item() if hasattr(value, "item") else value


if __name__ == "__main__":
    main(*sys.argv[1:])
