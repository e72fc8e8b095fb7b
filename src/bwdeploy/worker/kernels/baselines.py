"""What the ops are measured against: FlashInfer's kernels and torch.compile, each with PDL where it knows it.

A baseline is a name and, for a variant of an op, a launch on the same buffers; what a machine lacks is left
out with the reason. One after another they take minutes to compile, so `warm` fills their caches in
parallel first.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch

from bwdeploy.worker.kernels import formulas

if TYPE_CHECKING:
    from collections.abc import Callable

    from bwdeploy.worker.kernels.own_ops import Buffers
    from bwdeploy.worker.kernels.points import Family, Size

COMPILED = "torch.compile"
FLASHINFER = "flashinfer-python"
FLASHINFER_ALONE: dict[Family, str] = {
    "norm": "FlashInfer fused_add_rmsnorm (bf16 out)",
    "mlp": "FlashInfer silu_and_mul (bf16 out)",
}
_FORMULAS: dict[tuple[Family, str], Callable[..., Any]] = {
    ("norm", "fp8 static"): formulas.add_rmsnorm_fp8,
    ("norm", "fp8 dynamic"): formulas.add_rmsnorm_fp8_dynamic,
    ("norm", "nvfp4 linear"): formulas.add_rmsnorm_nvfp4,
    ("mlp", "fp8 static"): formulas.silu_mul_fp8,
    ("mlp", "fp8 dynamic"): formulas.silu_mul_fp8_dynamic,
    ("mlp", "nvfp4 linear"): formulas.silu_mul_nvfp4,
}
_OWN = "fp4_quantize"
_FP4_QUANTIZE_SINCE = (10, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """Something to be faster than."""

    name: str
    what: str
    """The same for variants that it is the same for: such a baseline is timed once for all of them."""
    call: Callable[[Buffers], Callable[[], Any]]


def baselines_of(size: Size, variant: str, *, flashinfer: Any) -> tuple[Baseline, ...]:  # noqa: ANN401 - a module
    """The baselines of one variant; `flashinfer` is None where it is left out."""
    formula = compiled_formula(size.family, variant)
    found = [
        Baseline(
            name=COMPILED,
            what=formula.__name__,
            call=lambda buffers: partial(formula, *formula_inputs(size, buffers)),
        )
    ]
    if flashinfer is not None:
        found += _of_flashinfer(size.family, variant, flashinfer)
    return tuple(found)


@cache
def compiled_formula(family: Family, variant: str) -> Callable[..., Any]:
    """The formula of a variant; for the swizzled layout too the linear one, which asks less of a compiler."""
    return _compiled(_FORMULAS[family, variant.replace("swizzled", "linear")])


def formula_inputs(size: Size, buffers: Buffers) -> tuple[Any, ...]:
    """The arguments of a formula, in its order."""
    if size.family == "norm":
        return buffers.x, buffers.residual, buffers.weight, buffers.scale
    return buffers.gate_up, buffers.scale


def load_flashinfer() -> tuple[Any, str]:
    """FlashInfer's module, or None and why it is left out."""
    try:
        flashinfer = import_module("flashinfer")
    except ImportError as error:
        return None, f"{FLASHINFER} cannot be imported: {error}"
    return flashinfer, ""


def compiled_quantizer(variant: str) -> Callable[..., Any] | None:
    """(values, scale) -> …, compiled, for what FlashInfer wrote; None where there is no such step."""
    if variant == "fp8 static":
        return _compiled(formulas.quantize_fp8)
    if variant.startswith("nvfp4") and not _has_fp4_quantize():
        return _compiled(formulas.quantize_nvfp4)
    return None


def _of_flashinfer(family: Family, variant: str, flashinfer: Any) -> list[Baseline]:  # noqa: ANN401 - a module
    alone = partial(_norm_alone if family == "norm" else _silu_alone, flashinfer)
    name = FLASHINFER_ALONE[family]
    found = [Baseline(name=name, what=name, call=lambda buffers: partial(alone, buffers))]
    quantizer = _quantizer(variant, flashinfer)
    if quantizer is None:
        return found
    kernel, quantize = quantizer
    pair = f"{name.partition(' (')[0]} + {kernel}"

    def both(buffers: Buffers) -> Any:  # noqa: ANN401 - tensors
        return quantize(alone(buffers), buffers)

    what = f"{pair} {variant.partition(' ')[0]}" if kernel != _OWN else f"{pair} {variant}"
    return [*found, Baseline(name=pair, what=what, call=lambda buffers: partial(both, buffers))]


def _norm_alone(flashinfer: Any, buffers: Buffers) -> Any:  # noqa: ANN401 - module and tensor
    flashinfer.norm.fused_add_rmsnorm(buffers.x, buffers.residual, buffers.weight, formulas.EPS, True)
    return buffers.x


def _silu_alone(flashinfer: Any, buffers: Buffers) -> Any:  # noqa: ANN401 - module and tensor
    return flashinfer.activation.silu_and_mul(buffers.gate_up, buffers.activated, True)


def _quantizer(variant: str, flashinfer: Any) -> tuple[str, Callable[..., Any]] | None:  # noqa: ANN401
    """Name and function that takes FlashInfer's bf16 result on; FP8 with a scale for each row has none."""
    if variant.startswith("nvfp4") and _has_fp4_quantize():
        swizzled = variant.endswith("swizzled")
        return _OWN, lambda values, buffers: flashinfer.fp4_quantize(
            values, buffers.inverse_scale, is_sf_swizzled_layout=swizzled, enable_pdl=True
        )
    compiled = compiled_quantizer(variant)
    if compiled is None:
        return None
    return "compiled quantize", lambda values, buffers: compiled(values, buffers.scale)


@cache
def _has_fp4_quantize() -> bool:
    """Whether FlashInfer's own conversion works here: for an older GPU its kernel is built empty."""
    return bool(torch.cuda.get_device_capability() >= _FP4_QUANTIZE_SINCE)


@cache
def _compiled(formula: Callable[..., Any]) -> Callable[..., Any]:
    """One compilation for each shape: every point gets the best code that the compiler has for it."""
    torch._dynamo.config.recompile_limit = 1000  # noqa: SLF001 - the documented place of the setting
    torch._dynamo.config.accumulated_recompile_limit = 10_000  # noqa: SLF001
    compiled: Callable[..., Any] = torch.compile(formula, dynamic=False)
    return compiled
