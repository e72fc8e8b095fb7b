"""Audit of the stored tensors: names, dtypes, shapes and size, from the headers alone.

Expected names and shapes come from the model that config.json describes, built without memory, and from the
source. The values of scales are checked in `audit_scales`.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from bwdeploy.facts.formats import format_table
from bwdeploy.worker.audit_files import MIXED, finding
from bwdeploy_runtime.checkpoint import build_model, is_prediction_layer
from bwdeploy_runtime.experts import name_in_model
from bwdeploy_runtime.quantization import (
    CheckpointError,
    QuantizationConfig,
    TensorReader,
    is_scale,
    layout_of,
    logical_shape,
    module_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from bwdeploy.pipeline.jobs import AuditFinding
    from bwdeploy_runtime.quantization import Layout

_BITS = {"F64": 64, "F32": 32, "I32": 32, "I64": 64, "BF16": 16, "F16": 16, "I16": 16}
_BITS |= {"U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "BOOL": 8}
EXPERTS = ".experts."
"""In the names of the tensors of routed experts."""
_MANY = 5
_TOLERANCE = 0.02


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What config.json asks for."""

    shapes: dict[str, tuple[int, ...]]
    modules: frozenset[str]
    linears: frozenset[str]
    tied: frozenset[str]
    config: dict[str, Any]

    def is_beyond(self, name: str) -> bool:
        """Whether a tensor belongs to layers that only speculative decoding uses."""
        return is_prediction_layer(name, self.config)


@dataclass(slots=True)
class TensorCensus:
    """What the headers say."""

    layouts: dict[str, Layout] = field(default_factory=dict)
    """Weights (no scales) by name."""
    dtypes: dict[str, dict[str, int]] = field(default_factory=dict)
    tensors: int = 0
    parameters: int = 0
    bits: int = 0
    quantized_parameters: int = 0
    quantized_bits: int = 0

    @property
    def quantized(self) -> list[str]:
        """Names of the weights that are not stored plainly."""
        return [name for name, layout in self.layouts.items() if layout != "plain"]


def model_shape(directory: Path, stored: Iterable[str], *, trust_remote_code: bool) -> ModelShape:
    """Names and shapes of the model that `directory`/config.json describes, by the names that are `stored`.

    Raises:
        CheckpointError: transformers cannot build it.
    """
    torch = import_module("torch")
    with torch.device("meta"):
        model = build_model(directory, dtype=torch.bfloat16, trust_remote_code=trust_remote_code)
    state = model.state_dict()
    own = {name for name, _ in model.named_parameters()} | {name for name, _ in model.named_buffers()}
    renamed = {name_in_model(name): name for name in stored if name_in_model(name) != name}
    return ModelShape(
        shapes={renamed.get(name, name): tuple(tensor.shape) for name, tensor in state.items()},
        modules=frozenset(name for name, _ in model.named_modules()) | set(map(module_of, renamed.values())),
        linears=frozenset(
            name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)
        ),
        tied=frozenset(state.keys() - own),
        config=model.config.to_dict(),
    )


def take_census(reader: TensorReader) -> tuple[TensorCensus, list[AuditFinding]]:
    """Count everything; weights in an unknown layout become findings."""
    census = TensorCensus()
    findings: list[AuditFinding] = []
    owners: dict[str, int] = defaultdict(int)
    for name in reader.names():
        dtype, shape = reader.dtype(name), reader.shape(name)
        bits = _BITS.get(dtype, 8) * _product(shape)
        census.tensors += 1
        census.bits += bits
        row = census.dtypes.setdefault(dtype, {"tensors": 0, "bytes": 0})
        row["tensors"] += 1
        row["bytes"] += bits // 8
        if is_scale(name):
            owners[module_of(name)] += bits
            continue
        try:
            census.layouts[name] = layout_of(reader, name)
        except CheckpointError as error:
            findings.append(finding("layout-unknown", str(error), tensor=name))
            continue
        census.parameters += _product(logical_shape(reader, name, census.layouts[name]))
    for name in census.quantized:
        census.quantized_parameters += _product(logical_shape(reader, name, census.layouts[name]))
        census.quantized_bits += 8 * _product(reader.shape(name)) + owners[module_of(name)]
    return census, findings


def check_names_and_shapes(
    reader: TensorReader, source: TensorReader | None, census: TensorCensus, shape: ModelShape
) -> Iterator[AuditFinding]:
    """Tensors that are missing, unexpected, or of another shape than config.json asks for."""
    # transformers 5 keeps routed experts in one tensor, exports keep them apart: not comparable by name.
    fused = any(EXPERTS in name for name in census.layouts.keys() ^ shape.shapes.keys())
    present = {name for name in census.layouts if not (fused and EXPERTS in name)}
    expected = {name for name in shape.shapes if not (fused and EXPERTS in name)}
    originals = {name for name in (source.names() if source else ()) if not is_scale(name)}
    if fused:
        yield finding("experts-not-checked", "shapes of routed experts were not compared", severity="info")
        experts = {name for name in originals if EXPERTS in name}
        originals -= experts
        if experts & census.layouts.keys():  # the source keeps them apart, too
            yield from listed("tensor-missing", "is missing", sorted(experts - census.layouts.keys()))
    missing = (expected | originals) - present - shape.tied
    lost = {name for name in missing if shape.is_beyond(name)}
    yield from listed("tensor-missing", "is missing", sorted(missing - lost))
    if lost:
        yield finding(
            "prediction-layers-missing",
            f"{len(lost)} tensors of the source's multi-token prediction layers were not exported",
            severity="warning",
            hint="speculative.method: mtp will not find them in this checkpoint.",
        )
    unexpected = sorted(name for name in present - expected if not shape.is_beyond(name))
    yield from listed("tensor-unexpected", "belongs to no module of the model", unexpected)
    for name in sorted(present & expected):
        stored = logical_shape(reader, name, census.layouts[name])
        if stored != shape.shapes[name]:
            yield finding(
                "shape-differs",
                f"{name} has shape {stored}, config.json asks for {shape.shapes[name]}",
                tensor=name,
            )


def check_leftovers(
    reader: TensorReader, source: TensorReader, census: TensorCensus
) -> Iterator[AuditFinding]:
    """Plain tensors that are stored wider than in the source."""
    wide = [
        name
        for name, layout in census.layouts.items()
        if layout == "plain"
        and reader.dtype(name) == "F32"
        and (name not in source or source.dtype(name) != "F32")
    ]
    yield from listed("float32-leftover", "is stored as F32, wider than its source", wide)


def check_quantized_set(
    census: TensorCensus, quantization: QuantizationConfig, shape: ModelShape
) -> Iterator[AuditFinding]:
    """Layers whose storage and whose configuration disagree on whether they are quantized."""
    if quantization.quant_algo is None:
        what = "is quantized, but the configuration says nothing"
        yield from listed("quantization-undeclared", what, census.quantized)
        return
    quantized = {module_of(name) for name in census.quantized}
    weights = {
        name for name, layout in census.layouts.items() if layout == "plain" and name.endswith(".weight")
    }
    plain = {module_of(name) for name in weights} & shape.linears
    if quantization.layers:
        yield from listed(
            "layer-not-quantized",
            "is listed in quantized_layers but stored plainly",
            sorted(plain & quantization.layers.keys()),
        )
        return
    excluded = {name for name in quantized | plain if _matches(name, quantization.exclude_modules)}
    yield from listed(
        "exclusion-contradicted", "is excluded but stored quantized", sorted(quantized & excluded)
    )
    yield from listed(
        "layer-not-quantized",
        "is stored plainly but not in exclude_modules, so an engine reads it as quantized",
        sorted(plain - excluded),
    )


def check_size(
    census: TensorCensus, reader: TensorReader, word: str | None, algo: str | None
) -> Iterator[AuditFinding]:
    """Bits per quantized weight against what the format promises."""
    facts = format_table().formats.get(word or "")
    if facts is None or not census.quantized_parameters or algo == MIXED:
        return
    # One float32 a row and three scalars a tensor are within any promise; they only count in tiny models.
    slack = sum(32 * (reader.shape(name)[0] + 3) for name in census.quantized)
    promised = facts.bits_per_weight * census.quantized_parameters
    if not promised * (1 - _TOLERANCE) <= census.quantized_bits <= promised * (1 + _TOLERANCE) + slack:
        yield finding(
            "bits-differ",
            f"quantized weights take {census.quantized_bits / census.quantized_parameters:.3f} bits each, "
            f"the format {word} promises {facts.bits_per_weight}",
        )


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    fnmatch = import_module("fnmatch").fnmatch
    return any(fnmatch(name, pattern) for pattern in patterns)


def listed(check: str, what: str, names: list[str]) -> Iterator[AuditFinding]:
    """A finding for each of the first few names, and one for how many more there are."""
    for name in names[:_MANY]:
        yield finding(check, f"{name} {what}", tensor=name)
    yield from _more(check, len(names) - _MANY)


def _more(check: str, count: int) -> Iterator[AuditFinding]:
    if count > 0:
        yield finding(check, f"{count} more: the same")


def shortened(findings: list[AuditFinding]) -> list[AuditFinding]:
    """The first few findings of each check, and one for how many more there are."""
    by_check: dict[str, list[AuditFinding]] = defaultdict(list)
    for entry in findings:
        by_check[entry.check].append(entry)
    return [
        kept
        for check, entries in by_check.items()
        for kept in (*entries[:_MANY], *_more(check, len(entries) - _MANY))
    ]


def _product(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count
