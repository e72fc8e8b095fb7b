"""Write what trtllm-serve needs, for versions of TensorRT-LLM that no Triton image carries.

    checkpoint/<model_name>/    hard links to the checkpoint; clients name the model by this directory
    config.yaml                 the LLM API arguments that are no options of trtllm-serve
    draft/                      hard links to the draft, if there is one; config.yaml names it so
    kernels/                    hard links to the kernel pack, if kernels are named
    launch.sh                   trtllm-serve with its options, to be run where TensorRT-LLM is
    launch_container.sh         the same inside NVIDIA's image, on one machine

No argument is given twice, because which one wins changed between versions. It starts nothing: these files
are checked, never run here. Options as in tensorrt_llm/commands/serve.py of 0.19 to 1.3.
"""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - part of the public signatures
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import yaml

from bwdeploy.errors import StoreError
from bwdeploy.facts.speculation import DRAFT_DIRECTORY
from bwdeploy.facts.versions import parse_version
from bwdeploy.pipeline.trees import link_tree
from bwdeploy.serving.launch_line import HERE, LAUNCH, srun_words, write_launch_script

if TYPE_CHECKING:
    from bwdeploy.recipe.schema import Engine, Layout, Serve

__all__ = [
    "CONFIG",
    "DIRECTORY",
    "LAUNCH",
    "LAUNCH_CONTAINER",
    "TrtllmServeInputs",
    "container_words",
    "image_of",
    "launch_words",
    "write_trtllm_serve",
]

DIRECTORY: Final = "trtllm_serve"
"""Of an output, beside its bwdeploy.json."""
LAUNCH_CONTAINER: Final = "launch_container.sh"
CONFIG: Final = "config.yaml"

_CHECKPOINT: Final = "checkpoint"
_KERNELS: Final = "kernels"
_CUSTOM_MODULE: Final = "bwdeploy_kernels/tensorrt_llm/custom_modules/bwdeploy_kernel_pack"
"""In a pack. The option that takes it, --custom_module_dirs, is in trtllm-serve of 1.2.1 and later."""
_IMAGE: Final = "nvcr.io/nvidia/tensorrt-llm/release:{version}"
_INSIDE: Final = "/deployment"
_CONFIG_SINCE: Final = "1.2.0"
"""Before it the option had its long name only (https://github.com/NVIDIA/TensorRT-LLM/pull/9104)."""
_OPTIONS: Final = {
    "backend": "--backend",
    "tensor_parallel_size": "--tp_size",
    "pipeline_parallel_size": "--pp_size",
    "moe_expert_parallel_size": "--ep_size",
    "gpus_per_node": "--gpus_per_node",
    "max_batch_size": "--max_batch_size",
    "max_num_tokens": "--max_num_tokens",
    "max_seq_len": "--max_seq_len",
}
"""Argument → option: those that have one in every version, whose defaults would stand against the file."""
_TRUST: Final = "trust_remote_code"


class TrtllmServeInputs(NamedTuple):
    """What the files are written from."""

    serve: Serve
    engine: Engine
    layout: Layout
    checkpoint: Path
    """The checkpoint with its tokenizer."""
    llm_args: Path
    """The engine stage's llm_args.yaml."""
    trust_remote_code: bool = False
    draft: Path | None = None
    """The files of the draft; llm_args.yaml names the directory that they are placed in."""
    kernels: Path | None = None
    """The kernel pack; upstream imports a package in it and hands it to its worker processes."""


def image_of(tensorrt_llm: str) -> str:
    """NVIDIA's image with this TensorRT-LLM and trtllm-serve."""
    return _IMAGE.format(version=tensorrt_llm)


def write_trtllm_serve(directory: Path, inputs: TrtllmServeInputs) -> None:
    """Write all of it into the existing `directory`.

    Raises:
        StoreError: a file cannot be read or written.
    """
    try:
        arguments = _arguments(inputs)
        config = {name: value for name, value in arguments.items() if name not in {*_OPTIONS, _TRUST}}
        link_tree(inputs.checkpoint, directory / _CHECKPOINT / inputs.serve.model_name)
        if inputs.draft is not None:
            link_tree(inputs.draft, directory / DRAFT_DIRECTORY)
        if inputs.kernels is not None:
            link_tree(inputs.kernels, directory / _KERNELS)
        (directory / CONFIG).write_text(yaml.safe_dump(config), encoding="utf-8")
        write_launch_script(
            directory / LAUNCH,
            launch_words(inputs, arguments),
            environment=inputs.engine.environment,
        )
        if inputs.layout.nodes == 1:
            write_launch_script(directory / LAUNCH_CONTAINER, container_words(inputs))
    except OSError as error:
        raise StoreError(
            f"The files of trtllm-serve cannot be written: {error.filename or directory}: "
            f"{error.strerror or error}.",
            hint="Check the free space and the rights of the output directory.",
        ) from error


def launch_words(inputs: TrtllmServeInputs, arguments: dict[str, Any]) -> tuple[str, ...]:
    """trtllm-serve with its options; over several machines below `srun`, a task for each rank."""
    serve = (
        "trtllm-serve",
        f"{_CHECKPOINT}/{inputs.serve.model_name}",
        "--host",
        "127.0.0.1",
        "--port",
        "8000",
        *_options(arguments),
        *(("--custom_module_dirs", f"{_KERNELS}/{_CUSTOM_MODULE}") if inputs.kernels is not None else ()),
        _config_option(inputs.engine.tensorrt_llm),
        CONFIG,
    )
    if inputs.layout.nodes == 1:
        return serve
    ranks = inputs.layout.tp * inputs.layout.pp
    return (
        *srun_words(inputs.layout, ranks=ranks, image=image_of(inputs.engine.tensorrt_llm)),
        f"--container-mounts={HERE}:{_INSIDE}",
        f"--container-workdir={_INSIDE}",
        "trtllm-llmapi-launch",
        *serve,
    )


def container_words(inputs: TrtllmServeInputs) -> tuple[str, ...]:
    """`docker run` of the launch script; the network is the machine's, the server on its loopback only."""
    return (
        "docker",
        "run",
        "--rm",
        "--init",
        "--network=host",
        "--gpus=all",
        "--shm-size=2g",
        "--ulimit=memlock=-1:-1",
        f"--mount=type=bind,source={HERE},target={_INSIDE},readonly",
        "--cap-drop=ALL",
        "--cap-add=DAC_OVERRIDE",  # the server runs as root and must read a user's private files
        "--security-opt=no-new-privileges",
        image_of(inputs.engine.tensorrt_llm),
        f"{_INSIDE}/{LAUNCH}",
    )


def _arguments(inputs: TrtllmServeInputs) -> dict[str, Any]:
    arguments = yaml.safe_load(inputs.llm_args.read_text(encoding="utf-8"))
    return {**arguments, _TRUST: inputs.trust_remote_code}


def _options(arguments: dict[str, Any]) -> tuple[str, ...]:
    given = [(option, arguments[name]) for name, option in _OPTIONS.items() if name in arguments]
    words = [word for option, value in given if value is not None for word in (option, str(value))]
    return (*words, f"--{_TRUST}") if arguments[_TRUST] else tuple(words)


def _config_option(tensorrt_llm: str) -> str:
    version, since = parse_version(tensorrt_llm), parse_version(_CONFIG_SINCE)
    old = version is not None and since is not None and version < since
    return "--extra_llm_api_options" if old else "--config"
