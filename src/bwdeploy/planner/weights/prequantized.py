"""What a quantized source says of its own formats: ModelOpt, Hugging Face FP8, MXFP4, GPTQ and AWQ.

Reads `quantization_config` of config.json or the content of hf_quant_config.json. A module that is named
nowhere keeps the general format; what cannot be read counts as not quantized, and `unread_quantization`
says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from bwdeploy.model.shape import Role
from bwdeploy.planner.weights import storage
from bwdeploy.planner.weights.module_patterns import ModuleList

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from bwdeploy.model.shape import Weight
    from bwdeploy.planner.weights.storage import Storage

_NEVER = frozenset({"embedding", "head", "router", "norm", "bias", "vision"})
"""Roles that stay as they are unless the source names them."""
_NVFP4_SCALARS = {"NVFP4": 2, "W4A8_NVFP4_FP8": 2, "W4A16_NVFP4": 1}
_INT4 = frozenset({"W4A16_AWQ", "W4A8_AWQ", "W4A16_GPTQ", "W4A16"})
_INT8 = storage.Storage("int8", 8, row_scale_bytes=4)
_FIXED = {
    "NVFP4_AWQ": storage.nvfp4_awq(),
    "MXFP4": storage.mxfp4(),
    "W4A16_MXFP4": storage.mxfp4(),
    "W4A8_MXFP4_FP8": storage.mxfp4(),
    "W4A8_MXFP4_MXFP8": storage.mxfp4(),
    "FP8": storage.fp8(),
    "FP8_PER_CHANNEL_PER_TOKEN": storage.fp8_row(),
    "FP8_BLOCK_SCALES": storage.fp8_block(),
    "FP8_PB_WO": storage.fp8_block(),
    "W8A16": _INT8,
    "W8A16_GPTQ": _INT8,
    "W8A8_SQ_PER_CHANNEL": _INT8,
}
"""Storage of each `quant_algo` of hf_quant_config.json, in capitals; those with a group size stand above."""
_IGNORE_KEYS = ("exclude_modules", "ignore", "modules_to_not_convert", "ignored_layers")


def source_storage(
    weights: Iterable[Weight], quantization: Mapping[str, Any]
) -> Iterator[tuple[Weight, Storage | None]]:
    """The parts of each group with the format that the source says; None: not quantized."""
    by_layer = quantization.get("quantized_layers")
    general = general_storage(quantization)
    ignored = _ignored(quantization)
    never = _NEVER if not _only_experts(quantization) else frozenset(get_args(Role)) - {"expert"}
    for weight in weights:
        if not weight.is_linear:
            yield weight, None
        elif isinstance(by_layer, dict):
            yield from _named_layers(weight, by_layer)
        elif general is None or weight.role in never:
            yield weight, None
        else:
            yield from ((part, None if kept else general) for part, kept in ignored.split(weight))


def general_storage(quantization: Mapping[str, Any]) -> Storage | None:
    """The format that modules have unless they are named."""
    algorithm = str(quantization.get("quant_algo") or "").upper()
    if algorithm == "W4A8_MXFP4_FP8" and kv_cache_word(quantization):
        # Calibrating the cache also measured the inputs.
        return storage.mxfp4(scalars=1)
    if algorithm:
        return _by_algorithm(algorithm, quantization.get("group_size"))
    read = _BY_METHOD.get(str(quantization.get("quant_method") or "").lower())
    return read(quantization) if read else None


def kv_cache_word(quantization: Mapping[str, Any] | None) -> str | None:
    """fp8 or nvfp4 when the source brings scales for its KV cache."""
    said = str((quantization or {}).get("kv_cache_quant_algo") or "").lower()
    if said in {"fp8", "nvfp4"}:
        return said
    scheme = (quantization or {}).get("kv_cache_scheme")
    is_fp8 = isinstance(scheme, dict) and scheme.get("num_bits") == 8 and scheme.get("type") == "float"  # noqa: PLR2004
    return "fp8" if is_fp8 else None


def unread_quantization(quantization: Mapping[str, Any] | None) -> bool:
    """Whether the source says something that is not understood here."""
    if not quantization or "quantized_layers" in quantization:
        return False
    return general_storage(quantization) is None


def _by_algorithm(algorithm: str, group_size: object) -> Storage | None:
    group = group_size if isinstance(group_size, int) and group_size > 0 else None
    if algorithm in _NVFP4_SCALARS:
        return storage.nvfp4(group or 16, scalars=_NVFP4_SCALARS[algorithm])
    if algorithm in _INT4:
        return storage.integer(4, group or 128)
    return _FIXED.get(algorithm)


def _mxfp4(_quantization: Mapping[str, Any]) -> Storage:
    return storage.mxfp4()


def _hugging_face_fp8(quantization: Mapping[str, Any]) -> Storage:
    match quantization.get("weight_block_size"):
        case [int(rows), int(columns)] if rows > 0 and columns > 0:
            return storage.fp8_block(rows, columns)
        case _:
            return storage.fp8()


def _integer(quantization: Mapping[str, Any]) -> Storage | None:
    bits, group = quantization.get("bits", quantization.get("w_bit")), quantization.get("group_size")
    if not isinstance(bits, int) or bits not in {4, 8}:
        return None
    return storage.integer(bits, group if isinstance(group, int) and group > 0 else 128)


def _compressed_tensors(quantization: Mapping[str, Any]) -> Storage | None:
    groups = quantization.get("config_groups")
    first = next(iter(groups.values()), None) if isinstance(groups, dict) else None
    weights = first.get("weights") if isinstance(first, dict) else None
    if not isinstance(weights, dict):
        return None
    match weights.get("num_bits"), weights.get("type"):
        case 4, "float":
            return storage.nvfp4(16)
        case 8, "float":
            return storage.fp8() if weights.get("strategy") == "tensor" else storage.fp8_row()
        case 4, "int":
            group = weights.get("group_size")
            return storage.integer(4, group if isinstance(group, int) and group > 0 else 128)
        case _:
            return None


_BY_METHOD: dict[str, Callable[[Mapping[str, Any]], Storage | None]] = {
    "fp8": _hugging_face_fp8,
    "mxfp4": _mxfp4,
    "gptq": _integer,
    "awq": _integer,
    "compressed-tensors": _compressed_tensors,
}
"""Readers of each `quant_method` of config.json."""


def _only_experts(quantization: Mapping[str, Any]) -> bool:
    """Hugging Face's own MXFP4 (gpt-oss) touches the expert matrices alone."""
    return str(quantization.get("quant_method") or "").lower() == "mxfp4"


def _ignored(quantization: Mapping[str, Any]) -> ModuleList:
    """What stays as it is; regular expressions of compressed-tensors are not read."""
    lists = (quantization.get(key) for key in _IGNORE_KEYS)
    named = (entry for found in lists if isinstance(found, list) for entry in found if isinstance(entry, str))
    return ModuleList.of(entry for entry in named if not entry.startswith("re:"))


def _named_layers(weight: Weight, by_layer: Mapping[str, Any]) -> Iterator[tuple[Weight, Storage | None]]:
    """MIXED_PRECISION: every quantized module stands in the list with its algorithm."""
    found: dict[Storage, list[int]] = {}
    rest: list[int] = []
    for layer in weight.layers or (0,):
        entry = _entry(weight, layer, by_layer)
        stored = (
            _by_algorithm(str(entry.get("quant_algo")).upper(), entry.get("group_size")) if entry else None
        )
        (found.setdefault(stored, []) if stored else rest).append(layer)
    for stored, layers in found.items():
        yield weight._replace(layers=tuple(layers) if weight.layers else ()), stored
    if rest:
        yield weight._replace(layers=tuple(rest) if weight.layers else ()), None


def _entry(weight: Weight, layer: int, by_layer: Mapping[str, Any]) -> dict[str, Any] | None:
    """Of the module itself, its first expert, or the block of experts that it belongs to."""
    name = weight.module.replace("{layer}", str(layer))
    block = name.partition(".experts")[0] + ".experts" if ".experts" in name else name
    for candidate in (name.replace("{expert}", "0"), block, f"{block}.*"):
        entry = by_layer.get(candidate)
        if isinstance(entry, dict):
            return entry
    return None
