from __future__ import annotations

import json
import shutil
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from bwdeploy.errors import ToolError
from bwdeploy.recipe.schema import Evaluation, FormatOverride
from bwdeploy.worker.ranks.checks import check_ranks
from bwdeploy.worker.ranks.source import read_source
from tests.worker.jobs_in_process import audit_tiny, quantize_tiny
from tests.worker.ranks.tensor_files import Tensors, change_rank
from tests.worker.ranks.tiny_models import Made, slow

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bwdeploy.pipeline.jobs import AuditReport
    from tests.worker.ranks.conftest import Cuts, Sources

QKV = "transformer.layers.1.attention.qkv"
FC = "transformer.layers.0.mlp.fc"


def problems(report: AuditReport) -> dict[str, str]:
    return {finding.check: finding.message for finding in report.findings if finding.severity != "info"}


def inspect(checkpoint: Path, source: Path) -> dict[str, str]:
    """What the ranks alone show: everything but the distance from the source."""
    found = check_ranks(checkpoint, read_source(source, trust_remote_code=False))
    return {finding.check: finding.message for finding in found}


def audit(checkpoint: Path, source: Path, **changes: Any) -> AuditReport:
    return audit_tiny(checkpoint, source, layout="tensorrt_llm", **changes)


CUTS = [
    Made("llama", tp=2, pp=2),
    Made("llama_tied", tp=2),
    Made("llama_biases", tp=2, pp=2),
    Made("mistral", tp=2, pp=2),
    Made("qwen2", "nvfp4", tp=4),
    Made("llama", "nvfp4", "fp8", tp=2, pp=2),
    Made("llama", "nvfp4", "nvfp4", tp=2, pp=2),
    Made("llama_tied", "nvfp4_mlp_only", tp=2, pp=2),
    *slow(Made("qwen3", "nvfp4", tp=2), Made("llama", "nvfp4_omlp_only", pp=2)),
    Made("llama", "fp8", tp=2, pp=2),
    Made("llama", "fp8_per_channel_per_token", tp=2, pp=2),
]


@pytest.mark.parametrize("made", CUTS)
def test_every_checkpoint_of_ours_is_clean(made: Made, cut: Cuts, source_of: Sources) -> None:
    assert inspect(cut(made), source_of(made.model)) == {}


def test_audit_of_unquantized_ranks_finds_the_source_itself(
    cut: Cuts, source_of: Sources, scratch: Path
) -> None:
    report = audit(cut(Made("llama_biases", tp=2, pp=2)), source_of("llama_biases"))
    assert problems(report) == {}
    assert list(scratch.iterdir()) == []
    assert report.seconds.keys() >= {"inspect ranks", "join", "compare"}
    assert report.compared_tensors == 4 * 16 + 3
    assert report.quantized_perplexity == report.source_perplexity is not None
    assert report.worst_tensors[0].relative_error == 0


def test_audit_of_a_model_with_biases_takes_none_of_them_for_a_plain_layer(
    cut: Cuts, source_of: Sources
) -> None:
    report = audit(cut(Made("qwen2", format="nvfp4", tp=4)), source_of("qwen2"), format="nvfp4")
    assert problems(report) == {}
    assert 0.02 < report.worst_tensors[0].relative_error < 0.16


def test_audit_of_ranks_measures_what_the_audit_of_the_unified_export_measures(
    cut: Cuts, source_of: Sources
) -> None:
    source, evaluation = source_of("qwen3"), Evaluation(samples=2, seq_len=64)
    changes = {"format": "nvfp4", "evaluation": evaluation}
    ranks = audit(cut(Made("qwen3", format="nvfp4", tp=2)), source, **changes)
    unified = audit_tiny(cut(Made("qwen3", format="nvfp4", pp=0)), source, **changes)
    assert ranks.quantized_perplexity == unified.quantized_perplexity
    assert ranks.worst_tensors == unified.worst_tensors
    assert ranks.dtype_census == unified.dtype_census


def test_mixed_precision_is_clean_and_needs_its_second_file(source_of: Sources, tmp_path: Path) -> None:
    override = FormatOverride(modules="*.self_attn.*", format="fp8")
    out = tmp_path / "mixed"
    changes = {"layout": "tensorrt_llm", "tp": 2, "pp": 2, "overrides": (override,)}
    quantize_tiny(source_of("llama"), out, format="nvfp4", **changes)
    report = audit(out, source_of("llama"))
    assert problems(report) == {}
    assert report.quant_algo == "MIXED_PRECISION"
    (out / "quant_cfg.json").unlink()
    assert "rank-quantization-missing" in inspect(out, source_of("llama"))


def test_audit_needs_the_source(cut: Cuts) -> None:
    with pytest.raises(ToolError, match="needs the source model"):
        audit_tiny(cut(Made("llama")), None, layout="tensorrt_llm")


def set_value(name: str, change: Callable[[Any], None]) -> Callable[[Tensors], None]:
    return lambda tensors: change(tensors[name])


def put(index: Any, value: float) -> Callable[[Any], None]:
    return lambda tensor: tensor.__setitem__(index, value)


def move(old: str, new: str) -> Callable[[Tensors], None]:
    return lambda tensors: tensors.update({new: tensors.pop(old)})


def halve(name: str) -> Callable[[Tensors], None]:
    return lambda tensors: tensors.update({name: tensors[name][::2].clone()})


def widen(name: str) -> Callable[[Tensors], None]:
    return lambda tensors: tensors.update({name: tensors[name].float().half().char()})


@pytest.mark.parametrize(
    ("rank", "change", "check"),
    [
        (
            0,
            set_value(f"{FC}.weights_scaling_factor_2", lambda one: one.mul_(2)),
            "rank-scale-differs: rank 1",
        ),
        (
            2,
            set_value(f"{FC}.activation_scaling_factor", lambda one: one.fill_(float("nan"))),
            "rank-scale-not-finite: rank 2",
        ),
        (
            1,
            set_value(f"{QKV}.weights_scaling_factor_2", lambda one: one.zero_()),
            "rank-scale-not-positive",
        ),
        (
            3,
            set_value(f"{QKV}.weights_scaling_factor", lambda one: one.view(dtype=_uint8())[5].fill_(0x7F)),
            "rank-scale-not-finite: rank 3",
        ),
        (
            1,
            set_value("transformer.layers.0.input_layernorm.weight", put(3, 0.5)),
            "rank-replica-differs: input_layernorm",
        ),
        (
            0,
            set_value("transformer.vocab_embedding.weight", put((1, 1), float("inf"))),
            "rank-weight-not-finite",
        ),
        (
            0,
            set_value("transformer.layers.0.attention.kv_cache_scaling_factor", lambda one: one.fill_(0.5)),
            "rank-kv-scale: the larger",
        ),
        (3, lambda tensors: tensors.pop("lm_head.weight"), "rank-tensor-missing: lm_head.weight"),
        (1, move(f"{FC}.weight", "transformer.layers.7.mlp.fc.weight"), "rank-tensor-unexpected: layers.7"),
        (1, halve(f"{FC}.weights_scaling_factor"), "rank-shape-differs: (32, 4)"),
        (2, widen("transformer.layers.0.post_layernorm.weight"), "rank-dtype-differs: I8"),
    ],
)
def test_damaged_tensor_is_found(
    rank: int, change: Callable[[Tensors], None], check: str, damaged: Path, source_of: Sources
) -> None:
    change_rank(damaged, rank, change)
    name, _, words = check.partition(": ")
    assert words in inspect(damaged, source_of("llama"))[name]


def _uint8() -> Any:
    return import_module("torch").uint8


def test_missing_and_surplus_ranks_are_found(damaged: Path, source_of: Sources) -> None:
    (damaged / "rank2.safetensors").rename(damaged / "rank9.safetensors")
    report = audit(damaged, source_of("llama"))
    assert problems(report) == {
        "rank-missing": "rank2.safetensors is missing; tp 2 · pp 2 needs it",
        "rank-unexpected": "rank9.safetensors belongs to no rank of tp 2 · pp 2",
    }
    assert (report.quantized_perplexity, report.compared_tensors) == (None, 0)


@pytest.mark.parametrize("size", [0, 500, 20_000])
def test_truncated_rank_is_found(size: int, damaged: Path, source_of: Sources) -> None:
    path = damaged / "rank1.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    found = inspect(damaged, source_of("llama"))
    assert found.keys() == {"rank-unreadable"}
    assert "rank1.safetensors is missing or broken" in found["rank-unreadable"]


@pytest.mark.parametrize(
    ("one", "other", "check"),
    [
        # Of one stage they have the same names and shapes: only the source tells them apart.
        (2, 3, "plain-tensor-changed"),
        # Of two stages they have not.
        (1, 3, "rank-tensor-missing"),
    ],
)
def test_swapped_ranks_are_found(one: int, other: int, check: str, damaged: Path, source_of: Sources) -> None:
    first, second = damaged / f"rank{one}.safetensors", damaged / f"rank{other}.safetensors"
    bytes_of_first = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(bytes_of_first)
    report = audit(damaged, source_of("llama"), format="nvfp4", kv_cache="fp8")
    assert check in problems(report)
    if check == "plain-tensor-changed":
        assert report.worst_tensors[0].relative_error > 1


def test_copies_of_one_kv_head_must_be_equal(cut: Cuts, source_of: Sources, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(cut(Made("qwen2", format="nvfp4", tp=4)), checkpoint)
    # Rows 0 to 15 are this rank's own query head, 16 to 31 the keys that all four share.
    change_rank(checkpoint, 2, set_value(f"{QKV}.weight", put((20, 3), 0x11)))
    found = inspect(checkpoint, source_of("qwen2"))
    assert found["rank-replica-differs"] == (
        f"model.layers.1.self_attn.k_proj.weight in {QKV}.weight of rank 2 is not that of rank 0, but must be"
    )


def test_tied_head_must_be_the_embedding(cut: Cuts, source_of: Sources, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(cut(Made("llama_tied", tp=2, pp=1)), checkpoint)
    change_rank(checkpoint, 1, set_value("lm_head.weight", put((0, 0), 7.0)))
    found = inspect(checkpoint, source_of("llama_tied"))
    assert found == {
        "rank-tied-embedding": "lm_head.weight of rank 1 is not the embedding of rank 1, though they are tied"
    }
    for rank in range(2):
        change_rank(checkpoint, rank, lambda tensors: tensors.pop("lm_head.weight"))
    assert inspect(checkpoint, source_of("llama_tied")) == {}


@pytest.mark.parametrize(
    ("changes", "check", "words"),
    [
        ({"rotary_base": None}, "rank-rotary-base", "rotary_base 10000.0, the source model has 50000.0"),
        ({"rotary_scaling": {"type": "linear", "factor": 2.0}}, "rank-rotary-scaling", "has None"),
        ({"norm_epsilon": 1e-3}, "rank-norm-epsilon", "0.001"),
        ({"attn_bias": True}, "rank-config-differs", "attn_bias True"),
        ({"tie_word_embeddings": True}, "rank-tied-embedding", "not tied in the source"),
        ({"intermediate_size": 256}, "rank-size-differs", "256"),
        ({"num_hidden_layers": 10**9}, "rank-size-differs", "1000000000"),
        ({"mapping": {"world_size": 3, "tp_size": 2, "pp_size": 2}}, "rank-config-differs", "names 3 ranks"),
        ({"mapping": {"world_size": 4, "tp_size": 4, "pp_size": 1}}, "rank-shape-differs", ""),
        ({"mapping": {"tp_size": 10**9}}, "rank-unreadable", "lacks a size"),
        ({"mapping": {"tp_size": 0}}, "rank-unreadable", "tp_size 0"),
        ({"hidden_size": None}, "rank-unreadable", "hidden_size"),
        ({"architecture": "PhiForCausalLM"}, "rank-architecture-unknown", "only its files"),
    ],
)
def test_configuration_that_does_not_fit_is_found(
    changes: dict[str, Any], check: str, words: str, damaged: Path, source_of: Sources
) -> None:
    path = damaged / "config.json"
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))
    found = check_ranks(damaged, read_source(source_of("llama"), trust_remote_code=False))
    assert any(words in one.message for one in found if one.check == check)


@pytest.mark.parametrize(
    ("section", "check", "words"),
    [
        ({"quant_algo": None}, "rank-quantization-differs", "stored as NVFP4 and described as not quantized"),
        ({"quant_algo": "FP8"}, "rank-quantization-differs", "stored as NVFP4 and described as FP8"),
        ({"exclude_modules": ["transformer.layers.0.mlp*"]}, "rank-quantization-differs", "(stage 1)"),
        (
            {"exclude_modules": ["transformer.layers.3.mlp*"]},
            "rank-exclusion-matches-nothing",
            "no layer of a stage",
        ),
        ({"kv_cache_quant_algo": None}, "rank-tensor-unexpected", "cache_scaling_factor"),
    ],
)
def test_description_that_does_not_fit_is_found(
    section: dict[str, Any], check: str, words: str, damaged: Path, source_of: Sources
) -> None:
    path = damaged / "config.json"
    content = json.loads(path.read_text())
    content["quantization"] |= section
    path.write_text(json.dumps(content))
    found = check_ranks(damaged, read_source(source_of("llama"), trust_remote_code=False))
    assert any(words in one.message for one in found if one.check == check)


def test_unreadable_configuration_is_found(damaged: Path, source_of: Sources) -> None:
    (damaged / "config.json").write_text("{")
    assert inspect(damaged, source_of("llama")).keys() == {"rank-unreadable"}


def test_configuration_of_tensorrt_llm_itself_needs_no_word_of_ours(
    cut: Cuts, source_of: Sources, tmp_path: Path
) -> None:
    """Its own converters leave out what is TensorRT-LLM's default, and exclude modules that no layer has."""
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(cut(Made("qwen3", format="nvfp4", tp=2)), checkpoint)
    path = checkpoint / "config.json"
    content = json.loads(path.read_text())
    for name in ("qk_layernorm", "mlp_bias", "rotary_base", "producer", "logits_dtype"):
        del content[name]
    content["quantization"]["exclude_modules"] += ["*router", "*vocab_embedding"]
    path.write_text(json.dumps(content))
    assert inspect(checkpoint, source_of("qwen3")) == {}
