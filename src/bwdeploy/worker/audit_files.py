"""Audit of the files around the weights: configuration, tokenizer, generation settings, file modes.

Reads names, JSON and modes; never a tensor.
"""

from __future__ import annotations

import stat
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any, Literal

from bwdeploy.facts.formats import format_table
from bwdeploy.pipeline.jobs import AuditFinding
from bwdeploy_runtime.quantization import CheckpointError, QuantizationConfig, read_json

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from bwdeploy.pipeline.jobs import Audit

MIXED = "MIXED_PRECISION"
_DEFAULT_ROPE_THETA = 10000.0
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")
_READABLE_BY_ALL = stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH


def finding(
    check: str,
    message: str,
    *,
    severity: Literal["error", "warning", "info"] = "error",
    tensor: str = "",
    hint: str = "",
) -> AuditFinding:
    """Shorthand for the checks of the audit."""
    return AuditFinding(check=check, severity=severity, tensor=tensor, message=message, hint=hint)


def check_files(request: Audit, quantization: QuantizationConfig) -> Iterator[AuditFinding]:
    """Everything that can be said without opening a weight file."""
    yield from _check_promise(request, quantization)
    # Without a source the checkpoint is its own measure: nothing can have been lost on the way.
    source = request.source or request.checkpoint
    yield from _check_config(request.checkpoint, source)
    yield from _check_tokenizer(request.checkpoint, source)
    yield from check_modes(request.checkpoint)


def check_exclusions(quantization: QuantizationConfig, modules: Collection[str]) -> Iterator[AuditFinding]:
    """Exclusion patterns that match none of the model's modules."""
    for pattern in quantization.exclude_modules:
        if not any(fnmatch(name, pattern) for name in modules):
            yield finding(
                "exclusion-matches-nothing",
                f"exclude_modules names {pattern!r}, which matches no module of the model",
                hint="Module names of another architecture, or a typing error.",
            )


def _check_promise(request: Audit, quantization: QuantizationConfig) -> Iterator[AuditFinding]:
    facts = format_table().formats.get(request.format or "")
    if facts is not None and quantization.quant_algo not in {facts.quant_algo, MIXED}:
        yield finding(
            "algorithm-differs",
            f"the recipe's format {request.format} is {facts.quant_algo}, "
            f"the checkpoint says {quantization.quant_algo}",
            # Overrides may have replaced the format everywhere it applied.
            severity="error" if quantization.quant_algo is None else "warning",
        )
    kv = format_table().kv_cache.get(request.kv_cache)
    wanted = kv.kv_cache_quant_algo if kv else None
    if wanted and quantization.kv_cache_quant_algo != wanted:
        yield finding(
            "kv-cache-differs",
            f"the recipe wants a {wanted} KV cache, the checkpoint says {quantization.kv_cache_quant_algo}",
        )


def _check_config(directory: Path, source: Path) -> Iterator[AuditFinding]:
    config = read_json(directory / "config.json")
    if _lacks_rope_theta(config):
        yield finding(
            "rope-theta-missing",
            "config.json has rope_parameters but no top-level rope_theta; older readers then take 10000.0",
            # Inherited, it is the publisher's choice of transformers version; dropped, it is our mistake.
            severity="warning" if _lacks_rope_theta(_json_or_empty(source / "config.json")) else "error",
            hint="Add rope_theta to config.json.",
        )
    if "dtype" not in config and "torch_dtype" not in config:
        yield finding("dtype-missing", "config.json names no dtype", severity="warning")
    separate = directory / "hf_quant_config.json"
    if separate.is_file() and "quantization_config" not in config:
        yield finding(
            "quantization-config-missing",
            "hf_quant_config.json exists, but config.json has no quantization_config",
            severity="warning",
        )


def _lacks_rope_theta(config: dict[str, Any]) -> bool:
    parameters = config.get("rope_parameters")
    if not isinstance(parameters, dict) or "rope_theta" in config:
        return False
    return parameters.get("rope_theta") != _DEFAULT_ROPE_THETA


def _check_tokenizer(directory: Path, source: Path) -> Iterator[AuditFinding]:
    if not any((directory / name).is_file() for name in _TOKENIZERS):
        yield finding("tokenizer-missing", "the checkpoint has no tokenizer files")
    if _has_chat_template(source) and not _has_chat_template(directory):
        yield finding("chat-template-missing", "the source has a chat template, the checkpoint has none")
    name = "generation_config.json"
    if (source / name).is_file() and not (directory / name).is_file():
        yield finding("generation-config-missing", f"the source has {name}, the checkpoint has none")
    tokenizer = _json_or_empty(directory / "tokenizer_config.json")
    if tokenizer.get("tokenizer_class") == "TokenizersBackend":
        yield finding(
            "tokenizer-class",
            "tokenizer_config.json names TokenizersBackend, which transformers 4 cannot load",
            severity="warning",
            hint="Write PreTrainedTokenizerFast.",
        )


def _has_chat_template(directory: Path) -> bool:
    if any((directory / name).is_file() for name in ("chat_template.jinja", "chat_template.json")):
        return True
    return bool(_json_or_empty(directory / "tokenizer_config.json").get("chat_template"))


def _json_or_empty(path: Path) -> dict[str, Any]:
    try:
        return read_json(path) if path.is_file() else {}
    except CheckpointError:
        return {}  # a damaged tokenizer file shows when the tokenizer is loaded


def check_modes(directory: Path) -> Iterator[AuditFinding]:
    """Files that a server under another user cannot read."""
    for path in sorted(directory.iterdir()):
        mode = path.stat().st_mode
        if path.is_file() and mode & _READABLE_BY_ALL != _READABLE_BY_ALL:
            yield finding(
                "file-mode",
                f"{path.name} has mode {stat.S_IMODE(mode):04o}; a server under another user cannot read it",
                severity="warning",
                hint=f"chmod 0644 {path}",
            )
