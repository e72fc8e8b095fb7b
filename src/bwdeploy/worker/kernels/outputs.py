"""The outputs of the ops by name, and the part of them that a comparison may look at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from bwdeploy.worker.kernels.cases import Case
    from bwdeploy.worker.kernels.inputs import Call

OUTPUTS = {
    "add_rmsnorm_quant_fp8": ("out", "residual_out", "scale_out", "normed"),
    "add_rmsnorm_quant_nvfp4": ("out", "scales", "residual_out", "normed"),
    "silu_mul_quant_fp8": ("out", "scale_out"),
    "silu_mul_quant_nvfp4": ("out", "scales"),
}
"""Op → what it returns, in order. The op with `_` at its end returns the same without `residual_out`."""

_TILE_ROWS, _TILE_COLUMNS = 128, 4


def named_outputs(op: str, returned: tuple[Any, ...]) -> dict[str, Any]:
    """What an op returned, by name.

    Raises:
        ValueError: it returned another number of tensors.
    """
    return dict(zip(OUTPUTS[op], returned, strict=True))


def compared_part(case: Case, call: Call, outputs: dict[str, Any]) -> dict[str, Any]:
    """Without the rows that mean nothing: past an expert's count, or not finite under their own scale."""
    rows = _meaningful_rows(case, call)
    if rows is None:
        return outputs
    if case.scale == "swizzled":
        outputs = outputs | {"scales": linear_scales(outputs["scales"])}
    return {name: tensor[rows] if tensor.numel() else tensor for name, tensor in outputs.items()}


def linear_scales(swizzled: Any) -> Any:  # noqa: ANN401 - a tensor
    """Scales [rows, columns] stored in tiles of 128 x 4 → row by row; both counts fill whole tiles."""
    rows, columns = swizzled.shape
    tiles = swizzled.view(torch.uint8).view(rows // _TILE_ROWS, columns // _TILE_COLUMNS, 32, 4, 4)
    linear = tiles.permute(0, 3, 2, 1, 4).reshape(rows, columns)
    return linear.contiguous().view(torch.float8_e4m3fn)


def _meaningful_rows(case: Case, call: Call) -> Any:  # noqa: ANN401 - a tensor of row numbers, or None for all
    counts = call.options.get("rows_per_expert")
    if counts is not None:
        number = torch.arange(case.rows * case.experts, device=counts.device)
        return (number % case.rows < counts.repeat_interleave(case.rows)).nonzero().flatten()
    if case.scale == "dynamic" and case.filling == "not finite":
        first, second = call.arguments[:2]
        return (first.isfinite() & second.isfinite()).all(-1).nonzero().flatten()
    return None
