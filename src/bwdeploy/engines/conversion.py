"""The commands of TensorRT-LLM's own converters: quantize.py and the convert_checkpoint.py of each family.

Used where `engine.converter` is tensorrt_llm. What a recipe says and these scripts cannot do is told as
problems; `checks` shows them before anything runs. Which options each script has was read upstream; nothing
here was run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bwdeploy.engines.conversion_scripts import Script, script_of
from bwdeploy.engines.drafts import heads_of
from bwdeploy.engines.head_conversion import DRAFT, head_problems, head_words
from bwdeploy.errors import Finding, RecipeError
from bwdeploy.model.describe import DescribedModel, describe_model, way_to_know
from bwdeploy.recipe.places import dotted
from bwdeploy.recipe.uris import FILE_SCHEME

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.recipe.places import KeyPath
    from bwdeploy.recipe.schema import Recipe

__all__ = [
    "CALIBRATION", "DRAFT", "ConversionProblem", "conversion_command", "conversion_problems",
    "needs_calibration",
]  # fmt: skip

TRITON_EXAMPLES = "/app/examples"
"""In the Triton images with TensorRT-LLM: the last COPY of tensorrtllm_backend's
dockerfile/Dockerfile.triton.trt_llm_backend @0046c234e130; no image was opened to look."""
RELEASE_EXAMPLES = "/app/tensorrt_llm/examples"
"""In the images nvcr.io/nvidia/tensorrt-llm/release: TensorRT-LLM's docker/Dockerfile.multi @00f74add6b0d."""
PROGRAM = "python3"
CALIBRATION = "CALIBRATION"
"""Stands in the command for a directory that holds the calibration text and nothing else."""

_QFORMATS = {"nvfp4": "nvfp4", "fp8": "fp8", "fp8_per_channel_per_token": "fp8_pc_pt"}
"""Format of a recipe → --qformat of quantize.py @c8c6df08bd0e."""
_PREQUANTIZED = {"FP8": "--use_fp8", "NVFP4": "--use_nvfp4"}
"""Of a unified ModelOpt checkpoint; options of the Llama script @368f8f2ade00."""
_DTYPES = frozenset({"float16", "bfloat16", "float32"})
_QUANTIZE_TAKES = ("", "text")
"""Columns that quantize.py finds: it reads `text` and no other."""


class ConversionProblem(NamedTuple):
    """Something that a recipe says and the scripts cannot do."""

    path: KeyPath
    message: str
    hint: str


def conversion_command(
    recipe: Recipe, *, source: str, out: str, examples: str = TRITON_EXAMPLES
) -> tuple[str, tuple[str, ...]]:
    """Program and arguments that turn the model in `source` into a TensorRT-LLM checkpoint in `out`.

    Where the text of `quantize.calibration` is needed, `CALIBRATION` stands for a directory with it; `DRAFT`
    stands for the directory of `speculative.draft`.

    Raises:
        RecipeError: with everything that the scripts cannot do.
    """
    model = describe_model(recipe)
    problems = conversion_problems(recipe, model)
    if problems:
        raise RecipeError(
            tuple(
                Finding(
                    rule="conversion",
                    severity="error",
                    path=dotted(one.path),
                    message=one.message,
                    hint=one.hint,
                )
                for one in problems
            )
        )
    if _calibrates(recipe):
        return PROGRAM, (f"{examples}/quantization/quantize.py", *_quantize(recipe, source, out))
    script = script_of(_architecture(model), heads=_heads_kind(recipe))
    if script is None:  # the architecture is not known here; the fetched model may still have one
        message = "the model's architecture is not known, and with it its convert_checkpoint.py"
        hint = way_to_know(recipe.model.source)
        raise RecipeError(
            (Finding(rule="conversion", severity="error", path="model.source", message=message, hint=hint),)
        )
    return PROGRAM, (f"{examples}/{script.path}", *_convert(recipe, model, script, (source, out)))


def conversion_problems(recipe: Recipe, model: DescribedModel) -> tuple[ConversionProblem, ...]:
    """What `recipe` says and the scripts cannot do; empty with another converter or backend."""
    if recipe.engine.converter != "tensorrt_llm" or recipe.engine.backend != "tensorrt":
        return ()
    heads = heads_of(recipe)
    if heads is not None:
        found = [ConversionProblem(*one) for one in head_problems(recipe, heads, _architecture(model))]
        return (*found, *(() if _calibrates(recipe) else _convert_problems(recipe, model)))
    return tuple(_quantize_problems(recipe) if _calibrates(recipe) else _convert_problems(recipe, model))


def needs_calibration(recipe: Recipe) -> bool:
    """Whether the command has a word `CALIBRATION`."""
    return recipe.engine.converter == "tensorrt_llm" and _calibrates(recipe)


def _calibrates(recipe: Recipe) -> bool:
    quantize = recipe.quantize
    return quantize.quantizes or (quantize.method == "none" and quantize.kv_cache != "none")


def _quantize(recipe: Recipe, source: str, out: str) -> tuple[str, ...]:
    quantize, text, layout = recipe.quantize, recipe.quantize.calibration, recipe.layout
    kv_cache = ("--kv_cache_dtype", quantize.kv_cache) if quantize.kv_cache != "none" else ()
    return (
        "--model_dir", source,
        "--output_dir", out,
        "--dtype", "auto",
        "--qformat", _QFORMATS[quantize.format] if quantize.format is not None else "full_prec",
        *kv_cache,
        "--tp_size", str(layout.tp),
        "--pp_size", str(layout.pp),
        "--calib_dataset", CALIBRATION,
        "--calib_size", str(text.samples),
        "--calib_max_seq_length", str(text.seq_len),
        "--batch_size", str(text.batch_size),
        "--seed", str(text.seed),
    )  # fmt: skip


def _convert(
    recipe: Recipe, model: DescribedModel, script: Script, places: tuple[str, str]
) -> tuple[str, ...]:
    source, out = places
    layout, heads = recipe.layout, heads_of(recipe)
    words = [*script.fixed, script.model_flag, source, script.out_flag, out]
    words += ["--dtype", _dtype(model, script)]
    words += [script.tp_flag, str(layout.tp)]
    if script.pipeline:
        words += ["--pp_size", str(layout.pp)]
    if script.experts and layout.ep > 1:
        words += ["--moe_ep_size", str(layout.ep), "--moe_tp_size", str(layout.tp // layout.ep)]
    if heads is not None:
        words += head_words(heads, script, _architecture(model))
    if recipe.quantize.method == "prequantized" and script.name == "llama":
        words += _prequantized_flags(model)
    return tuple(words)


def _dtype(model: DescribedModel, script: Script) -> str:
    """A script without auto is told the model's own type."""
    known = model.shape.dtype if model.shape is not None else ""
    return known if script.dtype != "auto" and known in _DTYPES else script.dtype


def _prequantized_flags(model: DescribedModel) -> list[str]:
    """GPTQ and AWQ checkpoints are recognized by the script itself."""
    said = model.quantization or {}
    flags = [_PREQUANTIZED[said["quant_algo"]]] if said.get("quant_algo") in _PREQUANTIZED else []
    return [*flags, "--fp8_kv_cache"] if flags and said.get("kv_cache_quant_algo") == "FP8" else flags


def _quantize_problems(recipe: Recipe) -> Iterator[ConversionProblem]:
    quantize = recipe.quantize
    own = "set engine.converter: modelopt, which has it"
    if quantize.method in {"qat", "qad"}:
        yield _problem("method", f"quantize.py calibrates, it has no {quantize.method}", own)
    if quantize.recipe is not None:
        yield _problem("recipe", "quantize.py takes no ModelOpt recipe", own)
    elif quantize.format is not None and quantize.format not in _QFORMATS:
        formats = ", ".join(_QFORMATS)
        yield _problem(
            "format", f"quantize.py has no {quantize.format}", f"choose one of: {formats}; or {own}"
        )
    if quantize.overrides:
        yield _problem("overrides", "quantize.py quantizes all modules alike", own)
    if quantize.kv_cache == "nvfp4":
        yield _problem("kv_cache", "quantize.py has no NVFP4 cache", f"write fp8, or {own}")
    if recipe.layout.ep > 1:
        message = "quantize.py has no expert parallel ranks"
        yield ConversionProblem(("layout", "ep"), message, "set layout.ep: 1")
    yield from _text_problems(recipe)


def _text_problems(recipe: Recipe) -> Iterator[ConversionProblem]:
    text = recipe.quantize.calibration
    if not text.dataset.startswith(FILE_SCHEME):
        message = f"quantize.py reads text from a file only, not from {text.dataset}"
        hint = "write file://X.jsonl with the texts under the key text, or set engine.converter: modelopt"
        yield _problem("calibration.dataset", message, hint)
    if (text.text_field or "") not in _QUANTIZE_TAKES:
        message = f"quantize.py reads the column text, not {text.text_field}"
        yield _problem("calibration.text_field", message, "rename the column to text, and remove this")
    if text.chat_template:
        message = "quantize.py takes texts as they are, without a chat template"
        yield _problem(
            "calibration.chat_template", message, "write the template into the texts, and false here"
        )


def _convert_problems(recipe: Recipe, model: DescribedModel) -> Iterator[ConversionProblem]:
    architecture, layout = _architecture(model), recipe.layout
    if architecture is None:
        return
    script = script_of(architecture, heads=_heads_kind(recipe))
    if script is None:
        message = f"no convert_checkpoint.py is known for {architecture}"
        yield ConversionProblem(("engine", "converter"), message, "set engine.converter: modelopt")
        return
    if layout.pp > 1 and not script.pipeline:
        message = f"{script.path} cuts no pipeline stages"
        yield ConversionProblem(("layout", "pp"), message, "set layout.pp: 1, and raise layout.tp")
    if layout.ep > 1 and (not script.experts or layout.tp % layout.ep):
        message = f"{script.path} cannot cut {layout.tp} ranks into {layout.ep} groups of experts"
        yield ConversionProblem(("layout", "ep"), message, "set layout.ep: 1")
    if recipe.quantize.method == "prequantized":
        yield from _prequantized_problems(model, script)


def _prequantized_problems(model: DescribedModel, script: Script) -> Iterator[ConversionProblem]:
    said = model.quantization or {}
    algorithm, method = said.get("quant_algo"), said.get("quant_method")
    if script.heads or algorithm in script.reads or method in script.reads:
        return
    message = (
        f"{script.path} does not read a source quantized with {algorithm or method or 'an unknown method'}"
    )
    hint = "name the unquantized model and quantize it here, or set engine.backend: pytorch"
    yield ConversionProblem(("quantize", "method"), message, hint)


def _architecture(model: DescribedModel) -> str | None:
    return model.shape.architecture if model.shape is not None and model.shape.architecture else None


def _heads_kind(recipe: Recipe) -> str:
    heads = heads_of(recipe)
    return heads.kind if heads is not None else ""


def _problem(key: str, message: str, hint: str) -> ConversionProblem:
    return ConversionProblem(("quantize", *key.split(".")), message, hint)
