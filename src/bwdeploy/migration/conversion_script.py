"""How a script made the checkpoint that trtllm-build reads: convert_checkpoint.py or quantize.py.

From its options come the model, its quantization, the ranks and draft heads; one that a recipe does not hand
on is noted.
"""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import TYPE_CHECKING, NamedTuple

from bwdeploy.migration.deployment import DraftHeads, Quantized, WeightsClue
from bwdeploy.migration.found import Note
from bwdeploy.migration.quantization import algorithm_of_qformat
from bwdeploy.migration.shell_text import command_of, model_at
from bwdeploy.migration.weights import MAIN, given_source, source_of_place
from bwdeploy.recipe.uris import FILE_SCHEME

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Literal

_CONVERTERS = ("convert_checkpoint.py", "quantize.py")
_MODEL_OPTIONS = ("model_dir", "hf_model_dir", "hf_model", "model_path")
_HEADS: dict[str, Literal["eagle", "medusa"]] = {"eagle_model_dir": "eagle", "medusa_model_dir": "medusa"}
_DRAFT_LENGTHS = ("max_draft_len", "max_medusa_token_len")
_TREE_OPTIONS = frozenset({
    "num_eagle_layers", "max_non_leaves_per_layer", "num_medusa_heads", "fixed_num_medusa_heads",
    "num_medusa_layers",
})  # fmt: skip
_ALGORITHM_OPTIONS = frozenset({
    "qformat", "use_fp8", "enable_fp8", "use_fp8_rowwise", "use_weight_only", "weight_only_precision",
    "smoothquant", "fp8_kv_cache", "int8_kv_cache", "kv_cache_dtype", "calib_size", "calib_max_seq_length",
    "calib_dataset",
})  # fmt: skip
_READ = (
    frozenset({"tp_size", "pp_size", "moe_ep_size", *_MODEL_OPTIONS, *_HEADS, *_DRAFT_LENGTHS})
    | _ALGORITHM_OPTIONS
    | frozenset({"output_dir", "workers", "load_model_on_cpu", "load_by_shard", "device", "device_map"})
)
"""Options that come through, and those that say where and on what the converter ran."""
_TREE = 63
"""Drafted tokens of both converters when nobody says it."""
_WEIGHT_ONLY = {"int8": "W8A16", "int4": "W4A16", "int4_gptq": "W4A16_GPTQ", "int4_awq": "W4A16_AWQ"}
_MOST_RANKS = 1024


class Conversion(NamedTuple):
    """What the script that wrote the checkpoint was told."""

    options: dict[str, str]
    program: str
    """Empty: no such script was there."""

    def ranks(self, key: str) -> int:
        """The number of ranks that an option gives, 1 when it gives none."""
        text = self.options.get(key, "")
        return int(text) if text.isdecimal() and 0 < int(text[:5]) <= _MOST_RANKS else 1


def conversion_of(before: Sequence[Sequence[str]], checkpoint: str) -> Conversion:
    """The conversion that wrote the directory `checkpoint`, or one above it; the last one when none did."""
    found = [command for words in before if (command := command_of(words, _CONVERTERS))]
    every = [Conversion(_options(command[1:]), PurePath(command[0]).name) for command in found]
    wrote = [one for one in every if _holds(one.options.get("output_dir", ""), checkpoint)]
    return (wrote or every or [Conversion({}, "")])[-1]


def _holds(directory: str, checkpoint: str) -> bool:
    return bool(directory and checkpoint) and PurePath(checkpoint).is_relative_to(PurePath(directory))


def _options(words: Sequence[str]) -> dict[str, str]:
    """`--a b`, `--a=b` and bare `--a` (an empty value)."""
    found: dict[str, str] = {}
    key = ""
    for word in words:
        if word.startswith("--"):
            key, _, value = word[2:].partition("=")
            found[key] = value
        elif key and not found[key]:
            found[key] = word
    return found


def converted_weights(conversion: Conversion, fetched: Mapping[str, str], start: Path | None) -> WeightsClue:
    """The model that was converted; `fetched` says which directories the script downloaded."""
    for key in _MODEL_OPTIONS:
        place, option = conversion.options.get(key, ""), f"{conversion.program} --{key}"
        source = source_of_place(place, start=start) if place else ""
        model = model_at(place, fetched)
        if model and not source.startswith(FILE_SCHEME):
            return WeightsClue(f"hf://{model}@{MAIN}", f"{option}: downloaded before")
        if source:
            return WeightsClue(source, option)
    return WeightsClue()


def converted_heads(conversion: Conversion, start: Path | None) -> DraftHeads | None:
    """The EAGLE or Medusa heads that the converter put into the checkpoint."""
    options = conversion.options
    for key, method in _HEADS.items():
        if options.get(key):
            said = next((options[name] for name in _DRAFT_LENGTHS if options.get(name, "").isdecimal()), "")
            place = f"{conversion.program} --{key}"
            return DraftHeads(
                method, given_source(str((start or Path()) / options[key])), int(said or _TREE), place
            )
    return None


def converted_quantization(conversion: Conversion) -> Quantized:
    """How the converter quantized, in the words of TensorRT-LLM."""
    options, place = conversion.options, conversion.program
    if "qformat" in options:
        algorithm = algorithm_of_qformat(options["qformat"].split(",")[0])
        place = f"{place} --qformat {options['qformat']}"
    elif "use_fp8" in options or "enable_fp8" in options:
        algorithm = "FP8"
    elif "use_fp8_rowwise" in options:
        algorithm = "FP8_PER_CHANNEL_PER_TOKEN"
    elif "use_weight_only" in options:
        word = options.get("weight_only_precision") or "int8"
        algorithm = _WEIGHT_ONLY.get(word, word.upper())
    elif "smoothquant" in options:
        algorithm = "W8A8_SQ_PER_CHANNEL"
    else:
        algorithm = ""
    return Quantized(
        algorithm,
        _kv_cache(options),
        place or "the command line",
        samples=_size(options.get("calib_size", "")),
        seq_len=_size(options.get("calib_max_seq_length", "")),
        dataset=options.get("calib_dataset", ""),
    )


def _size(text: str) -> int:
    """Samples or tokens of calibration, 0 for what a recipe cannot say."""
    return int(text) if text.isdecimal() and len(text) <= 6 and 8 <= int(text) <= 100_000 else 0  # noqa: PLR2004


def conversion_notes(conversion: Conversion) -> Iterator[Note]:
    """What the converter was told and the recipe does not say."""
    for key, value in conversion.options.items():
        place, said = f"{conversion.program} --{key}", value or None
        if key in _READ:
            continue
        if key == "dtype":
            if value not in {"", "auto"}:
                message = "weights that are not quantized keep the type of the model's own configuration"
                yield Note("changed", place, value, message)
        elif key in _TREE_OPTIONS:
            message = "the tree of drafts says it, by default the built-in one"
            hint = "set serve.engine_parameters.eagle_choices or medusa_choices"
            yield Note("changed", place, said, message, hint)
        else:
            yield Note("lost", place, said, "a recipe does not hand this option to the converter")


def _kv_cache(options: Mapping[str, str]) -> str:
    if "fp8_kv_cache" in options:
        return "FP8"
    if "int8_kv_cache" in options:
        return "INT8"
    word = options.get("kv_cache_dtype", "")
    return word.upper() if word.lower() not in {"", "none", "auto", "float16", "bfloat16"} else ""
