"""GGUF file → plain Hugging Face directory: bf16 safetensors, tokenizer, chat template, generation config.

transformers reads the file (weights dequantized, rotary order restored); what it gets wrong is put right
afterwards from the GGUF's own metadata, see `repair`. A truncated file, another file type and an architecture
that transformers cannot read are refused before anything is loaded. No pickle and no remote code.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from bwdeploy.errors import ToolError
from bwdeploy.pipeline.jobs import ConvertGguf, ConvertGgufResult, Progress
from bwdeploy.worker import hf_directory
from bwdeploy.worker.gguf_header import read_header
from bwdeploy.worker.process import peak_memory_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# What transformers writes about the conversion itself, not about the model.
_RESIDUE = {
    "_model_name_or_path",
    "_name_or_path",
    "_from_model_config",
    "output_attentions",
    "output_hidden_states",
}
_TOKENIZER_KEYS = {
    "add_prefix_space",
    "add_bos_token",
    "add_eos_token",
    "bos_token",
    "eos_token",
    "unk_token",
    "pad_token",
    "chat_template",
    "legacy",
    "split_special_tokens",
    "extra_special_tokens",
}
_SPECIAL_TOKENS = ("bos", "eos", "unknown", "padding")


def run(request: ConvertGguf, report: Callable[[Progress], None]) -> ConvertGgufResult:
    """Convert `request.gguf` into the existing, empty directory `request.out`.

    Raises:
        ToolError: not a GGUF file, truncated, or of an unsupported architecture.
        ModuleNotFoundError: the models extra is not installed.
    """
    started = time.monotonic()
    report(Progress(phase="read", total=4))
    metadata = read_header(request.gguf).metadata
    architecture = _supported_architecture(request.gguf, metadata)

    import torch  # noqa: PLC0415 - seconds of import, only in the worker
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415

    place = {"pretrained_model_name_or_path": request.gguf.parent, "gguf_file": request.gguf.name}
    report(Progress(phase="tokenizer", done=1, total=4))
    tokenizer = AutoTokenizer.from_pretrained(**place)
    report(Progress(phase="weights", done=2, total=4))
    model = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.bfloat16)
    report(Progress(phase="save", done=3, total=4))
    tokenizer.save_pretrained(request.out)
    model.save_pretrained(request.out, max_shard_size="10GB")
    repair(request.out, metadata)
    return ConvertGgufResult(
        architecture=architecture,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        seconds=round(time.monotonic() - started, 2),
        peak_memory_bytes=peak_memory_bytes(),
    )


def _supported_architecture(path: Path, metadata: dict[str, Any]) -> str:
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES  # noqa: PLC0415

    architecture = str(metadata.get("general.architecture", ""))
    if architecture in GGUF_SUPPORTED_ARCHITECTURES:
        return architecture
    raise ToolError(
        f"{path} holds a {architecture or 'nameless'!r} model, which transformers cannot read from GGUF.",
        hint="Use the original weights (hf://); from GGUF it reads "
        f"{', '.join(sorted(GGUF_SUPPORTED_ARCHITECTURES))}.",
    )


def repair(directory: Path, metadata: dict[str, Any]) -> None:
    """Put right what the conversion loses, from the GGUF's metadata.

    The token ids (transformers takes `<|im_start|>` for end-of-text), a tokenizer class that transformers 4
    also knows, the context length, `rope_theta` at the top level, epsilons that became float32 noise, and
    the publisher's name in `_name_or_path`.
    """
    architecture = metadata["general.architecture"]
    context = metadata.get(f"{architecture}.context_length")
    ids = {
        word: int(metadata[f"tokenizer.ggml.{word}_token_id"])
        for word in _SPECIAL_TOKENS
        if f"tokenizer.ggml.{word}_token_id" in metadata
    }
    config_ids = {
        name: ids[word]
        for name, word in (("bos_token_id", "bos"), ("eos_token_id", "eos"), ("pad_token_id", "padding"))
        if word in ids
    }
    hf_directory.update_json(directory / "config.json", lambda config: _repaired_config(config) | config_ids)
    hf_directory.update_json(
        directory / "generation_config.json", lambda config: _without_origin(config) | config_ids
    )
    tokens = hf_directory.token_texts(directory, ids)
    hf_directory.update_json(
        directory / "tokenizer_config.json",
        lambda config: _repaired_tokenizer_config(config, tokens, context),
    )
    hf_directory.complete_config(directory)
    hf_directory.make_readable(directory)


def _repaired_config(config: dict[str, Any]) -> dict[str, Any]:
    repaired = _without_origin(config)
    for name in ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon"):
        if isinstance(repaired.get(name), float):
            # 1e-05 comes out of a float32 as 9.999999747378752e-06.
            repaired[name] = float(f"{repaired[name]:.6g}")
    return repaired


def _without_origin(config: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in _RESIDUE}


def _repaired_tokenizer_config(
    config: dict[str, Any], tokens: dict[str, str], context: int | None
) -> dict[str, Any]:
    repaired = {name: value for name, value in config.items() if name in _TOKENIZER_KEYS}
    repaired |= {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_input_names": ["input_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
    }
    if context is not None:
        repaired["model_max_length"] = int(context)
    names = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"}
    return repaired | {names[word]: text for word, text in tokens.items()}
