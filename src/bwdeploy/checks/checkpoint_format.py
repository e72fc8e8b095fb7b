"""Which number formats the served checkpoint has: from the recipe, or from a prequantized source.

Reads only what is said, never weights. The bytes that follow from it are the planner's concern.
"""

from __future__ import annotations

import re
from fnmatch import translate
from typing import TYPE_CHECKING, Any, NamedTuple

from bwdeploy.facts.algorithms import canonical
from bwdeploy.facts.formats import format_table
from bwdeploy.facts.moe_backends import UNQUANTIZED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bwdeploy.checks.rule import Subject
    from bwdeploy.model.shape import ModelShape
    from bwdeploy.recipe.places import KeyPath
    from bwdeploy.recipe.schema import Quantize

_HALF_BYTE, _BYTE = 4, 8
_KV_BY_BITS = {_HALF_BYTE: "NVFP4", _BYTE: "FP8"}
_EXPERT = re.compile(r"(^|[.*_])experts?($|[.*_])")


class CheckpointFormat(NamedTuple):
    """Formats by TensorRT-LLM's names, `facts.algorithms`."""

    algorithms: tuple[str, ...]
    """Of the weights; the first is the main one. Empty: not quantized."""
    experts: str
    """Of the routed experts, if the model has any; BF16 when they are not quantized."""
    kv_cache: str | None
    """FP8 or NVFP4 when the checkpoint carries scales of the KV cache."""
    path: KeyPath
    """Where the recipe says it."""

    @property
    def main(self) -> str | None:
        """The format that most of it has."""
        return self.algorithms[0] if self.algorithms else None


def checkpoint_format(subject: Subject) -> CheckpointFormat | None:
    """The formats of the served checkpoint, None when nothing known says them.

    A ModelOpt recipe decides its format itself, and a source that is not on this machine may not say it.
    """
    quantize = subject.recipe.quantize
    if quantize.method == "prequantized":
        said = subject.model.quantization
        return _of_source(said) if said else None
    if quantize.method == "none":
        return CheckpointFormat((), UNQUANTIZED, None, ("quantize", "method"))
    return _of_recipe(quantize, subject.shape) if quantize.format is not None else None


def describe_source(said: Mapping[str, Any]) -> str:
    """The quantization of a source in a few words, for messages."""
    found = _of_source(said)
    return found.main if found is not None and found.main else str(said.get("quant_method", "some other way"))


def _of_recipe(quantize: Quantize, shape: ModelShape | None) -> CheckpointFormat:
    table = format_table()
    main = _algorithm_of(quantize.format)
    overridden = (_algorithm_of(one.format) for one in quantize.overrides if one.format != "none")
    kv_cache = table.kv_cache.get(quantize.kv_cache)
    return CheckpointFormat(
        algorithms=tuple(dict.fromkeys((main, *overridden))),
        experts=_expert_format(quantize, shape),
        kv_cache=kv_cache.kv_cache_quant_algo if kv_cache else None,
        path=("quantize", "format"),
    )


def _algorithm_of(word: str | None) -> str:
    return canonical(format_table().formats[word].quant_algo) if word and word != "none" else UNQUANTIZED


def _expert_format(quantize: Quantize, shape: ModelShape | None) -> str:
    """The last override that takes in experts decides, else the format itself, which quantizes experts."""
    weights = shape.weights if shape is not None else ()
    modules = [
        weight.module.replace("{layer}", str(weight.layers[0])).replace("{expert}", "0")
        for weight in weights
        if weight.role == "expert" and weight.layers
    ]
    word: str | None = quantize.format
    for override in quantize.overrides:
        matches = re.compile(translate(override.modules)).match
        if any(matches(name) for name in modules) or (
            shape is None and _EXPERT.search(override.modules.lower()) is not None
        ):
            word = override.format
    return _algorithm_of(word)


def _of_source(said: Mapping[str, Any]) -> CheckpointFormat | None:
    layers = said.get("quantized_layers")
    by_layer = _by_layer(layers) if isinstance(layers, dict) else {}
    main = _source_algorithm(said)
    if main is None and not by_layer:
        return None
    algorithms = tuple(dict.fromkeys(([main] if main else []) + list(by_layer.values())))
    return CheckpointFormat(
        algorithms=algorithms,
        experts=_source_experts(said, by_layer, main),
        kv_cache=_source_kv(said),
        path=("model", "source"),
    )


def _by_layer(layers: Mapping[str, Any]) -> dict[str, str]:
    """Format of each layer of a checkpoint with mixed precision."""
    return {
        name: canonical(row["quant_algo"])
        for name, row in layers.items()
        if isinstance(row, dict) and isinstance(row.get("quant_algo"), str)
    }


def _source_algorithm(said: Mapping[str, Any]) -> str | None:
    """Source: `ModelConfig.load_hf_quant_config` in tensorrt_llm/_torch/model_config.py."""
    named = said.get("quant_algo")
    if isinstance(named, str) and named.upper() != "MIXED_PRECISION":
        return canonical(named)
    method = said.get("quant_method")
    if method == "fp8":
        return "FP8_BLOCK_SCALES" if said.get("weight_block_size") else "FP8"
    if method == "compressed-tensors":
        return "NVFP4" if said.get("format") == "nvfp4-pack-quantized" else None
    known = ("mxfp4", "mxfp8", "nvfp4", "awq", "gptq")
    return canonical(method) if isinstance(method, str) and method in known else None


def _source_experts(said: Mapping[str, Any], by_layer: Mapping[str, str], main: str | None) -> str:
    for name, algorithm in by_layer.items():
        if _names_experts(name):
            return algorithm
    excluded = (said.get(key) for key in ("exclude_modules", "modules_to_not_convert", "ignore"))
    if any(_names_experts(name) for names in excluded if isinstance(names, list) for name in names):
        return UNQUANTIZED
    return main or UNQUANTIZED


def _names_experts(name: object) -> bool:
    return isinstance(name, str) and "shared" not in name and _EXPERT.search(name) is not None


def _source_kv(said: Mapping[str, Any]) -> str | None:
    named = said.get("kv_cache_quant_algo")
    if isinstance(named, str) and named.lower() not in {"", "none", "null"}:
        return named.upper()
    scheme = said.get("kv_cache_scheme")
    bits = scheme.get("num_bits") if isinstance(scheme, dict) else None
    return _KV_BY_BITS.get(bits) if isinstance(bits, int) else None


def is_moe(shape: ModelShape) -> bool:
    """Whether any layer sends tokens to experts."""
    return any(layer.ffn.kind == "moe" for layer in shape.layers)


def model_type(subject: Subject) -> str:
    """`model_type` of the configuration, empty while it is not known."""
    if subject.shape is not None:
        return subject.shape.model_type
    said = (subject.model.config or {}).get("model_type")
    return said if isinstance(said, str) else ""
