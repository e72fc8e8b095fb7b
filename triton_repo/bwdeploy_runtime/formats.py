"""The number formats of a quantized checkpoint: rounding, unpacking and scales, as pure tensor functions.

Everything here computes in float32, knows nothing of files, modules or models, and needs only torch, so
that the served model, the audit and the tests share one definition. Layouts are those of ModelOpt's unified
Hugging Face export: two E2M1 codes a byte with the even column in the low nibble, block scales in plain
row-major order (neither swizzled nor padded).
"""

from __future__ import annotations

from functools import cache
from typing import Literal, cast

import torch
from torch import Tensor
from torch.nn import functional

E2M1_MAX = 6.0
_E2M1_STEPS = ((2.0, 1.0), (4.0, 2.0))
"""From these magnitudes on, values lie this far apart; below, 0.5."""
E4M3_MAX = 448.0
E4M3_SMALLEST = 2.0**-9
E4M3_SMALLEST_ROW_SCALE = 1.0 / (E4M3_MAX * 512)
NVFP4_GROUP = 16
MX_GROUP = 32
E8M0_BIAS = 127

Activation = Literal["none", "nvfp4", "fp8", "fp8_token", "mxfp4", "mxfp8"]
"""How the input of a quantized linear layer is rounded."""


def round_to_e2m1(values: Tensor) -> Tensor:
    """Round to the nearest E2M1 value (±0, 0.5, 1, 1.5, 2, 3, 4, 6), ties to even, saturating at 6."""
    magnitude = values.abs()
    step = torch.full_like(magnitude, 0.5)
    for start, wider in _E2M1_STEPS:
        step.masked_fill_(magnitude >= start, wider)
    return (values / step).round_().mul_(step).clamp_(-E2M1_MAX, E2M1_MAX)


def round_to_e4m3(values: Tensor) -> Tensor:
    """Round to the nearest E4M3 value, saturating at 448."""
    return values.clamp(-E4M3_MAX, E4M3_MAX).to(torch.float8_e4m3fn).to(torch.float32)


def decode_e8m0(scale: Tensor) -> Tensor:
    """Powers of two from their stored bytes (uint8, bias 127)."""
    return torch.exp2(scale.to(torch.float32) - E8M0_BIAS)


@cache
def _e2m1_pairs(device: torch.device) -> Tensor:
    """The two values of each of the 256 bytes, low nibble first: [256, 2]."""
    magnitudes = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]
    codes = torch.tensor([*magnitudes, *(-value for value in magnitudes)], device=device)
    byte = torch.arange(256, device=device)
    return torch.stack((codes[byte & 15], codes[byte >> 4]), dim=1)


def unpack_e2m1(packed: Tensor) -> Tensor:
    """Values of packed FP4 codes: uint8 [..., n/2] → float32 [..., n]."""
    pairs = functional.embedding(packed.to(torch.int32), _e2m1_pairs(packed.device))
    return cast("Tensor", pairs.flatten(-2))


def _scale_groups(values: Tensor, scale: Tensor) -> Tensor:
    """Multiply each group of the last dimension by its scale: [..., n] by [..., n/group]."""
    group = values.shape[-1] // scale.shape[-1]
    blocks = values.unflatten(-1, (scale.shape[-1], group))
    return cast("Tensor", blocks.mul_(scale.unsqueeze(-1)).flatten(-2))


def dequantize_nvfp4(packed: Tensor, scale: Tensor, scale_2: Tensor) -> Tensor:
    """NVFP4 weight: uint8 [out, in/2], E4M3 [out, in/group], float32 scalar → float32 [out, in]."""
    return _scale_groups(unpack_e2m1(packed), scale.to(torch.float32) * scale_2.to(torch.float32))


def dequantize_mxfp4(packed: Tensor, scale: Tensor) -> Tensor:
    """MXFP4 weight: uint8 [out, in/2], E8M0 bytes [out, in/32] → float32 [out, in]."""
    return _scale_groups(unpack_e2m1(packed), decode_e8m0(scale))


def dequantize_mxfp8(weight: Tensor, scale: Tensor) -> Tensor:
    """MXFP8 weight: E4M3 [out, in], E8M0 bytes [out, in/32] → float32 [out, in]."""
    return _scale_groups(weight.to(torch.float32), decode_e8m0(scale))


def dequantize_fp8(weight: Tensor, scale: Tensor) -> Tensor:
    """FP8 weight E4M3 [out, in] with one scale (scalar) or one for each row ([out]) → float32 [out, in]."""
    rows = scale.to(torch.float32)
    return weight.to(torch.float32) * (rows if rows.numel() == 1 else rows.reshape(-1, 1))


def dequantize_fp8_blocks(weight: Tensor, scale: Tensor, *, block: int = 128) -> Tensor:
    """FP8 weight E4M3 [out, in] with one scale for each square block → float32 [out, in].

    ModelOpt writes the scale 4-D ([⌈out/128⌉, 1, ⌈in/128⌉, 1]), other writers 2-D; odd edges are rounded up.
    """
    grid = scale.to(torch.float32).reshape(-(-weight.shape[0] // block), -(-weight.shape[1] // block))
    full = grid.repeat_interleave(block, dim=0).repeat_interleave(block, dim=1)
    return weight.to(torch.float32) * full[: weight.shape[0], : weight.shape[1]]


def _blocks(values: Tensor, group: int) -> tuple[Tensor, int]:
    """The last dimension in groups, zero-padded to a multiple, and the padding: [..., n/group, group]."""
    padding = -values.shape[-1] % group
    padded = functional.pad(values.to(torch.float32), (0, padding))
    return padded.unflatten(-1, (-1, group)), padding


def _unblock(blocks: Tensor, padding: int) -> Tensor:
    flat = blocks.flatten(-2)
    return cast("Tensor", flat[..., : flat.shape[-1] - padding] if padding else flat)


def nvfp4_block_scale(block_max: Tensor, global_scale: Tensor) -> Tensor:
    """The E4M3-rounded scale of a block, times the global scale; 1.0 in an all-zero block, as exported."""
    ratio = block_max / (E2M1_MAX * global_scale)
    ratio = torch.where(ratio == 0, 1.0, ratio).clamp(E4M3_SMALLEST, E4M3_MAX)
    return round_to_e4m3(ratio) * global_scale


def fake_quantize_nvfp4(values: Tensor, global_scale: Tensor | None, *, group: int = NVFP4_GROUP) -> Tensor:
    """Round to NVFP4 and back; block scales follow the values, `global_scale` = amax / (6 · 448)."""
    blocks, padding = _blocks(values, group)
    block_max = blocks.abs().amax(dim=-1, keepdim=True)
    if global_scale is None:
        global_scale = block_max.amax().clamp(min=torch.finfo(torch.float32).tiny) / (E2M1_MAX * E4M3_MAX)
    scale = nvfp4_block_scale(block_max, global_scale.to(torch.float32))
    return _unblock(round_to_e2m1(blocks / scale).mul_(scale), padding).to(values.dtype)


def fake_quantize_mx(values: Tensor, *, element: Literal["e2m1", "e4m3"], group: int = MX_GROUP) -> Tensor:
    """Round to MXFP4 or MXFP8 and back; the scale of a block is the power of two that fits its maximum."""
    largest = E2M1_MAX if element == "e2m1" else E4M3_MAX
    blocks, padding = _blocks(values, group)
    block_max = blocks.abs().amax(dim=-1, keepdim=True)
    scale = torch.exp2(torch.log2(block_max / largest).clamp(min=-E8M0_BIAS).ceil())
    rounding = round_to_e2m1 if element == "e2m1" else round_to_e4m3
    return _unblock(rounding(blocks / scale) * scale, padding).to(values.dtype)


def fake_quantize_fp8(values: Tensor, scale: Tensor | None) -> Tensor:
    """Round to FP8 and back with one static `scale` = amax / 448, or with the tensor's own maximum."""
    wide = values.to(torch.float32)
    if scale is None:
        scale = wide.abs().amax().clamp(min=torch.finfo(torch.float32).tiny) / E4M3_MAX
    return (round_to_e4m3(wide / scale) * scale).to(values.dtype)


def fake_quantize_fp8_per_token(values: Tensor) -> Tensor:
    """Round to FP8 and back with one scale for each row (token): amax / 448, but at least 1 / (448 · 512).

    The bound is the one of the kernels that serve such checkpoints.
    """
    wide = values.to(torch.float32)
    row_max = wide.abs().amax(dim=-1, keepdim=True)
    # By a tensor: CUDA multiplies by the reciprocal of a plain number, which rounds twice.
    scale = (row_max / torch.full_like(row_max, E4M3_MAX)).clamp(min=E4M3_SMALLEST_ROW_SCALE)
    return (round_to_e4m3(wide / scale) * scale).to(values.dtype)


def fake_quantize_activation(values: Tensor, kind: Activation, input_scale: Tensor | None) -> Tensor:
    """Round the input of a linear layer as `kind` says; `input_scale` is the checkpoint's, if it has one."""
    if kind == "nvfp4":
        return fake_quantize_nvfp4(values, input_scale)
    if kind == "fp8":
        return fake_quantize_fp8(values, input_scale)
    if kind == "fp8_token":
        return fake_quantize_fp8_per_token(values)
    if kind == "mxfp4":
        return fake_quantize_mx(values, element="e2m1")
    if kind == "mxfp8":
        return fake_quantize_mx(values, element="e4m3")
    return values
