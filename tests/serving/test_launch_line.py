"""The launch script beside an engine's repository: what the shell makes of its words."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Literal

import pytest

from bwdeploy.recipe.schema import Layout
from bwdeploy.serving.launch_line import HERE, SECRET, launch_words, write_launch_script
from bwdeploy.tools.triton_ranks import EngineLaunch
from tests.tools.stand_in_docker import parse

if TYPE_CHECKING:
    from pathlib import Path

ODD = ("a b", "$HOME", "`id`", "'", '"', "\\", "*", "", "--x=1", "é\n", ";rm")
ECHO = "import json, os, sys; print(json.dumps({'words': sys.argv[1:], 'in': os.getcwd()}))"


def run(script: Path) -> dict[str, object]:
    done = subprocess.run([str(script)], capture_output=True, text=True, check=True, cwd="/")
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_every_word_arrives_as_it_is_in_the_scripts_own_directory(tmp_path: Path) -> None:
    folder = tmp_path / "a $folder: 'odd'"
    folder.mkdir()
    script = folder / "launch.sh"
    write_launch_script(script, (sys.executable, "-c", ECHO, *ODD, f"source={HERE}/x y"))
    assert run(script) == {"words": [*ODD, f"source={folder}/x y"], "in": str(folder)}


@pytest.mark.parametrize(
    ("folder", "word"),
    [
        ("a,readonly=false", f"--mount=source={HERE}"),
        ('a"b', f"--mount=source={HERE}"),
        ("a:b", f"--container-mounts={HERE}:/models"),
        ("a,b", f"--container-mounts={HERE}:/models"),
    ],
)
def test_a_directory_whose_name_would_change_the_mount_is_refused(
    tmp_path: Path, folder: str, word: str
) -> None:
    script = tmp_path / folder / "launch.sh"
    script.parent.mkdir()
    write_launch_script(script, (sys.executable, "-c", ECHO, word))
    done = subprocess.run([str(script)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{script.parent}: no mount can name a directory with one of" in done.stderr


def test_a_search_path_of_the_user_does_not_lead_the_script_astray(tmp_path: Path) -> None:
    for place in ("here/repository", "elsewhere/repository"):
        (tmp_path / place).mkdir(parents=True)
    write_launch_script(tmp_path / "here/repository/launch.sh", (sys.executable, "-c", ECHO))
    done = subprocess.run(
        ["sh", "repository/launch.sh"],
        cwd=tmp_path / "here",
        env={**os.environ, "CDPATH": str(tmp_path / "elsewhere")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["in"] == str(tmp_path / "here/repository")


def test_the_secret_is_another_one_at_each_start(tmp_path: Path) -> None:
    write_launch_script(
        tmp_path / "launch.sh", (sys.executable, "-c", ECHO, f"api:Key={SECRET}", f"{SECRET}")
    )
    one, two = (run(tmp_path / "launch.sh")["words"] for _ in range(2))
    assert isinstance(one, list)
    assert one != two
    assert re.fullmatch(r"api:Key=[0-9a-f]{48}", one[0])
    assert one[0] == f"api:Key={one[1]}"


def test_an_engine_is_served_in_the_image_of_its_version(tmp_path: Path) -> None:
    engine = EngineLaunch(version="1.2.1", world_size=2)
    layout = Layout(gpu="B200", gpus_per_node=2, tp=2)
    words = launch_words("demo", repository="model_repository", engine=engine, layout=layout)
    assert words[:2] == ("docker", "run")
    assert "nvcr.io/nvidia/tritonserver:26.06-trtllm-python-py3" in words
    assert f"--mount=type=bind,source={HERE}/model_repository,target=/models,readonly" in words
    assert words.count("tritonserver") == 2
    parse(list(words[2:]))
    write_launch_script(tmp_path / "launch.sh", words)
    text = (tmp_path / "launch.sh").read_text()
    assert text.startswith("#!/bin/sh\nset -eu\n")
    assert os.access(tmp_path / "launch.sh", os.X_OK)
    assert '--mount=type=bind,source="$PWD"/model_repository,target=/models,readonly' in text
    assert text.count('"$secret"') == 2


def test_ranks_over_several_machines_are_tasks_of_slurm() -> None:
    engine = EngineLaunch(version="1.2.1", world_size=16)
    layout = Layout(gpu="B200", nodes=2, gpus_per_node=8, tp=8, pp=2)
    words = launch_words("demo", repository="model_repository", engine=engine, layout=layout)
    assert words[:5] == ("srun", "--nodes=2", "--ntasks=16", "--ntasks-per-node=8", "--mpi=pmix")
    assert "--container-image=nvcr.io#nvidia/tritonserver:26.06-trtllm-python-py3" in words
    assert "--model-repository=/models" in words
    own = words[words.index("-c") + 1]
    command = ["sh", "-c", own.replace("exec tritonserver", "echo"), "sh", "--x=1"]
    ids = {"SLURM_JOB_ID": "77", "SLURM_PROCID": "3"}
    done = subprocess.run(command, env={**os.environ, **ids}, capture_output=True, text=True, check=True)
    region = "triton_python_backend_shm_region_bwlaunch_77_3_"
    assert done.stdout == f"--x=1 --backend-config=python,shm-region-prefix-name={region}\n"


@pytest.mark.parametrize("mode", ["leader", "orchestrator"])
def test_no_word_is_left_to_the_shell_of_the_image(mode: Literal["leader", "orchestrator"]) -> None:
    engine = EngineLaunch(version="1.2.1", world_size=4, mode=mode)
    layout = Layout(gpu="B200", gpus_per_node=4, tp=4)
    words = launch_words("demo", repository="model_repository", engine=engine, layout=layout)
    assert ("mpirun" in words) == (mode == "leader")
    assert not {"sh", "bash", "-c"} & set(words)
    parse(list(words[2:]))


PRELOAD = "LD_PRELOAD=/models/tensorrt_llm/1/kernels/tensorrt/libbwdeploy_tensorrt_plugins.so"


def test_the_plugins_of_a_kernel_pack_are_loaded_into_every_server_and_nothing_else() -> None:
    engine = EngineLaunch(version="1.2.1", world_size=2, plugins=True)
    layout = Layout(gpu="B200", gpus_per_node=2, tp=2)
    words = launch_words("demo", repository="model_repository", engine=engine, layout=layout)
    places = [index for index, word in enumerate(words) if word == "tritonserver"]
    assert len(places) == 2
    assert [words[index - 2 : index] for index in places] == [("env", PRELOAD)] * 2
    assert words.count(PRELOAD) == 2
    parse(list(words[2:]))


def test_tasks_of_slurm_load_the_plugins_inside_their_container() -> None:
    engine = EngineLaunch(version="1.2.1", world_size=16, plugins=True)
    layout = Layout(gpu="B200", nodes=2, gpus_per_node=8, tp=8, pp=2)
    words = launch_words("demo", repository="model_repository", engine=engine, layout=layout)
    own = words[words.index("-c") + 1]
    assert own.startswith(f'exec env {PRELOAD} tritonserver "$@" ')
    assert own.endswith('bwlaunch_${SLURM_JOB_ID}_${SLURM_PROCID}_"')
