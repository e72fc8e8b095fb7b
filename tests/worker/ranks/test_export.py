from __future__ import annotations

import json
import stat
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from bwdeploy.errors import RecipeError
from bwdeploy.pipeline.jobs import ExportRanks
from bwdeploy.recipe.schema import FormatOverride
from bwdeploy.worker.ranks import export
from bwdeploy.worker.ranks.checks import check_ranks
from bwdeploy.worker.ranks.source import read_source
from tests.worker.jobs_in_process import ignore_progress, quantize_tiny
from tests.worker.ranks.tensor_files import rank_tensors
from tests.worker.ranks.tiny_models import LLAMA3_ROPE, Made, make_tiny

if TYPE_CHECKING:
    from pathlib import Path

    from tests.worker.ranks.conftest import Cuts, Sources


def config_of(checkpoint: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((checkpoint / "config.json").read_text())
    return content


SCALING = {name: value for name, value in LLAMA3_ROPE.items() if name != "rope_theta"}


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("llama", {"rotary_base": 50000.0, "rotary_scaling": None, "attn_bias": False}),
        ("llama_tied", {"rotary_base": 500000.0, "rotary_scaling": SCALING, "tie_word_embeddings": True}),
        ("llama_biases", {"attn_bias": True, "mlp_bias": True, "vocab_size": 385}),
        ("mistral", {"head_size": 32, "norm_epsilon": 1e-5, "architecture": "MistralForCausalLM"}),
        ("qwen2", {"rotary_base": 1e6, "qwen_type": "qwen2", "attn_bias": True, "num_key_value_heads": 1}),
        ("qwen3", {"qwen_type": "qwen3", "attn_bias": False, "qk_layernorm": True}),
    ],
)
def test_configuration_says_what_modelopt_leaves_out(word: str, said: dict[str, Any], cut: Cuts) -> None:
    config = config_of(cut(Made(word, tp=2, pp=2)))
    assert {name: config[name] for name in said} == said
    assert config["mapping"] == {"world_size": 4, "tp_size": 2, "pp_size": 2}
    assert (config["dtype"], config["logits_dtype"]) == ("bfloat16", "float32")
    assert config["num_hidden_layers"] == 4
    assert config["producer"]["name"] == "modelopt"
    assert "rank" not in config


def test_tied_table_is_shared_only_where_one_rank_has_both_ends(cut: Cuts) -> None:
    assert config_of(cut(Made("llama_tied", tp=2)))["share_embedding_table"] is True
    assert config_of(cut(Made("llama_tied", tp=2, pp=2)))["share_embedding_table"] is False
    assert config_of(cut(Made("llama", tp=1)))["share_embedding_table"] is False


def test_checkpoint_is_readable_and_has_what_serving_needs(cut: Cuts, source_of: Sources) -> None:
    checkpoint = cut(Made("llama", tp=2, pp=2))
    names = {path.name for path in checkpoint.iterdir()}
    assert names >= {"config.json", *(f"rank{rank}.safetensors" for rank in range(4))}
    assert "quant_cfg.json" not in names
    for name in ("tokenizer.json", "chat_template.jinja", "generation_config.json"):
        assert (checkpoint / name).read_bytes() == (source_of("llama") / name).read_bytes()
    assert {stat.S_IMODE(path.stat().st_mode) for path in checkpoint.iterdir()} == {0o644}


def test_excluded_layers_are_those_of_every_stage(cut: Cuts) -> None:
    section = config_of(cut(Made("llama_tied", format="nvfp4_mlp_only", tp=2, pp=2)))["quantization"]
    assert section == {
        "quant_algo": "NVFP4",
        "group_size": 16,
        "kv_cache_quant_algo": None,
        "exclude_modules": [
            "transformer.layers.0.attention*",
            "transformer.layers.1.attention*",
            "lm_head",
        ],
    }


def test_rows_of_fewer_kv_heads_than_ranks_are_repeated(cut: Cuts) -> None:
    torch = import_module("torch")
    checkpoint = cut(Made("qwen2", tp=4))
    name = "transformer.layers.2.attention.qkv.weight"
    parts = [rank_tensors(checkpoint, rank)[name] for rank in range(4)]
    assert {tuple(part.shape) for part in parts} == {(48, 64)}
    assert all(torch.equal(part[16:], parts[0][16:]) for part in parts)
    assert not torch.equal(parts[1][:16], parts[0][:16])


def ranks(source: Path, out: Path, **changes: Any) -> Any:
    return quantize_tiny(source, out, **({"layout": "tensorrt_llm", "format": "nvfp4"} | changes))


def test_mixed_formats_are_described_layer_by_layer(source_of: Sources, tmp_path: Path) -> None:
    override = FormatOverride(modules="*.self_attn.*", format="fp8")
    result = ranks(source_of("llama"), tmp_path / "out", overrides=(override,), tp=2, pp=2, kv_cache="fp8")
    assert (result.quant_algo, result.kv_cache_quant_algo) == ("MIXED_PRECISION", "FP8")
    section = {"quant_algo": "MIXED_PRECISION", "kv_cache_quant_algo": "FP8"}
    assert config_of(tmp_path / "out")["quantization"] == section
    layers = json.loads((tmp_path / "out" / "quant_cfg.json").read_text())
    assert layers.pop("quantized_layers") == {
        f"transformer.layers.{layer}.{module}": words
        for layer in range(2)
        for module, words in {
            "attention.dense": {"quant_algo": "FP8"},
            "attention.qkv": {"quant_algo": "FP8"},
            "mlp.fc": {"quant_algo": "NVFP4", "group_size": 16},
            "mlp.gate": {"quant_algo": "NVFP4", "group_size": 16},
            "mlp.proj": {"quant_algo": "NVFP4", "group_size": 16},
        }.items()
    }
    assert layers == section


def refused(action: Any, *arguments: Any, **changes: Any) -> dict[str, str]:
    with pytest.raises(RecipeError) as caught:
        action(*arguments, **changes)
    return {finding.path: finding.message for finding in caught.value.findings}


@pytest.mark.parametrize(
    ("sizes", "ranks", "path", "message"),
    [
        ({}, (3, 1), "layout.tp", "4 attention heads do not divide by tp 3"),
        (
            {"num_attention_heads": 12, "num_key_value_heads": 6, "hidden_size": 96},
            (4, 1),
            "layout.tp",
            "6 KV heads neither divide by tp 4 nor divide it",
        ),
        ({}, (1, 3), "layout.pp", "4 layers do not divide by pp 3; ModelOpt exports equal stages only"),
        ({"intermediate_size": 130}, (4, 1), "layout.tp", "feed-forward width 130 does not divide by tp 4"),
        (
            {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}},
            (1, 1),
            "model.source",
            "its positions are scaled by yarn, which an engine of this architecture does not compute",
        ),
    ],
)
def test_model_that_cannot_be_cut_is_refused(
    sizes: dict[str, Any], ranks: tuple[int, int], path: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "source").mkdir()
    source = make_tiny(tmp_path / "source", "llama", **sizes)
    tp, pp = ranks
    request = ExportRanks(source=source, out=tmp_path, tp=tp, pp=pp, trust_remote_code=False)
    assert refused(export.run, request, ignore_progress) == {path: message}


def test_experts_are_refused(source_of: Sources, tmp_path: Path) -> None:
    request = ExportRanks(source=source_of("mixtral"), out=tmp_path, tp=1, pp=1, trust_remote_code=False)
    found = refused(export.run, request, ignore_progress)
    message = "ModelOpt's export for engines is not known to be right for MixtralForCausalLM"
    assert found == {"model.source": message}


def test_quantized_source_is_refused(cut: Cuts, tmp_path: Path) -> None:
    source = cut(Made("llama", format="nvfp4", pp=0))
    request = ExportRanks(source=source, out=tmp_path, tp=1, pp=1, trust_remote_code=False)
    message = "the source model is quantized, and ModelOpt cuts unquantized models only"
    assert refused(export.run, request, ignore_progress) == {"quantize.method": message}


def test_everything_about_format_and_layout_is_refused_at_once(source_of: Sources, tmp_path: Path) -> None:
    override = FormatOverride(modules="*.mlp.*", format="nvfp4_four_over_six")
    changes = {"format": "nvfp4_awq_lite", "overrides": (override,), "tp": 4, "pp": 3}
    assert refused(ranks, source_of("llama"), tmp_path / "out", **changes) == {
        "quantize.format": "nvfp4_awq_lite cannot go into an engine: trtllm-build has no layers for"
        " NVFP4_AWQ",
        "quantize.overrides[0].format": "nvfp4_four_over_six cannot go into an engine: ModelOpt computes the"
        " scales of the joined q, k and v anew there, which undoes 4/6",
        "layout.pp": "4 layers do not divide by pp 3; ModelOpt exports equal stages only",
    }


def test_blocks_that_a_cut_would_split_are_refused(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    source = make_tiny(tmp_path / "source", "llama", intermediate_size=176)
    message = "feed-forward width 176 over tp 2 is not a multiple of the 16 inputs that share a scale"
    assert refused(ranks, source, tmp_path / "out", tp=2) == {"layout.tp": message}


def test_per_channel_fp8_is_not_mixed(source_of: Sources, tmp_path: Path) -> None:
    override = FormatOverride(modules="*.mlp.*", format="nvfp4")
    changes = {"format": "fp8_per_channel_per_token", "overrides": (override,)}
    found = refused(ranks, source_of("llama"), tmp_path / "out", **changes)
    assert "replaces whole blocks of an engine" in found["quantize.overrides"]


def test_per_channel_fp8_names_the_last_norm_and_keeps_blocks_whole(
    source_of: Sources, tmp_path: Path
) -> None:
    whole = FormatOverride(modules="*.layers.1.mlp.*", format="none")
    changes = {"format": "fp8_per_channel_per_token", "overrides": (whole,)}
    ranks(source_of("llama"), tmp_path / "whole", **changes)
    excluded = config_of(tmp_path / "whole")["quantization"]["exclude_modules"]
    assert excluded == [
        "transformer.layers.1.mlp*",
        "transformer.layers.1.post_layernorm",
        "*ln_f",
        "lm_head",
    ]
    source = read_source(source_of("llama"), trust_remote_code=False)
    assert check_ranks(tmp_path / "whole", source) == []
    half = FormatOverride(modules="*.layers.1.mlp.down_proj", format="none")
    found = refused(ranks, source_of("llama"), tmp_path / "half", **(changes | {"overrides": (half,)}))
    assert "transformer.layers.1.mlp.proj alone stays in bf16" in found["quantize.overrides"]


def test_attention_that_loses_norms_is_refused(source_of: Sources, tmp_path: Path) -> None:
    found = refused(ranks, source_of("qwen3"), tmp_path / "out", format="fp8_per_channel_per_token")
    message = "an engine of Qwen3ForCausalLM in FP8_PER_CHANNEL_PER_TOKEN leaves out the norms of queries and"
    assert found == {"quantize": f"{message} keys without an error"}


def test_single_scales_have_one_dimension_as_tensorrt_llm_holds_them(cut: Cuts) -> None:
    tensors = rank_tensors(cut(Made("llama", "nvfp4", "nvfp4", tp=2, pp=2)), 0)
    scales = {name: tensor.shape for name, tensor in tensors.items() if tensor.numel() == 1}
    assert len(scales) == 2 * (5 * 2 + 3)
    assert set(scales.values()) == {(1,)}


def test_stages_that_differ_are_refused(source_of: Sources, tmp_path: Path) -> None:
    override = FormatOverride(modules="*.layers.3.mlp.*", format="none")
    found = refused(ranks, source_of("llama"), tmp_path / "out", overrides=(override,), pp=2)
    assert found["layout.pp"] == (
        "transformer.layers.1.mlp.fc is NVFP4 in stage 0 and not quantized in stage 1,"
        " but all stages share one description"
    )
    ranks(source_of("llama"), tmp_path / "one", overrides=(override,))
    excluded = config_of(tmp_path / "one")["quantization"]["exclude_modules"]
    assert excluded == ["transformer.layers.3.mlp*", "lm_head"]


NVFP4 = "{num_bits: [2, 1], block_sizes: {-1: 16, type: dynamic, scale_bits: [4, 3]}}"
SEARCHED = "{num_bits: [2, 1], block_sizes: {-1: 16, type: static, scale_bits: [4, 3]}}"
SEARCH = "{method: mse, fp8_scale_sweep: false, start_multiplier: 1.0, stop_multiplier: 1.5, step_size: 0.5}"


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        (("*lm_head.weight_quantizer", "{num_bits: [4, 3]}", "max"), "lm_head is quantized"),
        (("*mlp*weight_quantizer", NVFP4, "max"), "W4A16_NVFP4 has no engine"),
        (("*mlp*weight_quantizer", "{num_bits: 8, axis: 0}", "max"), "W8A16 has no engine"),
        (("*self_attn.*_proj.weight_quantizer", SEARCHED, SEARCH), "q_proj.weight_quantizer were searched"),
    ],
)
def test_what_only_a_modelopt_recipe_chose_is_refused_too(
    chosen: tuple[str, str, str], words: str, source_of: Sources, tmp_path: Path
) -> None:
    quantizer, cfg, algorithm = chosen
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        "metadata: {recipe_type: ptq, description: mine}\n"
        "quantize:\n"
        f"  algorithm: {algorithm}\n"
        "  quant_cfg:\n"
        "    - {quantizer_name: '*', enable: false}\n"
        f"    - {{quantizer_name: '{quantizer}', cfg: {cfg}}}\n"
    )
    changes = {"format": None, "recipe": f"file://{recipe}"}
    found = refused(ranks, source_of("llama"), tmp_path / "out", **changes)
    assert any(words in message for message in found.values()), found
