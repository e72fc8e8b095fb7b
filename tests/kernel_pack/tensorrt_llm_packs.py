"""Packs and checkpoints for the stand-in of TensorRT-LLM."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import bwdeploy_kernels
from tests.kernel_pack.packs import write_pack

STAND_IN = Path(__file__).parent / "stand_in_tensorrt_llm"


def write_whole_pack(directory: Path, ops: tuple[str, ...]) -> Path:
    """A pack with its own copy of bwdeploy_kernels, as the builder writes it."""
    write_pack(directory, ops)
    package = Path(bwdeploy_kernels.__file__).parent
    shutil.copytree(
        package, directory / package.name, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True
    )
    return directory


def write_checkpoint(
    directory: Path, *, architecture: str = "LlamaForCausalLM", quant: str | None = "fp8"
) -> Path:
    """What the stand-in's model loader reads."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps({"architecture": architecture, "quant": quant}))
    return directory
