"""The C entry points of the silu_mul_quant ops, on poisoned buffers of our own and with any launch choice."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from bwdeploy_kernels.rounding import swizzled_shape

MODES = {"static": "fp8", "per_token": "fp8", "linear": "nvfp4", "swizzled": "nvfp4"}
"""Mode → the op's ending."""
NAMES = {torch.bfloat16: "bf16", torch.float16: "fp16"}
POISON, GUARD = 0xA5, 256
Config = tuple[int, int, int, int]
"""Packs a thread, threads, cluster, trigger (0 after the wait, 1 after the loads)."""


class _QuantizedRows(ctypes.Structure):
    _fields_ = [
        ("codes", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
        ("given", ctypes.c_void_p),
        ("width", ctypes.c_int),
    ]


class _Params(ctypes.Structure):
    _fields_ = [
        ("gate", ctypes.c_void_p),
        ("up", ctypes.c_void_p),
        ("gate_stride", ctypes.c_int64),
        ("up_stride", ctypes.c_int64),
        ("rows_per_expert", ctypes.c_void_p),
        ("rows", ctypes.c_int),
        ("capacity", ctypes.c_int),
        ("out", _QuantizedRows),
        ("eager_rounding", ctypes.c_bool),
        ("pdl", ctypes.c_bool),
    ]


@dataclass(frozen=True, kw_only=True)
class Given:
    """What one call is given; `scale` is None per token."""

    mode: str
    gate: torch.Tensor
    up: torch.Tensor
    scale: torch.Tensor | None
    counts: torch.Tensor | None = None
    eager: bool = False


@dataclass(frozen=True, kw_only=True)
class Written:
    """The bytes that were there after it."""

    codes: torch.Tensor
    """uint8 [rows, width or width / 2]."""
    scales: torch.Tensor
    """uint8: float32 [rows, 4] per token, E4M3 (swizzled: padded) with NVFP4, empty with a given scale."""
    guards: bool
    """Nothing was written in front of or behind either."""


class _Poisoned:
    """Bytes of 0xA5 with more of them on both sides."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self._all = torch.full((shape[0] * shape[1] + 2 * GUARD,), POISON, dtype=torch.uint8, device="cuda")
        self.inner = self._all[GUARD:-GUARD].view(shape)

    def guards(self) -> bool:
        return bool((self._all[:GUARD] == POISON).all() and (self._all[-GUARD:] == POISON).all())


@cache
def _library(path: Path) -> ctypes.CDLL:
    return ctypes.CDLL(str(path))


def call(pack: Path, given: Given, config: Config | None = None) -> tuple[int, Written]:
    """Launch once and wait; the CUDA error of the launch and what was written."""
    rows, width = given.gate.shape
    codes = _Poisoned((rows, width if MODES[given.mode] == "fp8" else width // 2))
    scales = _Poisoned(_scale_bytes(given.mode, rows, width))
    experts = 1 if given.counts is None else len(given.counts)
    params = _Params(
        given.gate.data_ptr(),
        given.up.data_ptr(),
        given.gate.stride(0),
        given.up.stride(0),
        None if given.counts is None else given.counts.data_ptr(),
        rows,
        rows // experts,
        _QuantizedRows(codes.inner.data_ptr(), scales.inner.data_ptr(), _pointer(given.scale), width),
        given.eager,
        True,
    )
    chosen = None if config is None else ctypes.byref((ctypes.c_int * 4)(*config))
    stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
    error = _entry(pack, given)(ctypes.byref(params), chosen, stream)
    torch.cuda.synchronize()
    guards = codes.guards() and scales.guards()
    return error, Written(codes=codes.inner, scales=scales.inner, guards=guards)


def configs(mode: str, rows: int, width: int) -> Iterator[Config]:
    """Launch choices of each kind that fit: every number of packs a thread and every cluster size."""
    if mode != "per_token":
        packs_a_thread = (1,) if mode == "static" else (1, 2)
        yield from (
            (k, threads, 1, trigger) for k in packs_a_thread for threads, trigger in ((64, 0), (512, 1))
        )
        return
    for cluster in (1, 2, 4, 8) if rows <= 128 else (1,):
        for packs in (1, 2, 3, 4):
            warps = -(-width // (8 * packs * cluster * 32))
            if warps * 32 <= (256 if cluster > 1 else 1024 if packs <= 2 else 768):
                yield packs, warps * 32, cluster, rows % 2


def _entry(pack: Path, given: Given) -> Any:
    op = f"silu_mul_quant_{MODES[given.mode]}"
    return getattr(
        _library(pack / "lib" / f"{op}.so"), f"bwdeploy_{op}_{NAMES[given.gate.dtype]}_{given.mode}"
    )


def _pointer(tensor: torch.Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _scale_bytes(mode: str, rows: int, width: int) -> tuple[int, int]:
    if mode == "static":
        return 0, 0
    if mode == "per_token":
        return rows, 4
    return swizzled_shape(rows, width) if mode == "swizzled" else (rows, width // 16)
