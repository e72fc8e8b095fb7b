"""Inputs of the add_rmsnorm_quant ops, and what their outputs are held against."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from bwdeploy_kernels.rounding import quantize_e4m3, quantize_nvfp4, swizzled_shape, token_scales, unswizzle

EPS = 1e-6
ROWS = (1, 19, 111, 989)
HIDDEN = (16, 80, 1008, 2048, 4976, 5120, 7168, 16384, 20480)
TYPES = (torch.bfloat16, torch.float16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Norm:
    """Arguments of one call, on the GPU."""

    x: torch.Tensor
    residual: torch.Tensor
    weight: torch.Tensor

    @property
    def tensors(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """In the order of the ops' arguments."""
        return self.x, self.residual, self.weight


def norm_case(
    rows: int, hidden: int, dtype: torch.dtype, *, gap: int = 0, magnitude: float = 1.0, device: str = "cuda"
) -> Norm:
    """Random tensors; with `gap`, rows that many elements farther apart."""
    generator = torch.Generator(device).manual_seed(rows * 65536 + hidden)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, device=device)

    x, residual = ((draw(rows, hidden + gap) * magnitude).to(dtype)[:, :hidden] for _ in range(2))
    return Norm(x=x, residual=residual, weight=(draw(hidden) * 0.3 + 1).to(dtype))


def exact_norm(residual_out: torch.Tensor, weight: torch.Tensor, *, eager: bool) -> torch.Tensor:
    """The norm in float64, rounded as the op rounds."""
    wide = residual_out.double()
    scaled = wide * (wide.pow(2).mean(-1, keepdim=True) + EPS).rsqrt()
    if eager:
        return (scaled.to(weight.dtype).double() * weight.double()).to(weight.dtype)
    return (scaled * weight.double()).to(weight.dtype)


def assert_normed(
    normed: torch.Tensor, residual_out: torch.Tensor, weight: torch.Tensor, *, eager: bool
) -> None:
    """Within a rounding of the exact norm, and nearly always equal to it.

    Float32 sums and rsqrt may land on the other side of a rounding boundary: by one step, or with two
    roundings by two, since a weight below 1 makes a step of its product wider.
    """
    wanted = exact_norm(residual_out, weight, eager=eager)
    steps = (_ordinal(normed) - _ordinal(wanted)).abs()
    assert int(steps.max()) <= (2 if eager else 1)
    assert float((steps > 0).float().mean()) < 2e-3 or normed.numel() < 1000


def assert_fp8(
    out: torch.Tensor, scales: torch.Tensor, normed: torch.Tensor, given: torch.Tensor | None
) -> None:
    """Bytes and token scales, bit for bit those of the float32 formulas on the op's own normed values."""
    if given is None:
        assert same_bits(scales, token_scales(normed))
    wanted = quantize_e4m3(normed, scales.unsqueeze(-1) if given is None else given)
    nan = wanted.float().isnan()
    assert torch.equal(out.float().isnan(), nan)
    assert torch.equal(out.view(torch.uint8)[~nan], wanted.view(torch.uint8)[~nan])


def assert_nvfp4(
    out: torch.Tensor, scales: torch.Tensor, normed: torch.Tensor, given: torch.Tensor, *, swizzled: bool
) -> None:
    """Codes and block scales likewise; padding of swizzled scales zero."""
    rows, hidden = normed.shape
    codes, linear = quantize_nvfp4(normed, given)
    assert torch.equal(out, codes)
    if swizzled:
        assert scales.shape == swizzled_shape(rows, hidden)
        everything = unswizzle(scales, *scales.shape).view(torch.uint8)
        assert int(everything[rows:].sum()) == 0
        assert int(everything[:, hidden // 16 :].sum()) == 0
        scales = unswizzle(scales, rows, hidden // 16)
    nan = linear.float().isnan()
    assert torch.equal(scales.float().isnan(), nan)
    assert torch.equal(scales.view(torch.uint8)[~nan], linear.view(torch.uint8)[~nan])


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Equal, NaN equal to NaN."""
    return bool(((one == other) | (one.isnan() & other.isnan())).all())


def _ordinal(values: torch.Tensor) -> torch.Tensor:
    """Integers that count the representable values, so that neighbors differ by one."""
    bits = values.contiguous().view(torch.int16).int()
    return torch.where(bits < 0, -(bits & 0x7FFF), bits)
