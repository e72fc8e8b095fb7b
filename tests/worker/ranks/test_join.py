from __future__ import annotations

import json
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from bwdeploy.errors import ToolError
from bwdeploy.pipeline.jobs import JoinRanks
from bwdeploy.worker.ranks import join
from bwdeploy_runtime.checkpoint import load_model
from tests.worker.jobs_in_process import ignore_progress
from tests.worker.ranks.tensor_files import change_rank, differing, tensors_of
from tests.worker.ranks.tiny_models import Made, slow

if TYPE_CHECKING:
    from pathlib import Path

    from tests.worker.ranks.conftest import Cuts, Sources

UNQUANTIZED = [
    Made("llama", tp=2, pp=2),
    Made("llama_tied", tp=2),
    Made("llama_biases", tp=2, pp=2),
    Made("mistral", tp=2, pp=2),
    Made("qwen2", tp=4),
    Made("qwen3", tp=2, pp=2),
    *slow(Made("llama"), Made("llama_tied", pp=4), Made("qwen2", tp=2, pp=2)),
]
QUANTIZED = [
    Made("qwen2", "nvfp4", tp=4),
    Made("llama_tied", "nvfp4_mlp_only", tp=2, pp=2),
    Made("llama", "fp8_per_channel_per_token", tp=2, pp=2),
    *slow(Made("qwen3", "nvfp4", tp=2), Made("llama", "nvfp4_omlp_only", pp=2)),
]


def joined(checkpoint: Path, source: Path, out: Path) -> dict[str, Any]:
    out.mkdir()
    join.run(JoinRanks(checkpoint=checkpoint, source=source, out=out), ignore_progress)
    return tensors_of(out)


@pytest.mark.parametrize("made", UNQUANTIZED)
def test_unquantized_ranks_join_to_the_source_byte_for_byte(
    made: Made, cut: Cuts, source_of: Sources, tmp_path: Path
) -> None:
    source = source_of(made.model)
    tensors = joined(cut(made), source, tmp_path / "joined")
    assert differing(tensors, tensors_of(source)) == set()


@pytest.mark.parametrize("made", QUANTIZED)
def test_quantized_ranks_join_to_the_unified_export_byte_for_byte(
    made: Made, cut: Cuts, source_of: Sources, tmp_path: Path
) -> None:
    unified = cut(Made(made.model, made.format, pp=0))
    tensors = joined(cut(made), source_of(made.model), tmp_path / "joined")
    assert differing(tensors, tensors_of(unified)) == set()


def test_fp8_ranks_differ_from_the_unified_export_only_by_common_scales_and_one_rounding(
    cut: Cuts, source_of: Sources, tmp_path: Path
) -> None:
    torch = import_module("torch")
    ranks = joined(cut(Made("llama", format="fp8", tp=2, pp=2)), source_of("llama"), tmp_path / "joined")
    unified, source = tensors_of(cut(Made("llama", format="fp8", pp=0))), tensors_of(source_of("llama"))
    assert ranks.keys() == unified.keys()
    for fused in (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj")):
        for name in (name for name in ranks if name.endswith(f"{fused[0]}.weight_scale")):
            group = [name.replace(fused[0], part) for part in fused]
            # One matrix in an engine, so one scale: the largest. The unified export keeps one for each.
            assert {float(ranks[one]) for one in group} == {max(float(unified[one]) for one in group)}
    for name, weight in ranks.items():
        scale = ranks.get(f"{name}_scale")
        if scale is None:
            continue
        # The unified export divides in bf16 and rounds twice; here it is divided in float32.
        wanted = (source[name].float() / scale.float()).to(torch.float8_e4m3fn)
        assert torch.equal(weight.view(torch.uint8), wanted.view(torch.uint8)), name


@pytest.mark.parametrize(("word", "algorithm"), [("fp8", "FP8"), ("nvfp4", "NVFP4")])
def test_kv_scales_are_those_that_engines_are_given(
    word: str, algorithm: str, cut: Cuts, source_of: Sources, tmp_path: Path
) -> None:
    checkpoint = cut(Made("llama", format="nvfp4", kv_cache=word, tp=2, pp=2))
    tensors = joined(checkpoint, source_of("llama"), tmp_path / "joined")
    unified = tensors_of(cut(Made("llama", format="nvfp4", kv_cache=word, pp=0)))
    names = {name for name in unified if name.endswith(("k_scale", "v_scale"))}
    assert len(names) == 8
    assert differing(tensors, unified) == names
    for name in names:
        # ModelOpt raises FP8 scales to 1 for engines, and divides those of NVFP4 by 6 more.
        wanted = 1.0 if word == "fp8" else float(unified[name]) / 6
        assert float(tensors[name]) == pytest.approx(wanted, rel=1e-6)
    said = json.loads((tmp_path / "joined" / "hf_quant_config.json").read_text())["quantization"]
    assert said["kv_cache_quant_algo"] == algorithm


def test_joined_shards_are_indexed_and_load(
    cut: Cuts, source_of: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(join, "SHARD_BYTES", 40_000)
    checkpoint = cut(Made("llama_tied", format="nvfp4_mlp_only", tp=2, pp=2))
    tensors = joined(checkpoint, source_of("llama_tied"), tmp_path / "joined")
    index = json.loads((tmp_path / "joined" / "model.safetensors.index.json").read_text())
    assert index["weight_map"].keys() == tensors.keys()
    assert len(set(index["weight_map"].values())) > 2
    model, info = load_model(tmp_path / "joined")
    assert (info.quant_algo, info.quantized_weights, info.emulated_inputs) == ("NVFP4", 12, 12)
    assert model.config.tie_word_embeddings


def test_ranks_without_a_tensor_cannot_be_joined(damaged: Path, source_of: Sources, tmp_path: Path) -> None:
    change_rank(damaged, 3, lambda tensors: tensors.pop("transformer.layers.1.mlp.proj.weight"))
    with pytest.raises(ToolError, match=r"rank 3 has no transformer\.layers\.1\.mlp\.proj\.weight"):
        joined(damaged, source_of("llama"), tmp_path / "joined")
