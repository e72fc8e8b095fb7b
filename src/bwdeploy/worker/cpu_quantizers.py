"""Block-format fake quantization for ModelOpt on a CPU, where its own kernels need CUDA.

ModelOpt 0.47 collects ranges for NVFP4, MXFP4 and MXFP8 anywhere, but rounding a tensor to them asserts
a CUDA tensor, so whatever runs a quantized forward (AWQ, 4-over-6, perplexity of the live model) fails.
Two ways in, the public one wherever it reaches:

- dynamic block formats: `register_quant_backend` plus `backend` in the quantizer's config;
- static block formats (`nvfp4_four_over_six`): the quantizer class ignores `backend`, so the one function it
  calls, `static_blockwise_fp4_fake_quant`, is replaced for the duration of a `with`.

Both pass gradients straight through, as ModelOpt's own kernels do, so that training works on a CPU too.
Nothing here is used on a GPU, and none of it changes what is exported for max-calibrated formats.
"""

from __future__ import annotations

from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

import torch

from bwdeploy_runtime import formats

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

BACKEND = "bwdeploy_cpu"
_E2M1 = (2, 1)
_E4M3 = (4, 3)
_E8M0 = (8, 0)


def select_backend(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Quantizer entries with `backend` set where ModelOpt's own rounding needs CUDA; others unchanged."""
    return [
        entry | {"cfg": entry["cfg"] | {"backend": BACKEND}} if _needs_backend(entry.get("cfg")) else entry
        for entry in entries
    ]


def _needs_backend(cfg: object) -> bool:
    blocks = (cfg.get("block_sizes") or {}) if isinstance(cfg, dict) else {}
    return blocks.get("type") == "dynamic" and blocks.get("scale_bits") is not None


def fake_quantize(inputs: Tensor, quantizer: Any) -> Tensor:  # noqa: ANN401 - modelopt's TensorQuantizer
    """The registered backend: round `inputs` as the quantizer's config says.

    Raises:
        NotImplementedError: a block format other than NVFP4, MXFP4 and MXFP8.
    """
    return cast("Tensor", _StraightThrough.apply(inputs, lambda values: _round(values, quantizer)))


class _StraightThrough(torch.autograd.Function):  # type: ignore[misc]  # torch is not typed here
    """A rounding whose gradient is that of the identity (Bengio et al. 2013, arXiv 1308.3432)."""

    @staticmethod
    def forward(_context: object, values: Tensor, rounding: Callable[[Tensor], Tensor]) -> Tensor:
        return rounding(values)

    @staticmethod
    def backward(_context: object, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


def _round(inputs: Tensor, quantizer: Any) -> Tensor:  # noqa: ANN401
    blocks = quantizer.block_sizes
    group = blocks.get(-1) or blocks.get(inputs.dim() - 1)
    numbers = (tuple(quantizer.num_bits), tuple(blocks["scale_bits"]))
    if numbers == (_E2M1, _E4M3):
        amax = quantizer.amax
        scale = None if amax is None else amax.float().amax() / (formats.E2M1_MAX * formats.E4M3_MAX)
        return formats.fake_quantize_nvfp4(inputs, scale, group=group)
    if numbers == (_E2M1, _E8M0):
        return formats.fake_quantize_mx(inputs, element="e2m1", group=group)
    if numbers == (_E4M3, _E8M0):
        return formats.fake_quantize_mx(inputs, element="e4m3", group=group)
    raise NotImplementedError(f"no CPU rounding for elements {numbers[0]} with block scales {numbers[1]}")


def static_block_fake_quantize(  # noqa: PLR0917 - the signature of the function it stands in for
    values: Tensor,
    amax: Tensor,
    global_amax: Tensor | None = None,
    quantize_block_scales: bool = True,  # noqa: FBT001, FBT002
    fp8_max_for_normalization: float = formats.E4M3_MAX,
    out_dtype: torch.dtype | None = None,
    _pass_through_bwd: bool = False,  # noqa: FBT001, FBT002
) -> Tensor:
    """NVFP4 rounding with a given maximum for each block; values [..., blocks, group], amax one a block."""
    scale = amax.float() / formats.E2M1_MAX
    if quantize_block_scales:
        top = (amax.amax() if global_amax is None else global_amax).float() / formats.E2M1_MAX
        unit = top / fp8_max_for_normalization
        scale = formats.round_to_e4m3(scale / unit) * unit
    scale = torch.where(scale == 0, 1.0, scale).reshape(-1, 1)

    def rounded(inputs: Tensor) -> Tensor:
        blocks = inputs.float().reshape(scale.shape[0], -1)
        return (formats.round_to_e2m1(blocks / scale) * scale).reshape(inputs.shape)

    return cast("Tensor", _StraightThrough.apply(values, rounded)).to(out_dtype or values.dtype)


@contextmanager
def cpu_rounding() -> Iterator[None]:
    """Register the backend and put the static-block function in place, for the duration of the block."""
    nn: Any = import_module("modelopt.torch.quantization.nn.modules.tensor_quantizer")
    original = nn.static_blockwise_fp4_fake_quant
    if not nn.is_registered_quant_backend(BACKEND):
        nn.register_quant_backend(BACKEND, fake_quantize)
    nn.static_blockwise_fp4_fake_quant = static_block_fake_quantize
    try:
        yield
    finally:
        nn.static_blockwise_fp4_fake_quant = original
