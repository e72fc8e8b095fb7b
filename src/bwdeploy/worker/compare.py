"""How far each dequantized weight is from its source: streamed, one pair of tensors in memory at a time.

AWQ moves factors between neighbouring layers (into a norm, or from one matrix to the next). A weight with its
own `pre_quant_scale` is compared exactly; folded ones are compared up to one factor for each row and column,
fitted by least squares, which the report says.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING

from bwdeploy.pipeline.jobs import AuditFinding, TensorError
from bwdeploy.worker.audit_files import finding
from bwdeploy.worker.audit_tensors import shortened
from bwdeploy_runtime.quantization import CheckpointError, TensorReader, module_of, read_weight

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from bwdeploy.worker.audit_tensors import TensorCensus
    from bwdeploy_runtime.quantization import QuantizationConfig

_WORST = 10
_MATRIX = 2
# Rounding to 4 bits leaves a cosine of 0.99 to the source and its size within 2 %; training moves weights by
# less than half of their size (a cosine of 0.87).
_LEAST_COSINE = 0.87
_LEAST_TIMES = 0.8
_STRANGE_HINT = "Was it written in another format than it is labelled, or changed after the export?"


@dataclass(slots=True)
class Comparison:
    """All errors and what could not be compared."""

    errors: list[TensorError] = field(default_factory=list)
    findings: list[AuditFinding] = field(default_factory=list)

    @property
    def worst(self) -> tuple[TensorError, ...]:
        """The ten largest errors, largest first."""
        return tuple(sorted(self.errors, key=lambda error: -error.relative_error)[:_WORST])


def compare_weights(
    reader: TensorReader,
    source: TensorReader,
    census: TensorCensus,
    quantization: QuantizationConfig,
    on_tensor: Callable[[int, int], None],
) -> Comparison:
    """Relative error of every weight that both sides have."""
    torch = import_module("torch")
    result = Comparison()
    names = [name for name in census.layouts if name in source]
    strange: list[AuditFinding] = []
    fitted = 0
    for number, name in enumerate(names):
        on_tensor(number, len(names))
        layout = census.layouts[name]
        try:
            stored = read_weight(reader, name, layout).to(torch.float32)
        except CheckpointError as error:
            result.findings.append(finding("weight-unreadable", str(error), tensor=name))
            continue
        original = source.tensor(name).to(torch.float32)
        if not bool(torch.isfinite(stored).all()):
            result.findings.append(finding("weight-not-finite", f"{name} holds NaN or infinity", tensor=name))
            continue
        if stored.shape != original.shape:
            continue  # a finding of the shape check
        smoothing = reader.optional(f"{module_of(name)}.pre_quant_scale")
        if smoothing is not None:
            stored *= smoothing
        if _may_be_folded(quantization):
            if stored.dim() < _MATRIX:
                continue  # a norm that carries folded factors is no copy of the source's
            stored = _fit(stored, original)
            fitted += 1
        distance = float((stored - original).norm() / original.norm().clamp(min=1e-30))
        result.errors.append(TensorError(name=name, relative_error=distance))
        exact = layout == "plain" and reader.dtype(name) == source.dtype(name)
        if exact and not _may_be_folded(quantization):
            result.findings += _plain_difference(name, distance)
        else:
            strange += _strangeness(name, stored, original, distance)
    result.findings += shortened(strange)
    on_tensor(len(names), len(names))
    if fitted:
        message = f"{fitted} weights were compared up to one factor for each row and column (AWQ folds them)"
        result.findings.append(finding("awq-folded", message, severity="info"))
    return result


def _may_be_folded(quantization: QuantizationConfig) -> bool:
    return "AWQ" in (quantization.quant_algo or "").upper() or any(
        "AWQ" in algo.upper() for algo in quantization.layers.values()
    )


def _fit(stored: Tensor, original: Tensor) -> Tensor:
    """`stored` with the row and column factors that bring it closest to `original`."""
    for _ in range(2):
        for dim in (0, 1):
            weight = (stored * original).sum(dim, keepdim=True)
            stored = stored * (weight / stored.square().sum(dim, keepdim=True).clamp(min=1e-30))
    return stored


def _plain_difference(name: str, error: float) -> list[AuditFinding]:
    """An unquantized tensor must be the source's; training leaves those alone."""
    if error == 0:
        return []
    return [
        finding("plain-tensor-changed", f"{name} is not quantized but differs by {error:.2g}", tensor=name)
    ]


def _strangeness(name: str, stored: Tensor, original: Tensor, error: float) -> list[AuditFinding]:
    """Weights that are no rounding of the source's, whatever the format, nor a training of them."""
    size, product = float(original.norm()), float((stored * original).sum())
    if size == 0:
        return []
    if product < _LEAST_COSINE * size * float(stored.norm()) or product <= 0:
        message = f"{name} has little in common with its source: relative error {error:.2f}"
        return [finding("weight-unlike-source", message, tensor=name, hint=_STRANGE_HINT)]
    times = product / size**2
    if not _LEAST_TIMES <= times <= 1 / _LEAST_TIMES:
        message = f"{name} is on average {times:.3g} times its source: its scales belong to other weights"
        return [finding("weight-scale-wrong", message, tensor=name, hint=_STRANGE_HINT)]
    return []
