"""The C entry points of the add_rmsnorm_quant ops: every launch choice, outputs poisoned and guarded.

The structures are those of plugins/common/add_rmsnorm.h and mode.h.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, ClassVar

import torch

from bwdeploy_kernels.rounding import swizzled_shape
from tests.gpu.kernels.norm_cases import EPS, Norm

if TYPE_CHECKING:
    from pathlib import Path

GUARD_BYTES = 256
POISON = 0xA5
NAMES = {torch.bfloat16: "bf16", torch.float16: "fp16"}


class QuantizedRows(ctypes.Structure):
    """Of mode.h."""

    _fields_: ClassVar = [
        ("codes", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
        ("given", ctypes.c_void_p),
        ("width", ctypes.c_int),
    ]


class Params(ctypes.Structure):
    """AddRmsNormParams."""

    _fields_: ClassVar = [
        *((name, ctypes.c_void_p) for name in ("x", "residual", "weight", "residual_out", "normed")),
        ("out", QuantizedRows),
        *((name, ctypes.c_int64) for name in ("x_stride", "residual_stride", "residual_out_stride")),
        ("rows", ctypes.c_int),
        ("eps", ctypes.c_float),
        ("eager_rounding", ctypes.c_bool),
        ("pdl", ctypes.c_bool),
    ]


class Spread(IntEnum):
    """Of add_rmsnorm.h."""

    FEW_ROWS = 0
    MANY_ROWS = 1
    LOOP = 2
    CLUSTER = 3


class Config(ctypes.Structure):
    """AddRmsNormConfig."""

    _fields_: ClassVar = [(name, ctypes.c_int) for name in ("spread", "packs", "cluster")]


class Guarded:
    """Poisoned bytes on the GPU with a guard on either side."""

    def __init__(self, size: int) -> None:
        self._bytes = torch.full((size + 2 * GUARD_BYTES,), POISON, dtype=torch.uint8, device="cuda")

    @property
    def inner(self) -> torch.Tensor:
        """What the kernel is given."""
        return self._bytes[GUARD_BYTES:-GUARD_BYTES]

    @property
    def intact(self) -> bool:
        """Whether nothing was written beside it."""
        guards = torch.cat((self._bytes[:GUARD_BYTES], self._bytes[-GUARD_BYTES:]))
        return bool((guards == POISON).all())


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """Everything a launch wrote."""

    codes: torch.Tensor
    scales: torch.Tensor
    residual_out: torch.Tensor
    normed: torch.Tensor


class NormEntry:
    """One entry point: `mode` is static, per_token, linear or swizzled."""

    def __init__(self, pack: Path, mode: str, dtype: torch.dtype) -> None:
        self._mode = mode
        self._dtype = dtype
        op = f"add_rmsnorm_quant_{'nvfp4' if self.nvfp4 else 'fp8'}"
        library = ctypes.CDLL(str(pack / "lib" / f"{op}.so"))
        self._function = getattr(library, f"bwdeploy_{op}_{NAMES[dtype]}_{mode}")
        self._function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]

    @property
    def nvfp4(self) -> bool:
        """Whether it writes NVFP4."""
        return self._mode in ("linear", "swizzled")

    def launch(
        self, case: Norm, given: torch.Tensor, config: Config | None, *, eager: bool = False
    ) -> Outputs | None:
        """Run it on poisoned outputs; None if it refuses the config.

        Raises:
            AssertionError: it wrote beside an output.
            RuntimeError: any other CUDA error.
        """
        rows, hidden = case.x.shape
        buffers = {
            "codes": Guarded(rows * hidden // (2 if self.nvfp4 else 1)),
            "scales": Guarded(self._scale_bytes(rows, hidden)),
            "residual_out": Guarded(rows * hidden * 2),
            "normed": Guarded(rows * hidden * 2),
        }
        error = self._call(
            case, given, {name: buffer.inner for name, buffer in buffers.items()}, config, eager=eager
        )
        if error == _INVALID_CONFIGURATION:
            return None
        if error:
            raise RuntimeError(f"{self._mode}: CUDA error {error}")
        torch.cuda.synchronize()
        assert [name for name, buffer in buffers.items() if not buffer.intact] == []
        return self._outputs(buffers, rows, hidden)

    def _call(
        self,
        case: Norm,
        given: torch.Tensor,
        out: dict[str, torch.Tensor],
        config: Config | None,
        *,
        eager: bool,
    ) -> int:
        rows, hidden = case.x.shape
        params = Params(
            x=case.x.data_ptr(),
            residual=case.residual.data_ptr(),
            weight=case.weight.data_ptr(),
            residual_out=out["residual_out"].data_ptr(),
            normed=out["normed"].data_ptr(),
            out=QuantizedRows(out["codes"].data_ptr(), out["scales"].data_ptr(), given.data_ptr(), hidden),
            x_stride=case.x.stride(0),
            residual_stride=case.residual.stride(0),
            residual_out_stride=hidden,
            rows=rows,
            eps=EPS,
            eager_rounding=eager,
            pdl=True,
        )
        stream = torch.cuda.current_stream().cuda_stream
        chosen = None if config is None else ctypes.byref(config)
        return int(self._function(ctypes.byref(params), chosen, stream))

    def _scale_bytes(self, rows: int, hidden: int) -> int:
        if self._mode == "swizzled":
            padded_rows, padded_columns = swizzled_shape(rows, hidden)
            return padded_rows * padded_columns
        return rows * hidden // 16 if self._mode == "linear" else rows * 4

    def _outputs(self, buffers: dict[str, Guarded], rows: int, hidden: int) -> Outputs:
        scales = buffers["scales"].inner
        shape = swizzled_shape(rows, hidden) if self._mode == "swizzled" else (rows, hidden // 16)
        codes = buffers["codes"].inner.view(rows, -1)
        return Outputs(
            codes=codes if self.nvfp4 else codes.view(torch.float8_e4m3fn),
            scales=scales.view(shape).view(torch.float8_e4m3fn) if self.nvfp4 else scales.view(torch.float32),
            residual_out=buffers["residual_out"].inner.view(self._dtype).view(rows, hidden),
            normed=buffers["normed"].inner.view(self._dtype).view(rows, hidden),
        )


_INVALID_CONFIGURATION = 9
