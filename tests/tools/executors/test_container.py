"""The executor `container`: the command lines of docker and podman, images, and what goes wrong with them."""

from __future__ import annotations

import csv
import json
import os
import resource
from pathlib import Path

import pytest

from bwdeploy.errors import HostError, ToolError
from bwdeploy.pipeline.jobs import ConvertGguf, Download, QuantizePtq
from bwdeploy.recipe.schema import Calibration
from bwdeploy.tools.executors.container_run import run_command
from bwdeploy.tools.executors.launch import Launch
from bwdeploy.tools.executors.settings import ContainerSettings
from bwdeploy.tools.executors.worker_jobs import named_paths
from tests.tools.executors.conftest import DIGEST, IMAGE, Site

SCRATCH = Path("/store/building/x/scratch")
LAUNCH = Launch(command=("trtllm-build",), scratch=SCRATCH, log=Path("/store/log"), identity="0", gpus=2)


def words(program: str = "docker", *, launch: Launch = LAUNCH, **settings: object) -> tuple[str, ...]:
    chosen = ContainerSettings.model_validate(settings)
    return run_command(f"/usr/bin/{program}", chosen, launch, name="bwdeploy-x")


def docker(more: str = "") -> str:
    return f"executor: container\ncontainer: {{program: docker{more}}}"


def test_exactly_the_named_paths_are_mounted_at_their_own_place() -> None:
    launch = LAUNCH._replace(reads=(Path("/a/in"),), writes=(Path("/a/in/out"), Path("/b")))
    assert [word for word in words(launch=launch) if word.startswith(("--mount", "--volume", "-v"))] == [
        "--mount=type=bind,source=/a/in,target=/a/in,readonly",
        "--mount=type=bind,source=/a/in/out,target=/a/in/out",
        "--mount=type=bind,source=/b,target=/b",
        f"--mount=type=bind,source={SCRATCH},target={SCRATCH}",
    ]


def test_a_path_that_is_read_and_written_is_mounted_once_and_writable() -> None:
    launch = LAUNCH._replace(reads=(Path("/b"),), writes=(Path("/b"),))
    assert [word for word in words(launch=launch) if "/b" in word and word.startswith("--mount")][:1] == [
        "--mount=type=bind,source=/b,target=/b"
    ]


def test_a_strange_path_cannot_add_mount_options() -> None:
    path = Path('/data/a,readonly=false,"b"')
    (word,) = (word for word in words(launch=LAUNCH._replace(writes=(path,))) if "data" in word)
    assert next(csv.reader([word.removeprefix("--mount=")])) == [
        "type=bind",
        f"source={path}",
        f"target={path}",
    ]


def test_a_job_has_no_rights_and_no_network_beyond_its_need() -> None:
    assert {"--rm", "--init", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--network=none",
            "--pull=never", f"--workdir={SCRATCH}"} <= set(words())  # fmt: skip
    assert not {"--privileged", "sh", "bash", "-c"} & set(words())
    assert "--network=none" not in words(launch=LAUNCH._replace(network=True))
    assert "--network=none" in words(launch=LAUNCH._replace(network=True), network="none")
    assert "--network=host" in words(network="host")


def test_files_belong_to_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    monkeypatch.setattr(os, "getgid", lambda: 100)
    assert "--user=1000:100" in words()
    assert not [word for word in words() if word.startswith(("--userns", "--cap-add"))]
    assert {"--userns=keep-id", "--user=1000:100"} <= set(words("podman"))
    assert not [word for word in words(user="image") if word.startswith("--user")]


def test_podman_without_root_raises_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """It fails where it may not: https://github.com/containers/podman/issues/19319."""
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (8192, 65536))
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    assert {"--ulimit=memlock=65536:65536", "--ulimit=stack=65536:65536"} <= set(words("podman"))
    assert "--ulimit=memlock=-1:-1" in words("docker")
    monkeypatch.setattr(os, "getuid", lambda: 0)
    assert "--ulimit=memlock=-1:-1" in words("podman")


@pytest.mark.parametrize(
    ("choice", "docker_words", "podman_words"),
    [
        ("auto", ['--gpus="device=0,1"'], ["--device=nvidia.com/gpu=0", "--device=nvidia.com/gpu=1"]),
        ("all", ["--gpus=all"], ["--device=nvidia.com/gpu=all"]),
        ((3, "GPU-1f"), ['--gpus="device=3,GPU-1f"'],
         ["--device=nvidia.com/gpu=3", "--device=nvidia.com/gpu=GPU-1f"]),
    ],
)  # fmt: skip
def test_gpus_are_chosen_in_the_words_of_each_program(
    choice: object, docker_words: list[str], podman_words: list[str]
) -> None:
    def gpu_words(program: str) -> list[str]:
        return [word for word in words(program, gpus=choice) if word.startswith(("--gpus", "--device"))]

    assert gpu_words("docker") == docker_words
    assert gpu_words("podman") == podman_words


def test_fewer_gpus_than_the_job_needs_are_refused() -> None:
    with pytest.raises(HostError, match=r"needs 2 GPUs, and container\.gpus gives 0"):
        words(gpus="none")
    assert not [word for word in words(launch=LAUNCH._replace(gpus=0)) if "gpu" in word]


def test_a_secret_is_passed_by_name_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    command = run_command("docker", ContainerSettings(), LAUNCH, name="x", passed=("HF_TOKEN", "UNSET"))
    assert "--env=HF_TOKEN" in command
    assert not [word for word in command if "hf_secret" in word or "UNSET" in word]


@pytest.mark.usefixtures("isolating")
def test_an_image_that_is_not_here_is_fetched_and_its_digest_recorded(site: Site) -> None:
    (site.state / "images.json").write_text("{}")
    (site.state / "registry.json").write_text(json.dumps({IMAGE: [f"x@{DIGEST}"]}))
    result = site.run(docker(), site.tool("build"))
    assert site.calls("docker")[1] == ["pull", IMAGE]
    assert result.image_digest == DIGEST


def test_an_image_that_may_not_be_fetched_gives_the_command(site: Site) -> None:
    (site.state / "images.json").write_text("{}")
    with pytest.raises(HostError, match=rf"The image {IMAGE} is not on this machine") as error:
        site.run(docker(", pull: never"), site.tool("build"))
    assert error.value.hint == f"Fetch it: docker pull {IMAGE}"
    assert [call[0] for call in site.calls("docker")] == ["image"]


def test_an_image_that_no_registry_has_says_so(site: Site) -> None:
    with pytest.raises(HostError, match=r"could not be fetched: .*manifest unknown"):
        site.run(docker(", image: 'mine:1'"), site.tool("build"))


def test_a_daemon_that_does_not_run_is_told(site: Site) -> None:
    (site.state / "daemon-down").touch()
    with pytest.raises(
        HostError, match="docker does not answer: Cannot connect to the Docker daemon"
    ) as error:
        site.run(docker(), site.tool("build"))
    assert "systemctl start docker" in error.value.hint


def test_without_a_container_program_it_says_so(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with pytest.raises(HostError, match="There is no docker on PATH"):
        site.run(docker(), site.tool("build"))
    with pytest.raises(HostError, match="There is no docker or podman on PATH"):
        site.run("executor: container", site.tool("build"))


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("nvcr.io/nvidia/tritonserver:26.01-trtllm-python-py3", "1.1.0"),
        ("mirror.local:5000/triton:25.09-trtllm-python-py3", "1.0.0"),
        ("nvcr.io/nvidia/tensorrt-llm/release:1.2.0rc8", "1.2.0rc8"),
        ("/images/nvidia+tensorrt-llm+release+1.1.0.sqsh", "1.1.0"),
    ],
)
def test_an_image_of_another_version_is_refused(site: Site, image: str, version: str) -> None:
    with pytest.raises(HostError, match=rf"carries TensorRT-LLM {version}; the recipe asks for 1\.2\.1"):
        site.run(docker(f", image: '{image}'"), site.tool("build"))


def test_an_image_without_the_program_says_so(site: Site) -> None:
    with pytest.raises(HostError, match=rf"The image {IMAGE} has no program quantize"):
        site.run(docker(), site.tool("build", program="quantize"))


def test_what_docker_refuses_is_no_failure_of_the_program(site: Site) -> None:
    gone = site.host / "gone"
    with pytest.raises(HostError, match=r"docker did not start the container: .*source path does not exist"):
        site.run(docker(), site.tool("build", reads=(gone,)))


def test_one_machine_cannot_be_two_nodes(site: Site) -> None:
    for place in ("local", "docker", "enroot"):
        with pytest.raises(HostError, match="needs 2 nodes") as error:
            site.run(place, site.tool("build", nodes=2, tasks=2))
        assert "--executor slurm" in error.value.hint


def test_enroot_needs_an_image_file_and_says_how_to_make_one(site: Site) -> None:
    enroot = "executor: container\ncontainer: {program: enroot}"
    with pytest.raises(HostError, match=r"enroot needs a \.sqsh file") as error:
        site.run(enroot, site.tool("build"))
    assert "docker://nvcr.io#nvidia/tritonserver:26" in error.value.hint
    (site.state / "triton.sqsh").write_bytes(b"????")
    with pytest.raises(HostError, match=r"could not unpack .*Invalid image format"):
        site.run("enroot", site.tool("build"))


def test_what_enroot_unpacked_in_part_is_removed(site: Site) -> None:
    (site.state / "no-space").touch()
    with pytest.raises(HostError, match=r"could not unpack .*No space left") as error:
        site.run("enroot", site.tool("build"))
    assert "ENROOT_DATA_PATH" in error.value.hint
    assert not list(site.state.glob("enroot/*"))


def test_enroot_cannot_take_the_network_away(site: Site) -> None:
    enroot = "executor: container\ncontainer: {program: enroot, network: none, image: SQSH}"
    with pytest.raises(HostError, match="enroot cannot cut a job off"):
        site.run(enroot, site.tool("build"))


def test_a_program_on_path_must_belong_to_the_pinned_version(site: Site) -> None:
    (site.root / "programs/lib/python3.12/dist-packages/tensorrt_llm-1.1.0.dist-info").mkdir(parents=True)
    with pytest.raises(HostError, match=r"belongs to TensorRT-LLM 1\.1\.0; the recipe asks for 1\.2\.1"):
        site.run("local", site.tool("build"))
    site.run("local", site.tool("build", tensorrt_llm="1.1.0"))


def test_a_program_that_is_missing_here_names_the_container(site: Site) -> None:
    with pytest.raises(HostError, match="no program convert on PATH") as error:
        site.run("local", site.tool("build", program="convert"))
    assert "--executor container" in error.value.hint
    assert "1.2.1" in error.value.hint


def test_a_known_failure_gives_its_hint(site: Site) -> None:
    text = "#!/bin/sh\necho 'ValueError: Required but not provided tensors:{x}'\nseq 100\nexit 3\n"
    (site.root / "programs/bin/trtllm-build").write_text(text)
    with pytest.raises(ToolError, match="ended with status 3") as error:
        site.run("local", site.tool("build"))
    assert "The checkpoint lacks tensors" in error.value.hint


def test_a_worker_job_names_what_it_reads_writes_and_downloads(tmp_path: Path) -> None:
    request = QuantizePtq(
        source=tmp_path / "model", out=tmp_path / "out", format="fp8", recipe="file:///r.yaml",
        kv_cache="none", overrides=(), calibration=Calibration(dataset="file:///texts.jsonl"), device="cpu",
        trust_remote_code=False,
    )  # fmt: skip
    reads, writes = named_paths(request)
    assert set(reads) == {tmp_path / "model", Path("/r.yaml"), Path("/texts.jsonl")}
    assert writes == (tmp_path / "out",)
    assert not request.needs_network
    hub = request.model_copy(update={"calibration": Calibration(dataset="hf://org/name@main")})
    assert hub.needs_network
    assert Download(repo="a/b", revision="main", trust_remote_code=False, out=tmp_path).needs_network
    assert not ConvertGguf(gguf=tmp_path, out=tmp_path).needs_network
