"""Audit of a rank checkpoint: every rank there, one configuration that fits the source and the tensors.

What is wrong becomes findings with stable ids that begin with `rank-`; nothing is raised. The tensors
themselves are looked at in `check_tensors`. How far the weights are from their source is measured elsewhere,
on the joined checkpoint.
"""

from __future__ import annotations

import math
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from bwdeploy.facts.rank_export import rank_export, size_conflicts
from bwdeploy.worker.audit_files import check_modes, finding
from bwdeploy.worker.audit_tensors import listed
from bwdeploy.worker.ranks.check_tensors import check_tensors
from bwdeploy.worker.ranks.files import RankFiles, rank_file
from bwdeploy.worker.ranks.quantization import MIXED
from bwdeploy.worker.ranks.source import DEFAULT_ROPE_THETA, engine_config
from bwdeploy.worker.ranks.tensors import ALGORITHMS, linear_modules
from bwdeploy_runtime.quantization import CheckpointError, read_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from bwdeploy.pipeline.jobs import AuditFinding
    from bwdeploy.worker.ranks.source import SourceModel

UNJOINABLE = frozenset(
    {
        "rank-unreadable",
        "rank-missing",
        "rank-architecture-unknown",
        "rank-tensor-missing",
        "rank-shape-differs",
        "rank-dtype-differs",
        "rank-size-differs",
        "rank-size-uneven",
    }
)
"""With one of these, the ranks cannot be joined and compared."""
_SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_size",
)
_OTHER_IDS = dict.fromkeys(_SIZES, "rank-size-differs") | {
    "rotary_base": "rank-rotary-base",
    "rotary_scaling": "rank-rotary-scaling",
    "norm_epsilon": "rank-norm-epsilon",
}
_NOT_COMPARED = {
    "mapping",
    "dtype",
    "logits_dtype",
    "seq_length",
    "tie_word_embeddings",
    "share_embedding_table",
}
_EXACT = 1e-6


def check_ranks(directory: Path, source: SourceModel) -> list[AuditFinding]:
    """Everything that is wrong with the rank checkpoint in `directory` of the model `source`."""
    findings = list(_check_files(directory))
    if _is_unjoinable(findings):
        return findings
    try:
        with RankFiles(directory) as ranks:
            findings += [*_check_model(ranks, source), *check_modes(directory)]
            if not _is_unjoinable(findings):
                findings += check_tensors(ranks)
                findings += _check_quantization(ranks)
    except CheckpointError as error:
        findings.append(finding("rank-unreadable", str(error)))
    return findings


def _is_unjoinable(findings: list[AuditFinding]) -> bool:
    return any(one.check in UNJOINABLE for one in findings)


def _check_files(directory: Path) -> Iterator[AuditFinding]:
    try:
        cut = RankFiles(directory).cut
    except CheckpointError as error:
        yield finding("rank-unreadable", str(error))
        return
    layout = f"tp {cut.tp} · pp {cut.pp}"
    wanted = {rank_file(directory, rank).name for rank in range(cut.tp * cut.pp)}
    present = {path.name for path in directory.glob("rank*.safetensors")}
    for name in sorted(wanted - present):
        yield finding("rank-missing", f"{name} is missing; {layout} needs it")
    for name in sorted(present - wanted):
        yield finding("rank-unexpected", f"{name} belongs to no rank of {layout}")


def _check_model(ranks: RankFiles, source: SourceModel) -> Iterator[AuditFinding]:
    config, cut = ranks.config, ranks.cut
    architecture = config.get("architecture")
    if architecture not in rank_export().architectures:
        message = f"the tensors of {architecture} are not known here; only its files were checked"
        yield finding("rank-architecture-unknown", message, severity="warning")
        return
    defaults = _engine_defaults(config)
    for name, value in engine_config(source, tp=cut.tp, pp=cut.pp).items():
        said = config.get(name, defaults.get(name))
        if name not in _NOT_COMPARED and not _same(said, value):
            yield finding(
                _OTHER_IDS.get(name, "rank-config-differs"),
                f"config.json says {name} {said}, the source model has {value}",
                hint="An engine built from it would compute something else.",
            )
    if cut.tied != source.tied:
        words = {True: "tied", False: "not tied"}
        message = f"embeddings are {words[source.tied]} in the source, {words[cut.tied]} in config.json"
        yield finding("rank-tied-embedding", message)
    world = (config.get("mapping") or {}).get("world_size", 1)
    if world != cut.tp * cut.pp:
        message = f"mapping names {world} ranks, but tp {cut.tp} · pp {cut.pp} are {cut.tp * cut.pp}"
        yield finding("rank-config-differs", message)
    for conflict in size_conflicts(source.sizes, tp=cut.tp, pp=cut.pp, block=None):
        yield finding("rank-size-uneven", conflict.message)


def _engine_defaults(config: dict[str, Any]) -> dict[str, Any]:
    """What TensorRT-LLM takes where config.json is silent."""
    kind = str(config.get("qwen_type") or "")
    heads = config.get("num_attention_heads", 1)
    return {
        "rotary_base": DEFAULT_ROPE_THETA,
        "norm_epsilon": 1e-5,
        "attn_bias": kind.startswith("qwen"),
        "mlp_bias": False,
        "qk_layernorm": kind == "qwen3",
        "num_key_value_heads": heads,
        "head_size": config.get("hidden_size", 0) // heads,
    }


def _same(said: object, wanted: object) -> bool:
    if isinstance(said, dict) and isinstance(wanted, dict):
        return _scaling(said) == _scaling(wanted)
    if isinstance(said, int | float) and isinstance(wanted, int | float):
        return math.isclose(said, wanted, rel_tol=_EXACT)
    return said == wanted


def _scaling(words: dict[str, Any]) -> dict[str, Any]:
    kind = words.get("rope_type", words.get("type"))
    return {name: value for name, value in words.items() if name not in {"type", "rope_theta"}} | {
        "rope_type": kind
    }


def _check_quantization(ranks: RankFiles) -> Iterator[AuditFinding]:
    """Whether the description and the stored tensors agree on every linear layer of every stage."""
    section = ranks.config.get("quantization") or {}
    algorithm = section.get("quant_algo")
    listed_layers = _listed_layers(ranks.directory)
    if algorithm == MIXED and listed_layers is None:
        message = "config.json says MIXED_PRECISION, but quant_cfg.json is missing"
        yield finding("rank-quantization-missing", message)
        return
    excluded = section.get("exclude_modules") or []
    modules = linear_modules(ranks.cut)
    known = {tensor.name.rpartition(".")[0] for tensor in ranks.expected(0)}
    for pattern in excluded:
        if ".layers." in pattern and not any(fnmatchcase(module, pattern) for module in known):
            message = f"exclude_modules names {pattern!r}, which matches no layer of a stage"
            yield finding("rank-exclusion-matches-nothing", message)
    for stage in range(ranks.cut.pp):
        wrong: dict[str, list[str]] = {}
        for module in modules:
            stored = ALGORITHMS[ranks.storage(stage, module)]
            if listed_layers is not None:
                said = (listed_layers.get(module) or {}).get("quant_algo")
            else:
                said = None if any(fnmatchcase(module, pattern) for pattern in excluded) else algorithm
            if stored != said:
                what = f"is stored as {stored or 'bf16'} and described as {said or 'not quantized'}"
                wrong.setdefault(f"{what} (stage {stage})", []).append(module)
        for what, names in wrong.items():
            yield from listed("rank-quantization-differs", what, names)


def _listed_layers(directory: Path) -> Mapping[str, Any] | None:
    path = directory / "quant_cfg.json"
    layers = read_json(path).get("quantized_layers") if path.is_file() else None
    return layers or None
