"""The pack reaches every worker process of TensorRT-LLM, and its counters come back: real child processes.

The stand-in's workers know nothing but sys.path and a pickled task, as upstream's MPI workers.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.kernel_pack.packs import NORM_FP8
from tests.kernel_pack.tensorrt_llm_packs import STAND_IN, write_checkpoint, write_whole_pack

RUNTIME = Path(__file__).parents[2] / "triton_repo"

SERVE_FROM_OUR_ENGINE = """
import json, sys, time
from pathlib import Path
pack, checkpoint, op = sys.argv[1:]
sys.path.append({runtime!r})  # of the engine process alone; its bwdeploy_kernels must not be taken
from bwdeploy_runtime.engines.trtllm_kernels import WorkerKernels
import tensorrt_llm
arguments = {{"tensor_parallel_size": 2}}
kernels = WorkerKernels(Path(pack), [op], arguments)
with kernels.loading():
    llm = tensorrt_llm.LLM(checkpoint, **arguments)
modules = kernels.modules()
answers = [llm.generate(3) for _ in range(2)]
deadline_s = time.monotonic() + 20
while kernels.calls()[op] < 20 and time.monotonic() < deadline_s:
    time.sleep(0.02)
calls = kernels.calls()
llm.shutdown()
kernels.close()
package = sys.modules["bwdeploy_kernels"].__file__
print(json.dumps({{"modules": modules, "calls": calls, "answers": answers, "package": package}}))
"""


def serve(pack: Path, checkpoint: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    script = SERVE_FROM_OUR_ENGINE.format(runtime=str(RUNTIME))
    command = [sys.executable, "-c", script, str(pack), str(checkpoint), NORM_FP8]
    environment |= {"PYTHONPATH": str(STAND_IN), "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command,
        env={**os.environ, **environment},
        cwd=pack.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the serving process printed, and the pack it served."""
    place = tmp_path_factory.mktemp("workers")
    pack = write_whole_pack(place / "pack", (NORM_FP8,))
    checkpoint = write_checkpoint(place / "checkpoint")
    done = serve(pack, checkpoint)
    assert done.returncode == 0, done.stderr
    return {"pack": pack, **json.loads(done.stdout.splitlines()[-1])}


def test_every_worker_process_swaps_its_modules_and_counts(served: dict[str, Any]) -> None:
    assert served["modules"] == {NORM_FP8: 5}
    assert served["calls"] == {NORM_FP8: 2 * 2 * 5}  # workers, requests, places
    assert served["answers"][0] == served["answers"][1]
    assert len(served["answers"][0]) == 2


def test_the_package_of_the_pack_is_used_and_no_other(served: dict[str, Any]) -> None:
    assert Path(served["package"]).is_relative_to(served["pack"])


def test_the_reason_of_a_worker_that_refuses_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    pack = write_whole_pack(tmp_path / "pack", (NORM_FP8,))
    checkpoint = write_checkpoint(tmp_path / "checkpoint", quant=None)
    (tmp_path / "tmp").mkdir()
    done = serve(pack, checkpoint, TMPDIR=str(tmp_path / "tmp"))
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert f"EngineError: the kernels {NORM_FP8} cannot be used: kernels: got {NORM_FP8}, wanted ops" in last
    assert list((tmp_path / "tmp").glob("bwdeploy-kernels-*")) == []
