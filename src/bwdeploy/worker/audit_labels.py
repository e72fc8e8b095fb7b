"""Audit of what the configuration says about each tensor: the label of a layer against what is stored.

A reader chooses a layer's kernel by its label, not by its bytes. So a layer that is stored in another format
than its label, or that one configuration file labels and the other does not, is read as noise or not at all.
"""

from __future__ import annotations

from fnmatch import fnmatch
from typing import TYPE_CHECKING

from bwdeploy.worker.audit_files import finding
from bwdeploy.worker.audit_tensors import EXPERTS, listed
from bwdeploy_runtime.quantization import QuantizationConfig, module_of, parse_quantization, read_json

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from bwdeploy.pipeline.jobs import AuditFinding
    from bwdeploy.worker.audit_tensors import TensorCensus
    from bwdeploy_runtime.quantization import Layout, TensorReader

_LAYOUTS: dict[str, Layout] = {
    "nvfp4": "nvfp4",
    "nvfp4_awq": "nvfp4",
    "w4a16_nvfp4": "nvfp4",
    "w4a8_nvfp4_fp8": "nvfp4",
    "fp8": "fp8",
    "fp8_per_channel_per_token": "fp8_channel",
    "fp8_pb_wo": "fp8_block",
    "mxfp4": "mxfp4",
    "w4a8_mxfp4_fp8": "mxfp4",
    "mxfp8": "mxfp8",
}
"""How each algorithm stores a weight; algorithms that are not here are not judged."""
_FP8_BLOCK = 128


def check_labels(
    reader: TensorReader, census: TensorCensus, quantization: QuantizationConfig
) -> Iterator[AuditFinding]:
    """Weights in another layout than their algorithm's, and labels without a weight."""
    wrong: dict[tuple[str, str], list[str]] = {}
    for name in census.quantized:
        module = module_of(name)
        algorithm = quantization.algorithm_of(module)
        layout = _LAYOUTS.get((algorithm or "").lower())
        if layout == "fp8_block" and max(reader.shape(name)) <= _FP8_BLOCK:
            layout = "fp8"  # a single block: its scale is a scalar
        if layout is not None and layout != census.layouts[name]:
            wrong.setdefault((str(algorithm), census.layouts[name]), []).append(module)
    for (algorithm, stored), modules in wrong.items():
        what = f"is labelled {algorithm} but stored as {stored}, so an engine reads noise"
        yield from listed("layout-differs", what, modules)
    if quantization.layers:
        yield from _check_listing(census, quantization)


def check_second_config(
    directory: Path, quantization: QuantizationConfig, linears: Collection[str]
) -> Iterator[AuditFinding]:
    """config.json against hf_quant_config.json, where a checkpoint has both: readers choose either."""
    section = read_json(directory / "config.json").get("quantization_config")
    if not isinstance(section, dict) or not (directory / "hf_quant_config.json").is_file():
        return
    other = parse_quantization(section)
    if (other.quant_algo or "").lower() != (quantization.quant_algo or "").lower():
        yield finding(
            "config-files-disagree",
            f"hf_quant_config.json says {quantization.quant_algo}, config.json says {other.quant_algo}",
        )
    differing = [
        name for name in sorted(linears) if _is_plain(name, quantization) is not _is_plain(name, other)
    ]
    what = "is quantized by one of hf_quant_config.json and config.json and excluded by the other"
    yield from listed("config-files-disagree", what, differing)


def _check_listing(census: TensorCensus, quantization: QuantizationConfig) -> Iterator[AuditFinding]:
    # Exports name routed experts one by one, by their block or by a pattern; engines know all three.
    quantized = {module_of(name) for name in census.quantized if EXPERTS not in name}
    listing = {name for name in quantization.layers if EXPERTS not in f"{name}."}
    yield from listed(
        "layer-not-listed",
        "is stored quantized but not in quantized_layers, so an engine reads it as unquantized",
        sorted(quantized - listing),
    )
    present = {module_of(name) for name in census.layouts}
    yield from listed(
        "quantized-layer-unknown",
        "is listed in quantized_layers but has no weight",
        sorted(listing - present),
    )


def _is_plain(name: str, quantization: QuantizationConfig) -> bool:
    if quantization.layers:
        return name not in quantization.layers
    return any(fnmatch(name, pattern) for pattern in quantization.exclude_modules)
