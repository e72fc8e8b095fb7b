"""Bytes of one matrix in each format."""

from __future__ import annotations

import pytest

from bwdeploy.planner.weights import storage


@pytest.mark.parametrize(
    ("stored", "file_bytes", "on_gpu"),
    [
        (storage.plain("bfloat16"), 256 * 64 * 2, 256 * 64 * 2),
        (storage.plain("float32"), 256 * 64 * 4, 256 * 64 * 4),
        (storage.nvfp4(), 256 * 32 + 256 * 4 + 8, 256 * 32 + 256 * 4 + 8),
        (storage.mxfp4(), 256 * 32 + 256 * 2, 256 * 32 + 256 * 4),
        (storage.fp8(), 256 * 64 + 8, 256 * 64 + 8),
        (storage.fp8_row(), 256 * 64 + 256 * 4, 256 * 64 + 256 * 4),
        (storage.fp8_block(), 256 * 64 + 2 * 4, 256 * 64 + 2 * 4),
        (storage.integer(4, 32), 256 * 32 + 256 * 2 * 3, 256 * 32 + 256 * 2 * 3),
    ],
    ids=lambda value: value.name if isinstance(value, storage.Storage) else None,
)
def test_a_matrix_of_256_by_64(stored: storage.Storage, file_bytes: int, on_gpu: int) -> None:
    assert storage.checkpoint_bytes(stored, 256, 64) == file_bytes
    assert storage.gpu_bytes(stored, 256, 64) == on_gpu


def test_rows_end_in_a_whole_block() -> None:
    assert storage.checkpoint_bytes(storage.nvfp4(scalars=0), 1, 17) == 9 + 2


def test_the_gpu_keeps_nvfp4_scales_in_tiles_of_128_rows_by_4_scales() -> None:
    stored = storage.nvfp4(scalars=0)
    assert storage.gpu_bytes(stored, 130, 80) - storage.checkpoint_bytes(stored, 130, 80) == 256 * 8 - 130 * 5


@pytest.mark.parametrize(
    ("stored", "bits"),
    [(storage.nvfp4(), 4.5), (storage.mxfp4(), 4.25), (storage.fp8_block(), 8 + 32 / 16384)],
)
def test_bits_of_a_value_include_its_scale(stored: storage.Storage, bits: float) -> None:
    assert stored.bits_per_value == bits
