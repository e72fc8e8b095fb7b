"""Runs inside the environment of NVIDIA's aiconfigurator: predicts points and writes them as JSON.

`python aiconfigurator_points.py REQUEST RESULT`. Started by the adapter `aiconfigurator`, never imported by
bwdeploy, and it imports nothing of bwdeploy. What the tool prints goes to the adapter's log. A batch size
that the tool has no figures for becomes an `error` of its row, not a failure. It ends when its standard input
does, that is with bwdeploy.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from contextlib import suppress
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_NAMES = ("aiconfigurator", "aisimulate")
"""Of the package; the second is its successor's."""
_MODES = ("SILICON", "HYBRID")
"""Measured tables first; HYBRID fills what is missing with the tool's own formulas."""
_KEYS = ("concurrency", "tokens/s/user", "tokens/s/gpu", "version")


def main(request_file: str, result_file: str) -> None:
    """Answer one request."""
    request = json.loads(Path(request_file).read_text(encoding="utf-8"))
    result: dict[str, Any] = {"version": _version()}
    if request["task"] == "points":
        api = import_module(f"{_name()}.cli.api")
        result["points"] = [_point(api, request, batch) for batch in request["batch_sizes"]]
        result |= _front(api, request) if request["front_gpus"] else {"front": [], "front_error": ""}
    Path(result_file).write_text(json.dumps(result), encoding="utf-8")


def _name() -> str:
    """The package that is installed; the successor may keep the old one's module name."""
    return next((name for name in _NAMES if find_spec(name)), _NAMES[0])


def _version() -> str:
    for name in _NAMES[1:]:
        with suppress(PackageNotFoundError):
            return version(name)
    return version(_NAMES[0])


def _end_with_parent() -> None:
    """Unbuffered: a thread inside a buffered read would break the interpreter's own end."""
    while os.read(0, 4096):
        pass
    os._exit(1)


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
    threading.Thread(target=_end_with_parent, daemon=True).start()
    main(*sys.argv[1:])
