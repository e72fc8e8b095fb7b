"""How many bytes a matrix takes in each number format: values, block scales, scalars. Pure arithmetic.

`checkpoint_bytes` is the size in a safetensors file, `gpu_bytes` the size once TensorRT-LLM has loaded it:
there the scales of FP4 blocks lie in tiles, so that odd sizes are padded. Which module has which format is
decided in `precision`.
"""

from __future__ import annotations

from typing import NamedTuple

_SCALE_TILE_ROWS = 128
_SCALE_TILE_COLUMNS = 4
_FP32_BYTES = 4


class Storage(NamedTuple):
    """One number format of a weight."""

    name: str
    """nvfp4, mxfp4, fp8, fp8_block, fp8_row, int4, int8, bfloat16, float16 or float32."""
    bits: int
    """Of one value."""
    block: int = 0
    """Values of a row that share a scale; 0: no block scales."""
    block_rows: int = 1
    """Rows that share a scale."""
    scale_bytes: int = 0
    """Of one block scale (and its zero point)."""
    row_scale_bytes: int = 0
    """Of a scale that each row has."""
    column_scale_bytes: int = 0
    """Of a scale that each input has: what AWQ could not fold into the layer before."""
    scalars: int = 0
    """FP32 scalars of each tensor: weight_scale, weight_scale_2, input_scale."""
    tiled_scales: bool = False
    """Whether the GPU keeps block scales in tiles of 128 rows × 4 scales."""

    @property
    def bits_per_value(self) -> float:
        """Block scales included."""
        per_block = self.block * self.block_rows
        return self.bits + (8 * self.scale_bytes / per_block if per_block else 0)


def plain(dtype: str) -> Storage:
    """The storage of weights that are not quantized."""
    return Storage(dtype, 32 if dtype == "float32" else 16)


def nvfp4(block: int = 16, *, scalars: int = 2) -> Storage:
    """4-bit values, an E4M3 scale for each block of a row, FP32 weight_scale_2 (and input_scale)."""
    return Storage("nvfp4", 4, block=block, scale_bytes=1, scalars=scalars, tiled_scales=True)


def nvfp4_awq(block: int = 16) -> Storage:
    """NVFP4 with a 16-bit pre_quant_scale for each input."""
    return nvfp4(block)._replace(column_scale_bytes=2)


def mxfp4(*, scalars: int = 0) -> Storage:
    """4-bit values and a power-of-two scale for each 32 values of a row (OCP MX)."""
    return Storage("mxfp4", 4, block=32, scale_bytes=1, scalars=scalars, tiled_scales=True)


def fp8(*, scalars: int = 2) -> Storage:
    """E4M3 values, one FP32 weight_scale (and input_scale)."""
    return Storage("fp8", 8, scalars=scalars)


def fp8_row() -> Storage:
    """E4M3 values and an FP32 scale for each row."""
    return Storage("fp8_row", 8, row_scale_bytes=_FP32_BYTES)


def fp8_block(rows: int = 128, columns: int = 128) -> Storage:
    """E4M3 values and an FP32 scale for each block of rows × columns, as DeepSeek publishes."""
    return Storage("fp8_block", 8, block=columns, block_rows=rows, scale_bytes=_FP32_BYTES)


def integer(bits: int, group: int) -> Storage:
    """GPTQ and AWQ: a half-precision scale and a packed zero point for each group of a row."""
    return Storage(f"int{bits}", bits, block=group, scale_bytes=2 + -(-bits // 8))


def checkpoint_bytes(storage: Storage, rows: int, columns: int) -> int:
    """Of one tensor and all its scales in a file; `rows` × `columns` elements."""
    scales = _blocks(rows, storage.block_rows) * _blocks(columns, storage.block) * storage.scale_bytes
    return _values(storage, rows, columns) + scales + _small(storage, rows, columns)


def gpu_bytes(storage: Storage, rows: int, columns: int) -> int:
    """Of one tensor and all its scales on a GPU.

    The layout of the scale tiles: tensorrt_llm/quantization/utils/fp4_utils.py (pad_up to 128 and 4).
    """
    if not storage.tiled_scales:
        return checkpoint_bytes(storage, rows, columns)
    padded_rows = _blocks(rows, _SCALE_TILE_ROWS) * _SCALE_TILE_ROWS
    padded_columns = _blocks(_blocks(columns, storage.block), _SCALE_TILE_COLUMNS) * _SCALE_TILE_COLUMNS
    scales = padded_rows * padded_columns * storage.scale_bytes
    return _values(storage, rows, columns) + scales + _small(storage, rows, columns)


def _values(storage: Storage, rows: int, columns: int) -> int:
    return rows * -(-columns * storage.bits // 8)


def _small(storage: Storage, rows: int, columns: int) -> int:
    vectors = rows * storage.row_scale_bytes + columns * storage.column_scale_bytes
    return vectors + storage.scalars * _FP32_BYTES


def _blocks(length: int, block: int) -> int:
    return -(-length // block) if block else 0
