"""A place whose recipe builds for either backend, with a stand-in for trtllm-build on PATH."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.place import Place
from tests.worker.tiny_llama import make_tiny_llama

PROGRAM = Path(__file__).parent / "tools" / "stand_in_trtllm_build.py"
RECIPE = """\
schema: 1
name: tiny
model:
  source: file://model
quantize:
  format: fp8
  kv_cache: fp8
  calibration: {samples: 2, seq_len: 16}
engine:
  backend: pytorch
  max_batch_size: 2
  max_num_tokens: 64
  max_seq_len: 64
  build_flags: {gemm_plugin: fp8, reduce_fusion: enable}
layout: {tp: 2, gpus_per_node: 2}
gate:
  evaluation: {samples: 2, seq_len: 16}
"""
ENGINE = "engine.backend=tensorrt"
"""For `--set`: the one word that switches."""


def make_engine_place(root: Path) -> Place:
    """The place, with nothing built."""
    make_tiny_llama(root / "model")
    programs = root / "bin"
    programs.mkdir()
    program = programs / "trtllm-build"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {PROGRAM} "$@"\n')
    program.chmod(0o755)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    return Place(root, RECIPE, environment={"PATH": path, "STAND_IN_GPUS": "2"})
