"""The TensorRT plugins' enqueue on a GPU, beside a stand-in for libnvinfer; TensorRT itself is not in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from bwdeploy_kernels.pack import Pack, load_pack
from tests.plugins.tensorrt_stand_in import StandIn, built, load

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(1800)]

OPS = ("add_rmsnorm_quant_fp8", "add_rmsnorm_quant_nvfp4", "silu_mul_quant_fp8", "silu_mul_quant_nvfp4")
ROWS, WIDTH, EPS = 19, 208, 1e-5
KINDS = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@pytest.fixture(scope="module")
def pack(built_pack: Path) -> Pack:
    return load_pack(built_pack, device="cuda", ops=OPS)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> StandIn:
    folder = built(tmp_path_factory.mktemp("tensorrt"))
    if folder is None:
        pytest.skip("neither BWDEPLOY_TEST_TENSORRT nor TENSORRT_ROOT is set")
    return load(folder)


def matrix(width: int, kind: str) -> torch.Tensor:
    return torch.randn(ROWS, width, device="cuda").mul(3).to(KINDS[kind])


def enqueued(
    host: StandIn,
    creator: str,
    fields: Mapping[str, float],
    inputs: list[torch.Tensor],
    like: list[torch.Tensor],
) -> list[torch.Tensor]:
    """Outputs like `like` of a plugin as an engine holds it."""
    plugin = host.create(creator, fields)
    assert plugin is not None
    outputs = [torch.empty_like(tensor).view(torch.uint8).fill_(0xA5).view(tensor.dtype) for tensor in like]
    kind = str(inputs[0].dtype).removeprefix("torch.")
    torch.cuda.synchronize()
    addresses = ([tensor.data_ptr() for tensor in some] for some in (inputs, outputs))
    assert plugin.revived().enqueue(kind, tuple(inputs[0].shape), *addresses) == 0, host.log()
    torch.cuda.synchronize()
    return outputs


def same(got: list[torch.Tensor], wanted: list[torch.Tensor]) -> bool:
    return all(
        torch.equal(a.view(torch.uint8), b.view(torch.uint8)) for a, b in zip(got, wanted, strict=True)
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gate_first", [0, 1])
def test_silu_plugins_write_what_the_torch_ops_write(
    kind: str, gate_first: int, pack: Pack, host: StandIn
) -> None:
    fused, scale = matrix(2 * WIDTH, kind), torch.tensor([0.0123], device="cuda")
    gate, up = fused[:, :WIDTH], fused[:, WIDTH:]
    halves = (gate, up) if gate_first else (up, gate)
    ops: Any = torch.ops.bwdeploy
    fields = {"gate_first": gate_first}
    out, _ = ops.silu_mul_quant_fp8(*halves, scale)
    assert same(enqueued(host, "SiluMulQuantFp8", fields, [fused, scale], [out]), [out])
    wanted = list(ops.silu_mul_quant_fp8(*halves, None))
    got = enqueued(host, "SiluMulQuantFp8", {"per_token": 1, **fields}, [fused], wanted)
    assert same(got, wanted)
    for swizzled in (0, 1):
        wanted = list(ops.silu_mul_quant_nvfp4(*halves, scale, swizzled=bool(swizzled)))
        got = enqueued(host, "SiluMulQuantNvfp4", {"swizzled": swizzled, **fields}, [fused, scale], wanted)
        assert same(got, wanted)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("eager", [0, 1])
def test_norm_plugins_write_what_the_torch_ops_write(
    kind: str, eager: int, pack: Pack, host: StandIn
) -> None:
    x, residual, scale = matrix(WIDTH, kind), matrix(WIDTH, kind), torch.tensor([0.0123], device="cuda")
    weight = matrix(WIDTH, kind)[0]
    tensors = [x, residual, weight]
    ops: Any = torch.ops.bwdeploy
    options = {"eager_rounding": bool(eager), "return_normed": True}
    fields = {"eps": EPS, "eager_rounding": eager, "return_normed": 1}
    out, new, _, normed = ops.add_rmsnorm_quant_fp8(*tensors, scale, EPS, **options)
    wanted = [out, new, normed]
    assert same(enqueued(host, "AddRmsnormQuantFp8", fields, [*tensors, scale], wanted), wanted)
    wanted = list(ops.add_rmsnorm_quant_fp8(*tensors, None, EPS, **options))
    got = enqueued(host, "AddRmsnormQuantFp8", {"per_token": 1, **fields}, tensors, wanted)
    assert same(got, wanted)
    for swizzled in (0, 1):
        out, scales, new, normed = ops.add_rmsnorm_quant_nvfp4(
            *tensors, scale, EPS, swizzled=bool(swizzled), **options
        )
        wanted = [out, new, scales, normed]
        got = enqueued(
            host, "AddRmsnormQuantNvfp4", {"swizzled": swizzled, **fields}, [*tensors, scale], wanted
        )
        assert same(got, wanted)
