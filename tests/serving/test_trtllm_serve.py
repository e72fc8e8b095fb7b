"""The files for trtllm-serve: the launch script really runs, against a stand-in with the real options."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from bwdeploy.errors import StoreError
from bwdeploy.facts.llm_api_options import launch_options
from bwdeploy.facts.speculation import DRAFT_DIRECTORY
from bwdeploy.recipe.schema import Engine, Layout, Serve
from bwdeploy.serving.trtllm_serve import TrtllmServeInputs, write_trtllm_serve
from tests.kernel_pack.tensorrt_llm_packs import write_whole_pack
from tests.tools.stand_in_docker import parse

ARGUMENTS: dict[str, Any] = {
    "backend": "pytorch",
    "tensor_parallel_size": 2,
    "pipeline_parallel_size": 1,
    "moe_expert_parallel_size": 2,
    "max_batch_size": 64,
    "max_num_tokens": 8192,
    "max_seq_len": 4096,
    "trust_remote_code": False,
    "enable_attention_dp": True,
    "kv_cache_config": {"dtype": "fp8", "free_gpu_memory_fraction": 0.8},
    "cuda_graph_config": {"batch_sizes": [1, 2]},
}
SRUN = """
import os, sys
words = sys.argv[1:]
while words and words[0].startswith("--"):
    name = words.pop(0).split("=")[0]
    assert name in {"--nodes", "--ntasks", "--ntasks-per-node", "--mpi", "--container-image",
                    "--container-mounts", "--container-workdir"}, name
os.execvp(words[0], words)
"""


@pytest.fixture
def inputs(tmp_path: Path) -> TrtllmServeInputs:
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    (checkpoint / "config.json").write_text("{}")
    (checkpoint / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "llm_args.yaml").write_text(yaml.safe_dump(ARGUMENTS))
    return TrtllmServeInputs(
        serve=Serve(server="trtllm-serve", model_name="llama"),
        engine=Engine(tensorrt_llm="1.3.0rc20"),
        layout=Layout(gpu="B200", gpus_per_node=2, tp=2, ep=2),
        checkpoint=checkpoint,
        llm_args=tmp_path / "llm_args.yaml",
    )


def written(inputs: TrtllmServeInputs, tmp_path: Path) -> Path:
    out = tmp_path / "out"
    out.mkdir()
    write_trtllm_serve(out, inputs)
    return out


def launched(script: Path, version: str) -> dict[str, Any]:
    """What the stand-in was given when the script ran."""
    binaries = script.parent.parent / "bin"
    binaries.mkdir()
    stand_in = Path(__file__).with_name("stand_in_trtllm_serve.py").read_text()
    for name in ("trtllm-serve", "trtllm-llmapi-launch"):
        (binaries / name).write_text(f"#!{sys.executable}\n{stand_in}")
    (binaries / "srun").write_text(f"#!{sys.executable}\n{SRUN}")
    for program in binaries.iterdir():
        program.chmod(0o755)
    env = {**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}", "TRTLLM_VERSION": version}
    done = subprocess.run([str(script)], env=env, capture_output=True, text=True, cwd="/", check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_launch_script_starts_the_checkpoint_on_loopback(
    inputs: TrtllmServeInputs, tmp_path: Path
) -> None:
    given = launched(written(inputs, tmp_path) / "launch.sh", "1.3.0rc20")
    assert (given["model"], given["host"], given["port"]) == ("checkpoint/llama", "127.0.0.1", 8000)
    assert (given["tp_size"], given["pp_size"], given["ep_size"], given["backend"]) == (2, 1, 2, "pytorch")
    assert (given["max_batch_size"], given["max_num_tokens"], given["max_seq_len"]) == (64, 8192, 4096)
    assert given["trust_remote_code"] is False
    assert yaml.safe_load(given["file"]) == {
        name: ARGUMENTS[name] for name in ("enable_attention_dp", "kv_cache_config", "cuda_graph_config")
    }


def test_no_argument_is_given_twice_and_all_are_given(inputs: TrtllmServeInputs, tmp_path: Path) -> None:
    out = written(inputs._replace(trust_remote_code=True), tmp_path)
    given = launched(out / "launch.sh", "1.3.0rc20")
    assert given["trust_remote_code"] is True
    options = {"backend", "tensor_parallel_size", "pipeline_parallel_size", "moe_expert_parallel_size"}
    options |= {"max_batch_size", "max_num_tokens", "max_seq_len", "trust_remote_code"}
    assert set(yaml.safe_load(given["file"])) == set(ARGUMENTS) - options


def test_the_checkpoint_is_linked_under_the_models_name(inputs: TrtllmServeInputs, tmp_path: Path) -> None:
    out = written(inputs, tmp_path)
    weights = out / "checkpoint" / "llama" / "model.safetensors"
    assert weights.samefile(inputs.checkpoint / "model.safetensors")
    assert sorted(path.name for path in out.iterdir()) == [
        "checkpoint",
        "config.yaml",
        "launch.sh",
        "launch_container.sh",
    ]


def test_the_kernel_pack_is_named_as_a_custom_module(inputs: TrtllmServeInputs, tmp_path: Path) -> None:
    pack = write_whole_pack(tmp_path / "pack", ("add_rmsnorm_quant_fp8",))
    out = written(inputs._replace(kernels=pack, engine=Engine(tensorrt_llm="1.2.1")), tmp_path)
    assert (out / "kernels" / "manifest.json").samefile(pack / "manifest.json")
    given = launched(out / "launch.sh", "1.2.1")
    [module] = given["custom_module_dirs"]
    assert module == "kernels/bwdeploy_kernels/tensorrt_llm/custom_modules/bwdeploy_kernel_pack"


def test_the_draft_lies_where_the_configuration_names_it(inputs: TrtllmServeInputs, tmp_path: Path) -> None:
    (tmp_path / "trained").mkdir()
    (tmp_path / "trained" / "config.json").write_text("{}")
    config = {"decoding_type": "Eagle3", "max_draft_len": 3, "speculative_model": DRAFT_DIRECTORY}
    inputs.llm_args.write_text(yaml.safe_dump({**ARGUMENTS, "speculative_config": config}))
    out = written(inputs._replace(draft=tmp_path / "trained"), tmp_path)
    given = yaml.safe_load(launched(out / "launch.sh", "1.3.0rc20")["file"])
    assert (out / given["speculative_config"]["speculative_model"] / "config.json").is_file()


def test_variables_are_exported_before_the_server_starts(inputs: TrtllmServeInputs, tmp_path: Path) -> None:
    environment = {"TRTLLM_ENABLE_PDL": "1", "TLLM_LOG_LEVEL": "it's a 'test'"}
    engine = Engine(tensorrt_llm="1.3.0rc20", environment=environment)
    out = written(inputs._replace(engine=engine), tmp_path)
    (tmp_path / "bin").mkdir()
    shown = "import json, os; print(json.dumps({n: v for n, v in os.environ.items() if 'LLM_' in n}))"
    (tmp_path / "bin/trtllm-serve").write_text(f"#!{sys.executable}\n{shown}\n")
    (tmp_path / "bin/trtllm-serve").chmod(0o755)
    path = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    done = subprocess.run([str(out / "launch.sh")], env=path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == environment


@pytest.mark.parametrize(
    ("version", "option"),
    [
        ("1.1.0", "--extra_llm_api_options"),
        ("1.2.0rc2", "--extra_llm_api_options"),
        ("1.2.0", "--config"),
        ("1.4.0rc1", "--config"),
    ],
)
def test_the_option_for_the_file_is_the_versions_own(
    inputs: TrtllmServeInputs, tmp_path: Path, version: str, option: str
) -> None:
    out = written(inputs._replace(engine=Engine(tensorrt_llm=version)), tmp_path)
    assert f"  {option} \\\n  config.yaml\n" in (out / "launch.sh").read_text()
    launched(out / "launch.sh", version)


def test_the_container_runs_the_script_in_nvidias_image_on_loopback(
    inputs: TrtllmServeInputs, tmp_path: Path
) -> None:
    out = written(inputs, tmp_path)
    docker = tmp_path / "docker"
    docker.write_text(f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n")
    docker.chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        [str(out / "launch_container.sh")], env=env, capture_output=True, text=True, check=True
    )
    words = json.loads(done.stdout)
    assert words[0] == "run"
    parse(words[1:])
    assert words[-2:] == ["nvcr.io/nvidia/tensorrt-llm/release:1.3.0rc20", "/deployment/launch.sh"]
    assert f"--mount=type=bind,source={out},target=/deployment,readonly" in words
    assert not [word for word in words if word.startswith(("--publish", "-p", "--privileged", "--ipc"))]


def test_several_machines_get_a_task_for_each_rank(inputs: TrtllmServeInputs, tmp_path: Path) -> None:
    layout = Layout(gpu="B200", nodes=2, gpus_per_node=8, tp=16)
    inputs.llm_args.write_text(yaml.safe_dump({**ARGUMENTS, "tensor_parallel_size": 16, "gpus_per_node": 8}))
    out = written(inputs._replace(layout=layout), tmp_path)
    text = (out / "launch.sh").read_text().replace(" \\\n ", "")
    assert "srun --nodes=2 --ntasks=16 --ntasks-per-node=8 --mpi=pmix" in text
    assert "--container-image=nvcr.io#nvidia/tensorrt-llm/release:1.3.0rc20" in text
    assert not (out / "launch_container.sh").exists()
    given = launched(out / "launch.sh", "1.3.0rc20")
    assert (given["tp_size"], given["gpus_per_node"]) == (16, 8)


def test_every_option_is_one_of_trtllm_serve_and_stands_for_its_argument(
    inputs: TrtllmServeInputs, tmp_path: Path
) -> None:
    inputs.llm_args.write_text(yaml.safe_dump({**ARGUMENTS, "gpus_per_node": 2}))
    out = written(inputs._replace(trust_remote_code=True), tmp_path)
    words = (out / "launch.sh").read_text().split()
    options = launch_options("trtllm-serve")
    given = {word: options[word].argument for word in words if word.startswith("--") and word != "--"}
    missing = set(ARGUMENTS) | {"gpus_per_node"}
    missing -= set(given.values()) | set(yaml.safe_load((out / "config.yaml").read_text()))
    assert missing == set()
    assert {name for name, argument in given.items() if not argument} == {"--host", "--port"}


def test_what_cannot_be_written_is_a_store_error(inputs: TrtllmServeInputs, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="files of trtllm-serve cannot be written"):
        write_trtllm_serve(tmp_path / "llm_args.yaml", inputs)
