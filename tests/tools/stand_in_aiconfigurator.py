"""A stand-in for the python of aiconfigurator's environment: answers the adapter's requests by a formula.

Called as the adapter calls it: `-I SCRIPT REQUEST RESULT`. What it is told to do wrong stands in
$STAND_IN_AIC: fail, hang, hang-below, silent, other-form, other-version, no-data, no-speed, flood.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

VERSION = "0.12.0"


def point(request: dict[str, Any], batch: int) -> dict[str, Any]:
    if os.environ.get("STAND_IN_AIC") == "no-data" or request["system"] == "rtx_pro_6000_server":
        return {"batch_size": batch, "error": "ValueError: No database found"}
    options = request["options"]
    ranks = options["attention_dp_size"] * options["pp_size"]
    user = 1000 / (5 + batch / 10)
    return {
        "batch_size": batch,
        "mode": "SILICON" if batch < 1000 else "HYBRID",
        "warning": "exceeds estimated KV cache" if batch > 500 else None,
        "ttft": 50.0,
        "tpot": 1000 / user,
        "concurrency": batch * ranks,
        "tokens/s/user": user,
        "tokens/s/gpu": user * batch * ranks / (options["tp_size"] * ranks),
        "memory": 100.0,
        "version": "1.3.0rc20",
    }


def hang(*, below: bool) -> None:
    if below:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        Path(os.environ["STAND_IN_AIC_PID"]).write_text(str(child.pid))
    time.sleep(60)


def main() -> int:
    isolated, script, request_file, result_file = sys.argv[1:]
    assert isolated == "-I"
    assert Path(script).is_file()
    request = json.loads(Path(request_file).read_text())
    mode = os.environ.get("STAND_IN_AIC", "")
    if calls := os.environ.get("STAND_IN_AIC_CALLS"):
        with Path(calls).open("a") as file:
            file.write("x")
    sys.stdout.write("talk of the tool\n")
    if mode in {"hang", "hang-below"}:
        hang(below=mode == "hang-below")
    if mode == "flood":
        sys.stdout.write(("x" * 9_999 + "\n") * 3000 + "the end\n")
        return 1
    if mode == "fail":
        sys.stderr.write("no module named aiconfigurator\n")
        return 1
    if mode == "silent":
        return 0
    answer: dict[str, Any] = {"version": "0.13.0" if mode == "other-version" else VERSION}
    if request["task"] == "points":
        assert json.loads(Path(request["model"], "config.json").read_text())
        answer["points"] = [point(request, batch) for batch in request["batch_sizes"]]
        answer["front_error"] = ""
        answer["front"] = (
            [{"tokens/s/user": 10.0, "tokens/s/gpu": 900.0, "layout": "tp1"}] if request["front_gpus"] else []
        )
    if mode == "no-speed":
        answer["points"][0]["tokens/s/user"] = float("nan")
    if mode == "other-form":
        answer = {"version": VERSION, "points": [{"batch_size": 1}], "front": []}
    Path(result_file).write_text(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
