"""Inputs of the all-reduce ops and what must hold of their outputs, for checks that run on each rank."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.distributed as dist

from bwdeploy_kernels.rounding import quantize_e4m3, quantize_nvfp4, swizzle, token_scales

if TYPE_CHECKING:
    from tests.gpu.kernels.ranks import Rank

EPS = 1e-6
Mode = Literal["static", "per_token", "linear", "swizzled"]
Filling = Literal["random", "bits", "large", "zeros"]
MODES: tuple[Mode, ...] = ("static", "per_token", "linear", "swizzled")
POISON = 0xA5


@dataclass(frozen=True, kw_only=True)
class Case:
    rows: int
    hidden: int = 7168
    mode: Mode = "static"
    dtype: torch.dtype = torch.bfloat16
    eager_rounding: bool = False
    strided: bool = False
    filling: Filling = "random"
    seed: int = 0

    @property
    def op(self) -> str:
        return "allreduce_add_rmsnorm_quant_" + ("fp8" if self.mode in {"static", "per_token"} else "nvfp4")


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """`parts` holds x of every rank: each rank can make all of them, as they follow from the seed."""

    parts: list[torch.Tensor]
    residual: torch.Tensor
    weight: torch.Tensor
    scale: torch.Tensor | None


def make_inputs(case: Case, rank: Rank) -> Inputs:
    generator = torch.Generator(rank.device).manual_seed(case.seed * 1000 + case.rows + case.hidden)
    parts = [_rows(case, generator, rank.device) for _ in range(rank.world_size)]
    residual = _rows(case, generator, rank.device)
    generator.manual_seed(case.hidden)  # one weight for all seeds
    weight = torch.rand(case.hidden, generator=generator, device=rank.device).add(0.5).to(case.dtype)
    given = None if case.mode == "per_token" else torch.tensor([0.02], device=rank.device)
    return Inputs(parts=parts, residual=residual, weight=weight, scale=given)


def _rows(case: Case, generator: torch.Generator, device: torch.device) -> torch.Tensor:
    width = case.hidden + (24 if case.strided else 0)
    shape = (case.rows, width)
    if case.filling == "bits":  # every pattern: NaN, Inf, -0, subnormals, and pairs of 0xffff
        bits = torch.randint(0, 2**16, shape, generator=generator, device=device, dtype=torch.int32)
        bits[:, : case.hidden // 4] = 0xFFFF  # what an empty slot of the peer memory holds
        values = bits.to(torch.int16).view(case.dtype)
    else:
        scale = {"random": 1.0, "large": 1000.0, "zeros": 0.0}[case.filling]
        values = (torch.randn(shape, generator=generator, device=device) * scale).to(case.dtype)
        values[:, ::7] = -0.0
    return values[:, : case.hidden]


def call(
    case: Case, inputs: Inputs, rank: Rank, peers: int, *, x: torch.Tensor | None = None, **options: Any
) -> Any:
    """Outputs by name, from the op."""
    given = inputs.parts[rank.number] if x is None else x
    _poison(case, rank)
    arguments = (given, inputs.residual, inputs.weight, inputs.scale, EPS, peers)
    options |= {"eager_rounding": case.eager_rounding, "return_normed": True}
    return _named(case, getattr(torch.ops.bwdeploy, case.op)(*arguments, **_with_layout(case, options)))


def reference(case: Case, inputs: Inputs, rank: Rank, peers: int) -> dict[str, torch.Tensor]:
    arguments = (inputs.parts[rank.number], inputs.residual, inputs.weight, inputs.scale, EPS, peers)
    options = {"eager_rounding": case.eager_rounding, "return_normed": True}
    return _named(case, rank.reference(case.op)(*arguments, **_with_layout(case, options)))


def _with_layout(case: Case, options: dict[str, Any]) -> dict[str, Any]:
    return (
        options if case.mode in {"static", "per_token"} else {**options, "swizzled": case.mode == "swizzled"}
    )


def _named(case: Case, outputs: Any) -> dict[str, torch.Tensor]:
    fp8 = ("out", "residual_out", "scales", "normed")
    nvfp4 = ("out", "scales", "residual_out", "normed")
    return dict(zip(fp8 if case.mode in {"static", "per_token"} else nvfp4, outputs, strict=True))


def _poison(case: Case, rank: Rank) -> None:
    """Leave blocks full of a pattern, as large as the outputs, to the allocator: it hands them out again."""
    elements = max(case.rows * case.hidden, 1)
    blocks = [
        torch.full((size,), POISON, dtype=torch.uint8, device=rank.device)
        for size in (
            elements // 2,
            elements,
            2 * elements,
            2 * elements,
            elements // 16 + 65536,
            4 * case.rows + 4,
        )
    ]
    del blocks


def assert_right(
    case: Case, inputs: Inputs, outputs: dict[str, torch.Tensor], rank: Rank, peers: int
) -> None:
    """The new residual, codes and scales to the bit, the norm within a step, all of it equal on all ranks."""
    wanted = reference(case, inputs, rank, peers)
    assert same_numbers(outputs["residual_out"], wanted["residual_out"]), f"{case}: residual_out"
    _assert_a_step_apart(case, outputs["normed"], wanted["normed"])
    codes, scales = quantized(case, outputs["normed"], inputs.scale)
    assert same_numbers(outputs["out"], codes), f"{case}: out is not the quantized normed"
    assert same_numbers(outputs["scales"], scales), f"{case}: scales"
    for name, output in outputs.items():
        assert_same_on_all_ranks(output, f"{case}: {name}")


def quantized(
    case: Case, normed: torch.Tensor, given: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes and scales of what the op normalized."""
    if case.mode == "per_token":
        scales = token_scales(normed)
        return quantize_e4m3(normed, scales.unsqueeze(-1)), scales
    assert given is not None
    if case.mode == "static":
        return quantize_e4m3(normed, given), given[:0]
    codes, scales = quantize_nvfp4(normed, given)
    return codes, swizzle(scales) if case.mode == "swizzled" else scales


def same_numbers(got: torch.Tensor, wanted: torch.Tensor) -> bool:
    """Bit for bit, but any NaN for any other."""
    if got.shape != wanted.shape or got.dtype != wanted.dtype:
        return False
    integers = {1: torch.uint8, 2: torch.int16, 4: torch.int32}[got.element_size()]
    same = got.contiguous().view(integers) == wanted.contiguous().view(integers)
    if got.dtype.is_floating_point:
        same |= got.float().isnan() & wanted.float().isnan()
    return bool(same.all())


def _assert_a_step_apart(case: Case, got: torch.Tensor, wanted: torch.Tensor) -> None:
    """The sum of squares is added in another order, and weight and rstd may be multiplied in another."""
    steps = {torch.bfloat16: 2.0**-7, torch.float16: 2.0**-10}
    got, wanted = got.double(), wanted.double()
    allowed = wanted.abs() * steps[case.dtype] * (2 if case.eager_rounding else 1) + 1e-7
    off = ~((got - wanted).abs() <= allowed) & ~(got.isnan() & wanted.isnan()) & (got != wanted)
    assert not off.any(), f"{case}: normed: {int(off.sum())} off, first at {off.nonzero()[0].tolist()}"


def assert_same_on_all_ranks(output: torch.Tensor, what: str) -> None:
    mine = output.contiguous().view(torch.uint8)
    mine = mine if dist.get_backend() == "nccl" else mine.cpu()
    theirs = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(theirs, mine)
    assert all(torch.equal(mine, other) for other in theirs), f"{what} differs between ranks"
