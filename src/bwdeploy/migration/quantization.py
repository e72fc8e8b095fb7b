"""How an engine's weights were quantized → the section `quantize` of a recipe that makes them so again.

TensorRT-LLM's words (`FP8`, `W4A16_AWQ`) and those of quantize.py (`--qformat fp8`) are both read. What our
formats cannot say is lost, with the nearest way out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.facts.algorithms import canonical, title_of
from bwdeploy.facts.formats import format_table
from bwdeploy.migration.found import Note
from bwdeploy.model.describe import describe_source

if TYPE_CHECKING:
    from bwdeploy.migration.deployment import Quantized
    from bwdeploy.migration.draft import RecipeDraft

_PREFERRED = {"NVFP4": "nvfp4", "FP8": "fp8", "NVFP4_MLP_ONLY": "nvfp4_mlp_only"}
"""Of several formats with the same word; the last is Truss's."""
_QFORMATS = {
    "fp8": "FP8",
    "fp8_pc_pt": "FP8_PER_CHANNEL_PER_TOKEN",
    "nvfp4": "NVFP4",
    "int8_sq": "W8A8_SQ_PER_CHANNEL",
    "int4_awq": "W4A16_AWQ",
    "w4a8_awq": "W4A8_AWQ",
    "int8_wo": "W8A16",
    "int4_wo": "W4A16",
    "full_prec": "",
    "none": "",
}
_UNQUANTIZED = frozenset({"", "NO_QUANT", "NONE"})
_AWAY = "choose a format that Blackwell has kernels for: quantize.format nvfp4 or fp8 with method ptq"
_READY = "or name a checkpoint that is quantized so already with --model (method prequantized)"


def algorithm_of_qformat(word: str) -> str:
    """TensorRT-LLM's word for a `--qformat` of quantize.py; the word itself in capitals when it is new."""
    return _QFORMATS.get(word.lower(), word.upper())


def put_quantization(draft: RecipeDraft, quantized: Quantized, *, model: str) -> None:
    """Write `quantize` for weights that were `quantized` so, made of the model source `model`."""
    said = describe_source(model).quantization if model else None
    if said is not None:
        _put_prequantized(draft, quantized)
        return
    word = quantized.algorithm.upper()
    if word in _UNQUANTIZED:
        draft.put(
            ("quantize", "method"), "none", f"{quantized.place or 'the deployment'} names no quantization"
        )
        _note_lost_kv_cache(draft, quantized)
        return
    name = _format_of(word)
    if name is None:
        _put_none(draft, quantized)
        return
    draft.put(("quantize", "method"), "ptq")
    draft.put(("quantize", "format"), name, f"{quantized.place}: {quantized.algorithm}")
    _put_kv_cache(draft, quantized)
    _put_calibration(draft, quantized)


def _put_calibration(draft: RecipeDraft, quantized: Quantized) -> None:
    """Write how much text was used; which text is the recipe's own."""
    for key, value in (("samples", quantized.samples), ("seq_len", quantized.seq_len)):
        if value:
            draft.put(("quantize", "calibration", key), value, quantized.place)
    message = "the calibration text of the old weights is not known; the recipe has its own"
    if quantized.dataset:
        message = f"the old weights were calibrated on {quantized.dataset}; the recipe has its own text"
    hint = "set quantize.calibration to text like your traffic, and a gate"
    draft.note(Note("assumed", quantized.place, quantized.algorithm, message, hint))


def _format_of(word: str) -> str | None:
    fitting = [name for name, facts in format_table().formats.items() if facts.quant_algo.upper() == word]
    return _PREFERRED.get(word) or (fitting[0] if fitting else None)


def _put_prequantized(draft: RecipeDraft, quantized: Quantized) -> None:
    draft.put(("quantize", "method"), "prequantized", "the model named here is quantized already")
    if quantized.algorithm.upper() not in _UNQUANTIZED:
        draft.note(
            Note(
                "changed",
                quantized.place,
                quantized.algorithm,
                "the recipe serves the quantization that the model source comes with",
                "compare both, or name the bf16 model with --model",
            )
        )


def _put_none(draft: RecipeDraft, quantized: Quantized) -> None:
    draft.put(("quantize", "method"), "none", f"no format stands for {quantized.algorithm}")
    title = title_of(canonical(quantized.algorithm))
    message = f"no format of a recipe makes {title}, so the weights stay as the model has them"
    draft.note(Note("lost", quantized.place, quantized.algorithm, message, f"{_AWAY}, {_READY}"))
    _note_lost_kv_cache(draft, quantized)


def _put_kv_cache(draft: RecipeDraft, quantized: Quantized) -> None:
    word = quantized.kv_cache.lower()
    if word in format_table().kv_cache:
        draft.put(("quantize", "kv_cache"), word, f"KV cache: {quantized.kv_cache}")
    elif word not in {"", "none"}:
        _note_lost_kv_cache(draft, quantized)


def _note_lost_kv_cache(draft: RecipeDraft, quantized: Quantized) -> None:
    if quantized.kv_cache.lower() in {"", "none"}:
        return
    message = f"a recipe has no {quantized.kv_cache} KV cache with these weights"
    hint = "set quantize.kv_cache: fp8 together with a quantize.format"
    draft.note(Note("lost", f"{quantized.place} (KV cache)", quantized.kv_cache, message, hint))
