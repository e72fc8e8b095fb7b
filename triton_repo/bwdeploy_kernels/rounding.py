"""Rounding to FP8 E4M3 and to NVFP4, and the layouts of NVFP4 scales, exactly as the kernels do it.

Float32 formulas in torch, for tensors on any device: what the ops' references and tests are made of. The
formulas of NVFP4 are those of ModelOpt's NVFP4QTensor, bit for bit. Divisors are tensors throughout, because
torch multiplies by the reciprocal of a Python number on CUDA.
"""

from __future__ import annotations

import torch
from torch import Tensor

E4M3_MAX = 448.0
E2M1_MAX = 6.0
SCALE_BLOCK = 16
"""Columns of an NVFP4 row that share a scale."""

_MIN_TOKEN_SCALE = 1.0 / (E4M3_MAX * 512.0)
_MIN_BLOCK_SCALE = 2.0**-9
_TILE_ROWS, _TILE_COLUMNS, _UNITS = 128, 4, 32
_E2M1_MAGNITUDES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
_E2M1_BOUNDS = (0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0)
_TIES_UP = (0.75, 1.75, 3.5)
"""Bounds between an odd code below and an even one above."""


def to_e4m3(values: Tensor) -> Tensor:
    """Round to float8_e4m3fn, nearest even, saturating at 448; NaN stays NaN."""
    return values.float().clamp(-E4M3_MAX, E4M3_MAX).to(torch.float8_e4m3fn)


def token_scales(values: Tensor) -> Tensor:
    """One float32 scale for each row of [rows, width]: max(amax / 448, 1 / (448 * 512))."""
    amax = values.float().abs().amax(-1)
    return (amax / amax.new_tensor(E4M3_MAX)).clamp(min=_MIN_TOKEN_SCALE)


def quantize_e4m3(values: Tensor, scale: Tensor) -> Tensor:
    """Round `values` / `scale` to float8_e4m3fn; `scale` is float32 and broadcasts."""
    return to_e4m3(values.float() / scale)


def to_e2m1(values: Tensor) -> Tensor:
    """E2M1 codes (uint8, 0 to 15): nearest even, saturating at 6, sign only below zero; NaN gives 7."""
    magnitudes = values.float().abs().contiguous()
    codes = torch.searchsorted(magnitudes.new_tensor(_E2M1_BOUNDS), magnitudes, out_int32=True)
    for bound in _TIES_UP:
        codes += magnitudes == bound
    return (codes + (values < 0) * 8).to(torch.uint8)


def pack_e2m1(codes: Tensor) -> Tensor:
    """Two codes to a byte, the even column in the low nibble: [..., width] → [..., width / 2]."""
    return codes[..., 0::2] | codes[..., 1::2] << 4


def unpack_e2m1(packed: Tensor) -> Tensor:
    """The float32 values of packed codes: [..., width / 2] → [..., width]."""
    codes = torch.stack((packed & 15, packed >> 4), -1).flatten(-2)
    magnitudes = torch.tensor(_E2M1_MAGNITUDES, device=packed.device)[(codes & 7).long()]
    return torch.where(codes > 7, -magnitudes, magnitudes)  # noqa: PLR2004 - the sign is the fourth bit


def block_scales(values: Tensor, global_scale: Tensor) -> Tensor:
    """E4M3 scale of each block of 16 columns: [rows, width] → float8_e4m3fn [rows, width / 16]."""
    amax = values.float().unflatten(-1, (-1, SCALE_BLOCK)).abs().amax(-1)
    scales = amax / (E2M1_MAX * global_scale.float())
    scales = torch.where(scales == 0, torch.ones_like(scales), scales)
    return to_e4m3(scales.clamp(min=_MIN_BLOCK_SCALE))


def quantize_nvfp4(values: Tensor, global_scale: Tensor) -> tuple[Tensor, Tensor]:
    """Round [rows, width] to NVFP4.

    Args:
        values: width a multiple of 16.
        global_scale: float32 [1] (or one for each row, [rows, 1]), amax / (6 * 448).

    Returns:
        Packed codes uint8 [rows, width / 2] and linear block scales float8_e4m3fn [rows, width / 16].
    """
    scales = block_scales(values, global_scale)
    divisors = (scales.float() * global_scale.float()).unsqueeze(-1)
    quotients = values.float().unflatten(-1, (-1, SCALE_BLOCK)) / divisors
    return pack_e2m1(to_e2m1(quotients.flatten(-2))), scales


def dequantize_nvfp4(packed: Tensor, scales: Tensor, global_scale: Tensor) -> Tensor:
    """The float32 values of packed codes with linear scales: the inverse of `quantize_nvfp4`."""
    blocks = unpack_e2m1(packed).unflatten(-1, (-1, SCALE_BLOCK))
    return (blocks * (scales.float() * global_scale.float()).unsqueeze(-1)).flatten(-2)


def swizzled_shape(rows: int, width: int) -> tuple[int, int]:
    """Shape of the swizzled scales of [rows, width]: padded to whole tiles of 128 x 4."""
    return _round_up(rows, _TILE_ROWS), _round_up(width // SCALE_BLOCK, _TILE_COLUMNS)


def swizzle(scales: Tensor) -> Tensor:
    """Linear block scales [rows, columns] in tiles of 128 x 4, padded with zeros.

    A tile is 512 contiguous bytes, tiles are row-major; unit u of a tile is 16 bytes and holds the four
    columns of rows u, u + 32, u + 64 and u + 96.
    """
    rows, columns = scales.shape
    padded = scales.new_zeros(
        _round_up(rows, _TILE_ROWS), _round_up(columns, _TILE_COLUMNS), dtype=torch.uint8
    )
    padded[:rows, :columns] = scales.view(torch.uint8)
    tiles = padded.view(-1, 4, _UNITS, padded.shape[1] // _TILE_COLUMNS, _TILE_COLUMNS)
    return tiles.permute(0, 3, 2, 1, 4).reshape(padded.shape).view(scales.dtype)


def unswizzle(scales: Tensor, rows: int, columns: int) -> Tensor:
    """Linear scales [rows, columns] of swizzled ones; with their padded shape, the padding too."""
    padded_rows, padded_columns = scales.shape
    tiles = scales.view(torch.uint8).view(-1, padded_columns // _TILE_COLUMNS, _UNITS, 4, _TILE_COLUMNS)
    linear = tiles.permute(0, 3, 2, 1, 4).reshape(padded_rows, padded_columns)
    return linear[:rows, :columns].contiguous().view(scales.dtype)


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
