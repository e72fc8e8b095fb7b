"""The quantizers of plugins/common on the GPU, on every bf16 and fp16 value, against those in torch."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import pytest
import torch

from bwdeploy_kernels.rounding import quantize_e4m3, quantize_nvfp4

pytestmark = pytest.mark.gpu

PLUGINS = Path(__file__).parents[3] / "plugins"
TYPES = (torch.bfloat16, torch.float16)
SCALES = (1.0, 2.7e-3, 0.37, 3e-30, 1e-44, 1e30)


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    major, minor = torch.cuda.get_device_capability()
    target = f"{major}{minor}a"
    library = tmp_path_factory.mktemp("rounding") / "rounding.so"
    source = Path(__file__).with_name("rounding_kernels.cu")
    command = [
        "nvcc",
        "-O3",
        "-std=c++17",
        f"-gencode=arch=compute_{target},code=sm_{target}",
        f"-I{PLUGINS}",
    ]
    subprocess.run([*command, "-shared", "-Xcompiler", "-fPIC", "-o", library, source], check=True)
    loaded = ctypes.CDLL(str(library))
    loaded.quantize_row.argtypes = [ctypes.c_void_p] * 4 + [ctypes.c_int] * 3
    loaded.different_reciprocals.argtypes = [ctypes.c_int, ctypes.c_void_p]
    return loaded


def every_value(dtype: torch.dtype, *, shuffled: bool) -> torch.Tensor:
    """All 65,536 bit patterns as one row: near ones in a block of 16, or any."""
    values = torch.arange(65536, dtype=torch.int32, device="cuda").to(torch.int16).view(dtype)
    if shuffled:
        return values[torch.randperm(65536, device="cuda", generator=torch.Generator("cuda").manual_seed(7))]
    return values[values.float().abs().nan_to_num(float("inf")).argsort()]


@pytest.mark.parametrize("order", ["sorted", "shuffled"])
@pytest.mark.parametrize("dtype", TYPES)
def test_every_value_rounds_as_in_torch(dtype: torch.dtype, order: str, kernels: ctypes.CDLL) -> None:
    values = every_value(dtype, shuffled=order == "shuffled")
    bf16 = int(dtype is torch.bfloat16)
    for scale in SCALES:
        given = torch.tensor([scale], device="cuda")
        codes = torch.full((65536,), 0xA5, dtype=torch.uint8, device="cuda")
        scales = torch.full((4096,), 0xA5, dtype=torch.uint8, device="cuda")
        pointers = (values.data_ptr(), codes.data_ptr(), scales.data_ptr(), given.data_ptr())
        assert kernels.quantize_row(*pointers, 65536, bf16, 0) == 0
        wanted = quantize_e4m3(values, given)
        nan = wanted.float().isnan()
        assert torch.equal(codes[~nan], wanted.view(torch.uint8)[~nan])
        assert torch.equal(codes.view(torch.float8_e4m3fn).float().isnan(), nan)

        assert kernels.quantize_row(*pointers, 65536, bf16, 1) == 0
        packed, block_scales = quantize_nvfp4(values.unsqueeze(0), given)
        assert torch.equal(codes[:32768], packed[0])
        unusable = block_scales[0].float().isnan()
        assert torch.equal(scales[~unusable], block_scales[0].view(torch.uint8)[~unusable])
        assert torch.equal(scales.view(torch.float8_e4m3fn).float().isnan(), unusable)


@pytest.mark.parametrize("exponent", [-59, -1, 0, 1, 59])
def test_reciprocals_of_divisors_are_correctly_rounded(exponent: int, kernels: ctypes.CDLL) -> None:
    different = torch.zeros(1, dtype=torch.int32, device="cuda")
    assert kernels.different_reciprocals(exponent, different.data_ptr()) == 0
    assert int(different) == 0
