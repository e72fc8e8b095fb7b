"""What the references of the all-reduce ops compute, on ranks that gloo connects."""

from __future__ import annotations

import itertools
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from bwdeploy_kernels.pack import load_pack
from bwdeploy_kernels.peers import PeerError, open_peers
from bwdeploy_kernels.rounding import quantize_e4m3, quantize_nvfp4, swizzle, token_scales
from tests.kernel_pack.packs import write_pack
from tests.plugins.reference_files import load_reference

OP = "allreduce_add_rmsnorm_quant"
EPS = 1e-6
CPU = torch.device("cpu")

_REFERENCE = load_reference(OP)


def test_ranks_are_added_in_order_in_float32_and_rounded_once() -> None:
    parts = [torch.tensor([value], dtype=torch.bfloat16) for value in (2.0**24, 1.0, -(2.0**24), 0.25)]
    assert _REFERENCE.sum_of_ranks(parts).tolist() == [0.25]  # 2^24 + 1 is 2^24 in float32
    assert _REFERENCE.sum_of_ranks([parts[i] for i in (0, 2, 1, 3)]).tolist() == [1.25]
    close = [torch.tensor([value], dtype=torch.bfloat16) for value in (1.0, 2.0**-8, 2.0**-8, 2.0**-9)]
    # rounded after each addition, bf16 would stay at 1
    assert _REFERENCE.sum_of_ranks(close).tolist() == [1 + 2.0**-7]


def test_sum_of_negative_zeros_stays_negative() -> None:
    zeros = [torch.tensor([-0.0], dtype=torch.float16)] * 2
    assert torch.signbit(_REFERENCE.sum_of_ranks(zeros)).all()


def test_two_ranks_get_the_same_sum_normed_and_quantized(tmp_path: Path) -> None:
    pack = write_pack(tmp_path / "pack", (OP,))
    spawn(_two_ranks, args=(pack, _free_port()), nprocs=2)


def _two_ranks(rank: int, pack: Path, port: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    load_pack(pack, device="cpu", ops=(OP,))
    with open_peers(hidden=80, rows=128, device=CPU) as group:
        for rows, dtype in itertools.product((0, 1, 19), (torch.bfloat16, torch.float16, torch.float32)):
            _check_formula(rank, group.handle, rows, dtype)
        other = open_peers(hidden=16, rows=128, device=CPU)
        assert other.handle != group.handle
        other.close()
        _check_formula(rank, group.handle, 2, torch.bfloat16)
        with pytest.raises(PeerError, match=f"peers: got {other.handle}, wanted the handle of an open group"):
            _call("fp8", torch.zeros(1, 16), torch.zeros(1, 16), torch.ones(16), None, other.handle)
    with pytest.raises(PeerError, match=r"hidden: got \[80, 88\] by rank, wanted the same on all"):
        open_peers(hidden=80 + 8 * rank, device=CPU)
    dist.destroy_process_group()


def _check_formula(rank: int, peers: int, rows: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(rows)
    parts = [torch.randn(rows, 80, generator=generator).to(dtype) for _ in range(2)]
    residual = torch.randn(rows, 80, generator=generator).to(dtype)
    weight, scale = torch.rand(80, generator=generator).add(0.5).to(dtype), torch.tensor([0.02])
    wanted = (parts[0].float() + parts[1].float()).to(dtype) + residual

    def call(name: str, given: torch.Tensor | None, **options: Any) -> Any:
        return _call(name, parts[rank], residual, weight, given, peers, return_normed=True, **options)

    out, residual_out, scale_out, normed = call("fp8", scale)
    assert torch.equal(residual_out, wanted)
    assert torch.allclose(normed.float(), _norm(wanted, weight), rtol=2.0**-7, atol=1e-6)
    assert _bytes(out) == _bytes(quantize_e4m3(normed, scale))
    assert scale_out.shape == (0,)

    out, _, scale_out, normed = call("fp8", None, eager_rounding=True)
    assert torch.equal(scale_out, token_scales(normed))
    assert _bytes(out) == _bytes(quantize_e4m3(normed, scale_out.unsqueeze(-1)))

    packed, scales, residual_out, normed = call("nvfp4", scale)
    linear = call("nvfp4", scale, swizzled=False)[1]
    assert torch.equal(residual_out, wanted)
    assert _bytes(packed) == _bytes(quantize_nvfp4(normed, scale)[0])
    assert _bytes(linear) == _bytes(quantize_nvfp4(normed, scale)[1])
    assert _bytes(scales) == _bytes(swizzle(linear))


def _call(name: str, *arguments: Any, **options: Any) -> Any:
    """The op on the CPU; its meta function tells the same shapes and types."""
    x, residual, weight, given, peers = arguments
    arguments = (x, residual, weight, given, EPS, peers)
    outputs = getattr(torch.ops.bwdeploy, f"{OP}_{name}")(*arguments, **options)
    told = getattr(_REFERENCE, f"{OP}_{name}_meta")(*arguments, **options)
    assert [(t.shape, t.dtype) for t in outputs] == [(t.shape, t.dtype) for t in told]
    return outputs


def _norm(values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    exact = values.double()
    exact = exact * (exact.pow(2).mean(-1, keepdim=True) + EPS).rsqrt()
    return (exact * weight.double()).float()


def _bytes(tensor: torch.Tensor) -> bytes:
    return bytes(tensor.contiguous().view(torch.uint8).flatten().tolist())


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
