"""What the config.yaml of a Truss says whichever inference stack serves it: model, GPU, format, hosting."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from bwdeploy.migration.deployment import Quantized, WeightsClue
from bwdeploy.migration.found import Note
from bwdeploy.migration.weights import MAIN, source_of_place

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

SECTION = "trt_llm"
TRUSS = "basetenlabs/truss truss/base/trt_llm_config.py"
_QUANTIZED = {
    "no_quant": ("", ""),
    "fp8": ("FP8", ""),
    "fp8_kv": ("FP8", "FP8"),
    "fp4": ("NVFP4", ""),
    "fp4_kv": ("NVFP4", "FP8"),
    "fp4_mlp_only": ("NVFP4_MLP_ONLY", ""),
    "smooth_quant": ("W8A8_SQ_PER_CHANNEL", ""),
    "weights_int8": ("W8A16", ""),
    "weights_kv_int8": ("W8A16", "INT8"),
    "weights_int4": ("W4A16", ""),
    "weights_int4_kv_int8": ("W4A16", "INT8"),
}
"""Weights and KV cache. The cache of fp4_kv is FP8: the word says that it is quantized, not to what."""
_HOSTING = "it belongs to the hosting service"
_HOSTED = {
    "total_token_limit": _HOSTING,
    "request_default_max_tokens": "the server has a default of its own; serve.max_output_tokens bounds it",
    "served_model_name": "serve.model_name is the name of the Triton model",
    "webserver_default_route": _HOSTING,
    "skip_build_result": _HOSTING,
    "num_builder_gpus": "engine.build_flags.workers says how many ranks are built at once",
    "sequence_parallel_count": "no version has sequence parallel ranks",
    "lora_adapters": "name adapters with engine.build_flags.lora_dir, or engine.llm_args.lora_config",
    "strongly_typed": "engines are always strongly typed",
}
_LEAST, _MOST = 8, 100_000
"""Samples, and tokens of each, that any recipe takes."""
_GPU = re.compile(r"(?P<name>[A-Za-z0-9_]+?)(?:_\d+GB)?(?::(?P<count>\d+))?", re.ASCII)


def accelerator(config: Mapping[str, Any]) -> tuple[str, int]:
    """GPU and how many of it, `H100:4`; empty and 0 when none is named."""
    text = str(mapping_at(config, "resources").get("accelerator") or "")
    found = _GPU.fullmatch(text)
    return ("", 0) if found is None else (found["name"], int(found["count"] or 1))


def model_name(config: Mapping[str, Any], file: Path) -> str:
    """What the Truss calls itself, else its directory."""
    return str(config.get("model_name") or file.absolute().parent.name)


def weights_of(build: Mapping[str, Any], start: Path) -> WeightsClue:
    """What checkpoint_repository says of the model."""
    repository = mapping_at(build, "checkpoint_repository")
    source, name = str(repository.get("source") or "").upper(), str(repository.get("repo") or "")
    place = "trt_llm.build.checkpoint_repository"
    if source == "LOCAL":
        found = source_of_place(name, start=start)
        return WeightsClue(found, place) if found.startswith("file://") else WeightsClue()
    if source != "HF" or not name:
        return WeightsClue()
    return WeightsClue(f"hf://{name}@{repository.get('revision') or MAIN}", place)


def quantized_of(build: Mapping[str, Any]) -> Quantized:
    """What quantization_type says."""
    word = str(build.get("quantization_type") or "no_quant").lower()
    weights, kv_cache = _QUANTIZED.get(word, (word.upper(), ""))
    calibration = mapping_at(build, "quantization_config")
    return Quantized(
        weights,
        kv_cache,
        "trt_llm.build.quantization_type",
        samples=_whole_at(calibration, "calib_size"),
        seq_len=_whole_at(calibration, "calib_max_seq_length"),
        dataset=str(calibration.get("calib_dataset") or ""),
    )


def shared_notes(config: Mapping[str, Any]) -> Iterator[Note]:
    """What no stack of Truss shares with a model server of one's own."""
    section = mapping_at(config, SECTION)
    if names := ", ".join(map(str, mapping_at(config, "secrets"))):
        message = "a recipe holds no secrets, and reads none"
        yield Note("lost", "secrets", names, message, "set HF_TOKEN where the model is fetched")
    repository = mapping_at(mapping_at(section, "build"), "checkpoint_repository")
    place = "trt_llm.build.checkpoint_repository"
    if str(repository.get("source") or "").upper() == "HF" and not repository.get("revision"):
        message = f"no revision is named, so that it followed {MAIN}, and the recipe does"
        yield Note("assumed", f"{place}.revision", None, message, "pin the 40-hex commit in model.source")
    elif repository.get("source") and str(repository["source"]).upper() != "HF":
        message = "the weights lie in a store that a recipe does not read"
        yield Note(
            "lost", place, repository.get("repo"), message, "fetch them and give the directory with --model"
        )
    for part in ("build", "runtime"):
        for key, value in mapping_at(section, part).items():
            if key in _HOSTED:
                yield Note("lost", f"trt_llm.{part}.{key}", value, _HOSTED[key], source=TRUSS)


def mapping_at(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The mapping at `key`; empty when something else stands there."""
    found = data.get(key)
    return found if isinstance(found, dict) else {}


def _whole_at(data: Mapping[str, Any], key: str) -> int:
    """The number of samples or tokens at `key`, 0 when none stands there that a recipe can say."""
    value = data.get(key)
    plain = isinstance(value, int) and not isinstance(value, bool)
    return value if plain and _LEAST <= value <= _MOST else 0  # type: ignore[operator,return-value]


def count_at(data: Mapping[str, Any], key: str) -> int:
    """The count at `key`; 1 when none stands there."""
    value = data.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 1024 else 1  # noqa: PLR2004
