"""Audit of the scales: their values, which are small, and whether all that an engine reads are there."""

from __future__ import annotations

from collections import defaultdict
from importlib import import_module
from typing import TYPE_CHECKING

from bwdeploy.worker.audit_files import finding
from bwdeploy.worker.audit_tensors import listed, shortened
from bwdeploy_runtime.quantization import CheckpointError, is_scale, module_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from bwdeploy.pipeline.jobs import AuditFinding
    from bwdeploy.worker.audit_tensors import TensorCensus
    from bwdeploy_runtime.quantization import QuantizationConfig, TensorReader

_E8M0_NAN = 255
_FUSED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
# Fewer equal scales may be a coincidence.
_ENOUGH_SCALES = 16


def check_scales(
    reader: TensorReader, census: TensorCensus, quantization: QuantizationConfig
) -> Iterator[AuditFinding]:
    """Scales that are missing, zero, negative, not finite or suspiciously constant."""
    values = (
        entry
        for name in reader.names()
        if is_scale(name)
        for entry in _check_values(name, reader.tensor(name))
    )
    yield from shortened([*values, *_check_input_scales(reader, census, quantization)])
    yield from _check_kv_scales(reader, census, quantization)
    yield from _check_fused_scales(reader, census)


def _check_input_scales(
    reader: TensorReader, census: TensorCensus, quantization: QuantizationConfig
) -> Iterator[AuditFinding]:
    for name in census.quantized:
        module = module_of(name)
        if _needs_input_scale(quantization, module) and f"{module}.input_scale" not in reader:
            yield finding(
                "input-scale-missing", f"{module} has no input_scale", tensor=f"{module}.input_scale"
            )


def _check_values(name: str, scale: Tensor) -> Iterator[AuditFinding]:
    torch = import_module("torch")
    if scale.dtype == torch.uint8:
        if bool((scale == _E8M0_NAN).any()):
            yield finding("scale-not-finite", f"{name} holds the E8M0 code for NaN", tensor=name)
        values = scale.to(torch.float32)
    else:
        values = scale.to(torch.float32)
        if not bool(torch.isfinite(values).all()):
            yield finding("scale-not-finite", f"{name} holds NaN or infinity", tensor=name)
        elif bool((values <= 0).any()):
            count = int((values <= 0).sum())
            yield finding("scale-not-positive", f"{name} has {count} zero or negative scales", tensor=name)
    if (
        name.endswith(".weight_scale")
        and values.numel() >= _ENOUGH_SCALES
        and bool((values == values.flatten()[0]).all())
    ):
        yield finding(
            "scale-constant",
            f"all {values.numel()} scales of {name} are equal",
            severity="warning",
            tensor=name,
            hint="Was the layer calibrated, and are its weights not constant?",
        )


def _needs_input_scale(quantization: QuantizationConfig, module: str) -> bool:
    try:
        kind = quantization.activation_of(module)
    except CheckpointError:
        return False  # reported by the comparison, which cannot read it either
    algo = (quantization.algorithm_of(module) or quantization.quant_algo or "").upper()
    return kind == "nvfp4" or (kind == "fp8" and algo != "W4A8_MXFP4_FP8")


def _check_kv_scales(
    reader: TensorReader, census: TensorCensus, quantization: QuantizationConfig
) -> Iterator[AuditFinding]:
    if quantization.kv_cache_quant_algo is None:
        return
    wanted = [
        f"{module_of(name)}.{scale}"
        for name in census.layouts
        for leaf, scale in ((".k_proj.weight", "k_scale"), (".v_proj.weight", "v_scale"))
        if name.endswith(leaf)
    ]
    yield from listed("kv-scale-missing", "is missing", [name for name in wanted if name not in reader])


def _check_fused_scales(reader: TensorReader, census: TensorCensus) -> Iterator[AuditFinding]:
    groups: dict[tuple[str, str], set[float]] = defaultdict(set)
    for weight in census.quantized:
        parent, _, leaf = module_of(weight).rpartition(".")
        for members in _FUSED:
            for suffix in ("weight_scale_2", "input_scale"):
                scale = reader.optional(f"{module_of(weight)}.{suffix}") if leaf in members else None
                if scale is not None and scale.numel() == 1:
                    groups[f"{parent}.{{{','.join(members)}}}", suffix].add(float(scale))
    for (layers, suffix), values in groups.items():
        if len(values) > 1:
            yield finding(
                "fused-scales-differ",
                f"{layers} are fused by engines but have {len(values)} different {suffix}",
                severity="warning",
                tensor=layers,
            )
