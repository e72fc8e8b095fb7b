"""Parts of the benchmark that need no GPU: statistics, the baselines' formulas, who compiles them."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
import torch

from bwdeploy.tools import nvidia_smi
from bwdeploy.tools.python_children import Child, run_children
from bwdeploy.worker.kernels import formulas
from bwdeploy.worker.kernels.points import VARIANTS
from bwdeploy.worker.kernels.timing import summary
from bwdeploy.worker.kernels.warm import shares
from bwdeploy_kernels.rounding import quantize_e4m3, quantize_nvfp4


def test_a_summary_is_median_and_the_tenth_of_samples_from_either_end() -> None:
    assert summary([float(value) for value in range(25, 0, -1)]) == (13, 3, 23)
    assert summary([2.0]) == (2, 2, 2)


def test_the_baselines_compute_what_the_ops_compute() -> None:
    values = torch.randn(7, 64, generator=torch.Generator().manual_seed(1))
    scale = torch.tensor([0.013])
    fp8 = formulas.quantize_fp8(values, scale)
    assert torch.equal(fp8.view(torch.uint8), quantize_e4m3(values, scale).view(torch.uint8))
    packed, scales = formulas.quantize_nvfp4(values, scale)
    wanted_packed, wanted_scales = quantize_nvfp4(values, scale)
    assert torch.equal(packed, wanted_packed)
    assert torch.equal(scales.view(torch.uint8), wanted_scales.view(torch.uint8))


def test_every_formula_is_compiled_by_exactly_one_child() -> None:
    every = shares(tuple(VARIANTS))
    assert len(every) == len(set(every)) == 4 * 5 * 3 + 3 * 5 * 3
    assert {variant for _, variant in every} == {"fp8 static", "fp8 dynamic", "nvfp4 linear"}


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module that does what its argument says."""
    (tmp_path / "a_child.py").write_text(
        "import sys, time\n"
        "match sys.argv[1]:\n"
        "    case 'fail': print('first'); sys.exit('no compiler')\n"
        "    case 'hang': time.sleep(60)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert sys.executable
    return "a_child"


def test_children_that_fail_or_hang_are_named_with_the_reason(module: str) -> None:
    children = [Child(name=name, module=module, arguments=(name,)) for name in ("work", "fail", "hang")]
    began = time.monotonic()
    assert run_children(children, timeout_s=1.5) == {"fail": "no compiler", "hang": "not ready after 2 s"}
    assert time.monotonic() - began < 10


def test_a_machine_without_nvidia_smi_has_no_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert nvidia_smi.gpu_state("GPU-0") == {}


def test_the_state_of_a_gpu_is_read_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho '580.1, 1980 MHz, 1980 MHz, 2619 MHz, 427.52 W, 41'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    state = nvidia_smi.gpu_state("GPU-0")
    assert (state["driver"], state["sm_clock"], state["memory_clock"]) == ("580.1", "1980 MHz", "2619 MHz")
