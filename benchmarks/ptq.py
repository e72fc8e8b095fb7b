"""Quantizing the quickstart model: bwdeploy's stage beside ModelOpt's API called by hand, same settings.

    python -m benchmarks.ptq

Both are one child process, from start to exit, interleaved; wall seconds, and peak resident memory of the
process as the kernel counts it (`ru_maxrss`). The source model is built first when the store lacks it.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.results import write_result
from bwdeploy.build import open_store, plan_recipe
from bwdeploy.checks.recipes import check_recipes
from bwdeploy.pipeline.jobs import Progress, QuantizePtq
from bwdeploy.pipeline.run import run_plan
from bwdeploy.recipe.schema import Calibration
from bwdeploy.report.build_progress import build_display
from bwdeploy.tools.executors import local_executor

RUNS = 3
SAMPLES, SEQ_LEN, BATCH = 64, 256, 4
FORMATS = {"nvfp4": "NVFP4_DEFAULT_CFG"}
RECIPE = Path(__file__).parents[1] / "recipes" / "smollm2-135m-nvfp4.yaml"
BY_HAND = Path(__file__).with_name("ptq_by_hand.py")


def main() -> None:
    source = _source()
    measured: dict[str, object] = {}
    for name, preset in FORMATS.items():
        ours, by_hand = [], []
        for _ in range(RUNS):
            by_hand.append(_in_child(lambda preset=preset: _run_by_hand(source, preset)))
            ours.append(_in_child(lambda name=name: _run_ours(source, name)))
        measured[name] = {
            "bwdeploy": _summary(ours),
            "by_hand": _summary(by_hand),
            "ratio_seconds": round(_median(ours, 0) / _median(by_hand, 0), 3),
            "ratio_peak_memory": round(_median(ours, 1) / _median(by_hand, 1), 3),
        }
    write_result("ptq", measured)


def _source() -> Path:
    store = open_store()
    (checked,) = check_recipes(RECIPE)
    with build_display() as display:
        results = run_plan(
            plan_recipe(checked.loaded, store=store),
            store=store,
            executor=local_executor(),
            watcher=display,
            until="source",
        )
    return results[0].artifact.directory


def _run_ours(source: Path, name: str) -> None:
    with tempfile.TemporaryDirectory() as out, tempfile.TemporaryDirectory() as scratch:
        request = QuantizePtq(
            source=source,
            out=Path(out),
            format=name,
            recipe=None,
            kv_cache="none",
            overrides=(),
            calibration=Calibration(samples=SAMPLES, seq_len=SEQ_LEN, batch_size=BATCH),
            device="cpu",
            trust_remote_code=False,
        )
        local_executor().run(request, log=Path(scratch, "log"), scratch=Path(scratch), on_progress=_ignore)


def _run_by_hand(source: Path, preset: str) -> None:
    with tempfile.TemporaryDirectory() as out:
        arguments = [str(source), out, *map(str, (SAMPLES, SEQ_LEN, BATCH)), preset]
        status = os.spawnv(os.P_WAIT, sys.executable, [sys.executable, str(BY_HAND), *arguments])
        if status:
            raise SystemExit(f"the baseline failed with status {status}")


def _in_child(work: object) -> tuple[float, float]:
    """Run `work` in a forked child; its seconds and the peak MB of the largest process it waited for."""
    began = time.perf_counter()
    child = os.fork()
    if child == 0:
        work()  # type: ignore[operator]
        os._exit(0)
    _, status, usage = os.wait4(child, 0)
    if status:
        raise SystemExit(f"a measured run failed with status {status}")
    return time.perf_counter() - began, usage.ru_maxrss / 1024


def _ignore(progress: Progress) -> None:
    del progress


def _median(samples: list[tuple[float, float]], column: int) -> float:
    return statistics.median(sample[column] for sample in samples)


def _summary(samples: list[tuple[float, float]]) -> dict[str, object]:
    return {
        "median_s": round(_median(samples, 0), 2),
        "all_s": [round(seconds, 2) for seconds, _ in samples],
        "median_peak_mb": round(_median(samples, 1), 1),
    }


if __name__ == "__main__":
    main()
