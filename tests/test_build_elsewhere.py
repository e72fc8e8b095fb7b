"""Whole builds through the command line whose engine is built in a container or on a cluster.

The worker jobs are real, docker and Slurm are the stand-ins of `tests/tools/executors`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.engine_place import ENGINE, RECIPE
from tests.place import Place
from tests.tools.executors.conftest import DIGEST, IMAGE, Site, make_site, require_isolation, wait_for

PROGRAM = Path(__file__).parent / "tools" / "stand_in_trtllm_build.py"
BUILD = ("build", "recipe.yaml", "--set", ENGINE)
FILES = {
    "docker.yaml": "executor: container\ncontainer: {program: docker}\n",
    "pyxis.yaml": "executor: slurm\nslurm: {poll_s: 0.05, container_image: auto}\nenvironment: [TOKEN]\n",
}


class Yard:
    """A site with a recipe whose checkpoint lies in its store already."""

    def __init__(self, root: Path, made: Place) -> None:
        self.site: Site = make_site(root, builder=f'#!/bin/sh\nexec {sys.executable} {PROGRAM} "$@"\n')
        shutil.copytree(made.root / "model", self.site.host / "model")
        shutil.copytree(made.root / "cache/store", self.site.host / "cache/store")
        for name, text in {"recipe.yaml": RECIPE, **FILES}.items():
            (self.site.host / name).write_text(text)

    def start(self, *words: str, verb: tuple[str, ...] = BUILD) -> subprocess.Popen[str]:
        places = {"BWDEPLOY_CACHE": str(self.site.host / "cache"), "TOKEN": "hf_secret"}
        return subprocess.Popen(
            [sys.executable, "-m", "bwdeploy", *verb, "--json", *words],
            cwd=self.site.host,
            env={**os.environ, **self.site.environment, **places},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str, verb: tuple[str, ...] = BUILD) -> tuple[Any, str]:
        """The JSON answer and stderr of a verb that ends well."""
        stdout, stderr = (child := self.start(*words, verb=verb)).communicate(timeout=120)
        assert child.returncode == 0, stderr
        return json.loads(stdout), stderr

    def held(self, words: tuple[str, ...], ending: signal.Signals) -> tuple[subprocess.Popen[str], str]:
        """A build on the cluster that is ended while its job waits in the queue; with the job's number."""
        (self.site.state / "hold").touch()
        before = len(self.site.calls("squeue"))
        child = self.start(*words)
        wait_for(lambda: len(self.site.calls("squeue")) > before, what="a look at the queue", timeout_s=30)
        child.send_signal(ending)
        child.wait(30)
        return child, self.newest_job()

    def newest_job(self) -> str:
        return max(path.name for path in (self.site.state / "slurm").iterdir())

    def state_of(self, number: str) -> str:
        return (self.site.state / "slurm" / number / "state").read_text()

    def release(self) -> None:
        (self.site.state / "hold").unlink()


def cluster(batch: int) -> tuple[str, ...]:
    """Each test builds an engine of its own."""
    return ("--executor-file", "pyxis.yaml", "--set", f"engine.max_batch_size={batch}")


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory, engine_place: Place) -> Yard:
    require_isolation()
    return Yard(tmp_path_factory.mktemp("elsewhere"), engine_place)


def built_engine(yard: Yard, out: str) -> dict[str, Any]:
    engine = yard.site.host / out / "model_repository/tensorrt_llm/1/engine"
    assert {path.name for path in engine.iterdir()} == {"config.json", "rank0.engine", "rank1.engine"}
    newest = max(yard.site.host.glob("cache/store/artifacts/engine/*/files/build.json"), key=os.path.getmtime)
    found: dict[str, Any] = json.loads(newest.read_text())
    return found


def test_the_engine_comes_out_of_a_container_with_its_image_recorded(yard: Yard) -> None:
    batch = ("--set", "engine.max_batch_size=6")
    _, stderr = yard.run("--executor-file", "docker.yaml", "-o", "contained", *batch)
    result = built_engine(yard, "contained")
    assert (result["executor"], result["image"], result["image_digest"]) == ("container", IMAGE, DIGEST)
    assert "engine: trtllm-build (log: " in stderr


def test_a_killed_build_takes_its_cluster_job_up_and_publishes_it(yard: Yard) -> None:
    _, number = yard.held(cluster(7), signal.SIGKILL)
    yard.release()
    wait_for(lambda: yard.state_of(number) == "COMPLETED", what="the end of the job", timeout_s=30)
    _, stderr = yard.run(*cluster(7), "-o", "resumed")
    assert f"engine: Slurm job {number} of an earlier run is taken up" in stderr
    assert built_engine(yard, "resumed")["executor"] == "slurm"
    assert yard.newest_job() == number
    assert not list(yard.site.host.glob("cache/store/building/*"))


def test_a_job_that_a_changed_recipe_forgot_is_told_and_cancelled_by_gc(yard: Yard) -> None:
    _, number = yard.held(cluster(8), signal.SIGKILL)
    _, stderr = yard.held(cluster(9), signal.SIGINT)[0].communicate()
    assert f"Slurm job {number} of an earlier build may still run" in stderr
    assert yard.state_of(number) == "PENDING"
    answer, _ = yard.run(verb=("store", "gc"))
    assert answer["jobs"] == [f"Slurm job {number}"]
    assert yard.state_of(number) == "CANCELLED"
    assert not list(yard.site.host.glob("cache/store/building/*"))
    yard.release()


def test_ctrl_c_cancels_the_job_and_says_so_in_json(yard: Yard) -> None:
    child, number = yard.held(cluster(10), signal.SIGINT)
    yard.release()
    stdout, _ = child.communicate()
    assert child.returncode == 130
    error = json.loads(stdout)["error"]
    assert error["kind"] == "InterruptedBuild"
    assert error["message"] == f"interrupted; Slurm job {number} was cancelled"
    assert yard.state_of(number) == "CANCELLED"


def test_no_secret_is_written_down(yard: Yard) -> None:
    """Variables that `environment` names reach jobs by name; notes, scripts and results hold no value."""
    yard.held(cluster(11), signal.SIGKILL)
    yard.release()
    store = yard.site.host / "cache/store"
    texts = [path.read_bytes() for path in store.rglob("*") if path.is_file()]
    assert any(b"job.sh" in text or b"#!/bin/bash" in text for text in texts)
    assert not [text for text in texts if b"hf_secret" in text]


def test_the_device_of_the_executor_file_is_planned_as_it_is_built(yard: Yard) -> None:
    """A login node has no GPU; the key of what is quantized elsewhere must say where."""
    (yard.site.host / "gpus.yaml").write_text("executor: slurm\ndevice: cuda\nslurm: {poll_s: 0.05}\n")
    plan = ("plan", "recipe.yaml", "--set", ENGINE)
    here, _ = yard.run(verb=plan)
    there, _ = yard.run("--executor-file", "gpus.yaml", verb=plan)
    keys = [next(one for one in plan["stages"] if one["name"] == "quantize") for plan in (here, there)]
    assert keys[0]["status"] == "cached"
    assert keys[0]["key"] != keys[1]["key"]
    yard.held(("--executor-file", "gpus.yaml"), signal.SIGINT)
    yard.release()
    assert list(yard.site.host.glob(f"cache/store/locks/{keys[1]['key']}.lock"))
