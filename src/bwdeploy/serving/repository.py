"""Write the Triton model repository: one model directory that runs by itself.

    <model_name>/config.pbtxt
    <model_name>/1/model.py, bwdeploy_runtime/    copied byte for byte
    <model_name>/1/engine.json                    the runtime's configuration
    <model_name>/1/checkpoint/                    hard links to the quantized checkpoint
    <model_name>/1/llm_args.yaml                  for the runtime tensorrt_llm
    <model_name>/1/draft/                         hard links to the draft, if there is one
    <model_name>/1/kernels/                       hard links to the kernel pack, if kernels are named

It reads no weights and starts nothing.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import bwdeploy_runtime
from bwdeploy.errors import StoreError
from bwdeploy.facts.speculation import DRAFT_DIRECTORY
from bwdeploy.pipeline.trees import link_or_copy, link_tree
from bwdeploy.serving.model_config import build_model_config, refusals, to_pbtxt
from bwdeploy_runtime.config import EngineConfig

if TYPE_CHECKING:
    from bwdeploy.recipe.schema import Engine, Serve

Runtime = Literal["reference", "tensorrt_llm", "echo"]

_VERSION: Final = "1"
_CHECKPOINT: Final = "checkpoint"
_LLM_ARGS: Final = "llm_args.yaml"
_KERNELS: Final = "kernels"


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryInputs:
    """What a repository is written from."""

    serve: Serve
    engine: Engine
    checkpoint: Path | None
    """The quantized checkpoint with its tokenizer; None for the echo runtime only."""
    llm_args: Path | None
    """The engine stage's llm_args.yaml; None when the runtime needs none."""
    draft: Path | None = None
    """The files of the draft; llm_args.yaml names the directory that they are placed in."""
    kernels: Path | None = None
    """The kernel pack."""
    kernel_ops: tuple[str, ...] = ()
    """The ops of the pack that the model runs with; none without a pack."""
    trust_remote_code: bool = False
    runtime: Runtime | None = None
    """In place of the recipe's."""


def write_repository(directory: Path, inputs: RepositoryInputs) -> Path:
    """Write the model directory into the existing `directory` and return it.

    Raises:
        StoreError: a file cannot be read or written.
    """
    config = engine_config(inputs)
    model = directory / inputs.serve.model_name
    version = model / _VERSION
    try:
        version.mkdir(parents=True)
        (model / "config.pbtxt").write_text(_config_pbtxt(inputs.serve), encoding="utf-8")
        (version / "engine.json").write_text(config.to_json(), encoding="utf-8")
        _copy_runtime(version)
        if inputs.checkpoint is not None:
            link_tree(inputs.checkpoint, version / _CHECKPOINT)
        if inputs.llm_args is not None:
            link_or_copy(inputs.llm_args, version / _LLM_ARGS)
        if inputs.draft is not None:
            link_tree(inputs.draft, version / DRAFT_DIRECTORY)
        if inputs.kernels is not None:
            link_tree(inputs.kernels, version / _KERNELS)
    except OSError as error:
        raise StoreError(
            f"The model repository cannot be written: {error.filename or model}: {error.strerror or error}.",
            hint="Check the free space and the rights of the output directory.",
        ) from error
    return model


def engine_config(inputs: RepositoryInputs) -> EngineConfig:
    """The runtime's configuration that follows from the recipe's `serve` and `engine` sections."""
    serve = inputs.serve
    runtime = inputs.runtime or serve.runtime
    return EngineConfig(
        runtime=runtime,
        checkpoint=_CHECKPOINT,
        llm_args=_LLM_ARGS if runtime == "tensorrt_llm" else None,
        kernels=_KERNELS if inputs.kernels is not None else None,
        kernel_ops=inputs.kernel_ops,
        environment=inputs.engine.environment if runtime == "tensorrt_llm" else {},
        streaming=serve.streaming,
        chat_template=serve.chat_template,
        cumulative_text=serve.cumulative_text,
        flush_tokens=serve.flush_tokens,
        flush_interval_ms=serve.flush_interval_ms,
        max_running=serve.max_running,
        max_queued=serve.max_queued,
        max_output_tokens=serve.max_output_tokens,
        max_seq_len=inputs.engine.max_seq_len,
        cancellation_check_period_ms=serve.cancellation_check_period_ms,
        startup_timeout_s=serve.startup_timeout_s,
        stall_timeout_s=serve.stall_timeout_s,
        trust_remote_code=inputs.trust_remote_code,
    )


def _config_pbtxt(serve: Serve) -> str:
    config = build_model_config(serve.model_name, decoupled=serve.streaming)
    problems = refusals(config, directory_name=serve.model_name)
    if problems:
        raise ValueError(f"bwdeploy built a config.pbtxt that Triton refuses: {'; '.join(problems)}")
    return to_pbtxt(config)


def _copy_runtime(version: Path) -> None:
    package = Path(bwdeploy_runtime.__file__).parent
    shutil.copyfile(package / "model.py", version / "model.py")
    for source in sorted(package.rglob("*")):
        relative = source.relative_to(package)
        if source.is_dir() or "__pycache__" in relative.parts or relative == Path("model.py"):
            continue
        target = version / "bwdeploy_runtime" / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
