"""What a compiled library registers, seen without a GPU: `pytest -m kernels`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernel_pack.packs import NORM_FP8

PROJECT = Path(__file__).parents[2]
# In a process of its own: an op can be registered once, and other tests have its reference registered alone.
LOOK = """
import json, sys
from pathlib import Path
import torch
from torch.library import opcheck
from bwdeploy_kernels.manifest import read_manifest
from bwdeploy_kernels.registration import register

pack = Path(sys.argv[1])
(op,) = read_manifest(pack).ops
references = register(op, pack, "cuda")
x, weight, scale = torch.randn(3, 32).bfloat16(), torch.ones(32).bfloat16(), torch.tensor([0.1])
answers = {}
for name in references:
    function = getattr(torch.ops.bwdeploy, name).default
    for given in (scale, None):
        checks = opcheck(function, (x, x.clone(), weight, given, 1e-5), {"eager_rounding": True})
        answers[f"{name} {'static' if given is not None else 'per row'}"] = sorted(set(checks.values()))
has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
answers["on cuda"] = [has_kernel(f"bwdeploy::{name}", "CUDA") for name in references]
print(json.dumps(answers))
"""


@pytest.mark.kernels
def test_compiled_library_registers_cuda_kernels_with_the_schemas_of_the_manifest(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "bwdeploy", "kernels", "build", NORM_FP8, "--arch", "sm_90a"]
    subprocess.run([*build, str(tmp_path / "pack")], check=True, cwd=PROJECT)
    environment = os.environ | {"PYTHONPATH": str(PROJECT / "triton_repo")}
    look = [sys.executable, "-c", LOOK, str(tmp_path / "pack")]
    answer = subprocess.run(look, check=True, env=environment, capture_output=True, text=True)
    assert json.loads(answer.stdout) == {
        f"{NORM_FP8} static": ["SUCCESS"],
        f"{NORM_FP8} per row": ["SUCCESS"],
        f"{NORM_FP8}_ static": ["SUCCESS"],
        f"{NORM_FP8}_ per row": ["SUCCESS"],
        "on cuda": [True, True],
    }
