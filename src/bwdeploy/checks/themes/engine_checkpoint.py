"""Rules on the checkpoint that an engine is built from, where ModelOpt cuts it into ranks.

They speak up before the download what the worker would refuse after it. Heads and KV heads against tp are in
`layout_fit`, as they hold for every backend; what trtllm-build itself is told is in `build_flags`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.checks.rule import Problem, Rule, Subject
from bwdeploy.facts.formats import format_table
from bwdeploy.facts.rank_export import (
    NVFP4_BLOCK,
    RankSizes,
    lost_part_problem,
    mixing_problem,
    rank_export,
    size_conflicts,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.recipe.places import KeyPath

_ELSEWHERE = frozenset({"heads", "kv-heads"})
_OTHER_WAYS = "set engine.converter: tensorrt_llm, or engine.backend: pytorch"


def _architecture(subject: Subject) -> Iterator[Problem]:
    name = _named_architecture(subject)
    if _is_cut_by_modelopt(subject) and name and name not in rank_export().architectures:
        known = ", ".join(rank_export().architectures)
        message = f"ModelOpt's export for engines is not known to be right for {name}, only for {known}"
        yield Problem(("model", "source"), message, _OTHER_WAYS)


def _format(subject: Subject) -> Iterator[Problem]:
    if not _is_cut_by_modelopt(subject):
        return
    refused = rank_export().refused_formats
    words = ", ".join(word for word in format_table().formats if word not in refused)
    for path, word in _formats(subject):
        if word in refused:
            message = f"{word} cannot go into an engine: {refused[word]}"
            yield Problem(path, message, f"choose one of: {words}; or set engine.backend: pytorch")


def _mixture(subject: Subject) -> Iterator[Problem]:
    if not _is_cut_by_modelopt(subject):
        return
    table = format_table().formats
    message = mixing_problem({table[word].quant_algo for _, word in _formats(subject) if word in table})
    if message:
        yield Problem(("quantize", "overrides"), message, "keep one of them, or use fp8 instead")


def _lost_part(subject: Subject) -> Iterator[Problem]:
    if subject.recipe.engine.backend != "tensorrt":
        return
    table = format_table().formats
    for path, word in _formats(subject):
        algorithms = {table[word].quant_algo} if word in table else set()
        message = lost_part_problem(_named_architecture(subject), algorithms)
        if message:
            yield Problem(path, message, "use fp8, or set engine.backend: pytorch")


def _prequantized(subject: Subject) -> Iterator[Problem]:
    if subject.recipe.quantize.method == "prequantized" and _is_cut_by_modelopt(subject):
        message = "ModelOpt cuts models into ranks only while it quantizes them, not afterwards"
        hint = "set engine.converter: tensorrt_llm, or method: ptq with the bf16 model as model.source"
        yield Problem(("quantize", "method"), message, hint)


def _sizes(subject: Subject) -> Iterator[Problem]:
    sizes = _rank_sizes(subject)
    if sizes is None or not _is_cut_by_modelopt(subject):
        return
    layout, table = subject.recipe.layout, format_table().formats
    blocks = any(table[word].weights == "nvfp4" for _, word in _formats(subject) if word in table)
    for conflict in size_conflicts(sizes, tp=layout.tp, pp=layout.pp, block=NVFP4_BLOCK if blocks else None):
        if conflict.key not in _ELSEWHERE:
            yield Problem(tuple(conflict.path.split(".")), conflict.message, conflict.hint)


def _positions(subject: Subject) -> Iterator[Problem]:
    config = subject.model.config or {}
    scaling = config.get("rope_scaling") or config.get("rope_parameters")
    if not isinstance(scaling, dict) or not _is_cut_by_modelopt(subject):
        return
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if _named_architecture(subject) in rank_export().architectures and kind not in rank_export().rope_types:
        message = f"its positions are scaled by {kind}, which an engine of this architecture does not compute"
        yield Problem(("model", "source"), message, _OTHER_WAYS)


def _is_cut_by_modelopt(subject: Subject) -> bool:
    engine = subject.recipe.engine
    return engine.backend == "tensorrt" and engine.converter == "modelopt"


def _named_architecture(subject: Subject) -> str:
    names = (subject.model.config or {}).get("architectures")
    return str(names[0]) if isinstance(names, list) and names else ""


def _formats(subject: Subject) -> Iterator[tuple[KeyPath, str]]:
    quantize = subject.recipe.quantize
    if not quantize.quantizes:
        return
    if quantize.format is not None:
        yield ("quantize", "format"), quantize.format
    for index, override in enumerate(quantize.overrides):
        if override.format != "none":
            yield ("quantize", "overrides", index, "format"), override.format


def _rank_sizes(subject: Subject) -> RankSizes | None:
    """None while the shape is not known, or when its layers are not all alike."""
    shape = subject.shape
    if shape is None or shape.architecture not in rank_export().architectures or len(set(shape.layers)) != 1:
        return None
    attention, ffn = shape.layers[0]
    return RankSizes(
        layers=len(shape.layers),
        hidden=shape.hidden,
        heads=attention.heads,
        kv_heads=attention.kv_heads,
        head_size=attention.head_dim,
        ffn=ffn.width,
    )


RULES = (
    Rule(
        id="engine-export-architecture",
        severity="error",
        summary="ModelOpt cannot cut this architecture for engines",
        find=_architecture,
        source="ModelOpt 0.47 modelopt/torch/export/model_config_export.py, run with transformers 5.14",
        why="Experts stop the export with a TypeError under transformers 5; other architectures come out with"
        " fields of config.json that nobody has checked, or not at all.",
    ),
    Rule(
        id="engine-export-format",
        severity="error",
        summary="a format that no engine can hold",
        find=_format,
        source="tensorrt_llm/models/modeling_utils.py (preprocess_perlayer_weights)"
        " · tensorrt_llm/quantization/mode.py",
        why="ModelOpt writes the checkpoint all the same; trtllm-build then fails on its quant_algo or reads"
        " the scales as something else.",
    ),
    Rule(
        id="engine-export-mixture",
        severity="error",
        summary="FP8 per channel together with another format",
        find=_mixture,
        source="tensorrt_llm/quantization/quantize.py (fp8_rowwise_quantize)",
        why="TensorRT-LLM swaps whole attention and feed-forward blocks for it and leaves out single layers,"
        " whose scales would be dropped.",
    ),
    Rule(
        id="engine-export-lost-part",
        severity="error",
        summary="a format whose engine leaves out a part of this model",
        find=_lost_part,
        source="tensorrt_llm/quantization/layers.py (Fp8RowwiseAttention)"
        " · tensorrt_llm/models/modeling_utils.py (PretrainedModel.load)",
        why="trtllm-build warns of tensors that nothing takes and goes on; the engine then answers nonsense.",
    ),
    Rule(
        id="engine-export-prequantized",
        severity="error",
        summary="a quantized source that ModelOpt should cut",
        find=_prequantized,
        source="ModelOpt 0.47 modelopt/torch/export/model_config_export.py",
        why="Its export starts from live quantizers; a unified checkpoint has none, so the build stops after"
        " the download.",
    ),
    Rule(
        id="engine-export-sizes",
        severity="error",
        summary="sizes that ModelOpt cannot cut into these ranks",
        find=_sizes,
        source="ModelOpt 0.47 modelopt/torch/export/postprocess.py",
        why="Unequal stages and cut blocks stop the export after calibration; an uneven feed-forward block is"
        " padded and called wider than it is.",
    ),
    Rule(
        id="engine-export-positions",
        severity="error",
        summary="scaled positions that an engine does not compute",
        find=_positions,
        source="tensorrt_llm/models/llama/config.py · tensorrt_llm/layers/attention.py",
        why="The engine builds, and its answers fall apart beyond the original context.",
    ),
)
