"""Published or counted sizes that the planner must reproduce, each within its stated tolerance."""

from __future__ import annotations

from typing import Any

import pytest

from bwdeploy.planner.memory.diffusion import plan_pipeline
from bwdeploy.planner.weights.precision import weight_precisions
from tests.planner.planned import known, planned, recipe, unquantized

R1 = "deepseek-ai/DeepSeek-R1"
LLAMA_70B = "meta-llama/Llama-3.3-70B-Instruct"
NEMOTRON = "nvidia/Nemotron-4-340B-Instruct"
QWEN = "Qwen/Qwen3-32B"
MAVERICK = "meta-llama/Llama-4-Maverick-17B-128E-Instruct"
SCOUT = "meta-llama/Llama-4-Scout-17B-16E-Instruct"
FLUX = "black-forest-labs/FLUX.1-dev"
BF16 = {"method": "none"}
NO_ATTENTION = [{"modules": "*self_attn*", "format": "none"}]
EIGHT_B200 = {"gpu": "B200", "gpus_per_node": 8, "tp": 8, "ep": 8}


@pytest.mark.parametrize(
    ("model", "quantize", "published_bytes"),
    [
        (R1, {"format": "nvfp4_mlp_only"}, 423_604_672_000),
        (R1, {"format": "nvfp4_omlp_only"}, 413_306_607_104),
        (LLAMA_70B, BF16, 141_107_412_992),
        (LLAMA_70B, {"format": "fp8"}, 72_656_371_712),
        (LLAMA_70B, {"format": "nvfp4"}, 42_709_041_152),
        (NEMOTRON, BF16, 682_051_276_800),
        (NEMOTRON, {"format": "fp8"}, 350_466_379_776),
        (NEMOTRON, {"format": "nvfp4"}, 205_397_987_328),
        (QWEN, BF16, 65_524_246_528),
        (QWEN, {"format": "fp8"}, 34_318_624_768),
        (QWEN, {"format": "nvfp4"}, 20_666_165_248),
        (MAVERICK, BF16, 803_167_562_752),
        (MAVERICK, {"format": "fp8", "overrides": NO_ATTENTION}, 407_560_809_472),
        (MAVERICK, {"format": "fp8"}, 404_540_910_592),
        (MAVERICK, {"format": "nvfp4_mlp_only"}, 234_482_854_912),
        (MAVERICK, {"format": "nvfp4"}, 230_141_750_272),
        (SCOUT, BF16, 217_283_587_072),
        (SCOUT, {"format": "fp8", "overrides": NO_ATTENTION}, 114_607_025_152),
        (SCOUT, {"format": "fp8"}, 111_587_126_272),
        (SCOUT, {"format": "nvfp4_mlp_only"}, 69_686_029_312),
        (SCOUT, {"format": "nvfp4"}, 65_344_924_672),
        (FLUX, BF16, 23_802_816_640),
        (FLUX, {"format": "fp8"}, 11_968_587_904),
        (FLUX, {"format": "nvfp4"}, 6_791_112_832),
        (FLUX, {"format": "nvfp4", "overrides": [{"modules": "*norm*", "format": "none"}]}, 11_430_668_416),
    ],
)
def test_checkpoint_sizes(model: str, quantize: dict[str, Any], published_bytes: int) -> None:
    plan = planned(unquantized(model), quantize=quantize)
    assert plan.checkpoint_bytes == pytest.approx(published_bytes, rel=1e-4)


def test_deepseek_r1_as_published_in_fp8() -> None:
    plan = planned(known(R1), quantize={"method": "prequantized"})
    assert plan.checkpoint_bytes == pytest.approx(688_586_727_753, rel=1e-3)


def test_deepseek_r1_0528_fp4_v2_as_the_guide_says() -> None:
    plan = planned(known("nvidia/DeepSeek-R1-0528-FP4-v2"), quantize={"method": "prequantized"})
    assert plan.checkpoint_bytes / 2**30 == pytest.approx(384.9, rel=1e-3)
    assert plan.kv_format == "fp8"


@pytest.mark.parametrize(
    ("model", "bf16", "fp8"),
    [
        (R1, 70_272, 35_136),
        (LLAMA_70B, 327_680, 163_840),
        (NEMOTRON, 589_824, 294_912),
        (QWEN, 262_144, 131_072),
        (MAVERICK, 196_608, 98_304),
        (SCOUT, 196_608, 98_304),
    ],
)
def test_kv_cache_of_one_token(model: str, bf16: int, fp8: int) -> None:
    assert planned(unquantized(model)).kv_bytes_per_token == bf16
    quantize = {"format": "nvfp4", "kv_cache": "fp8"}
    assert planned(unquantized(model), quantize=quantize).kv_bytes_per_token == fp8


def test_deepseek_r1_request_of_3072_tokens() -> None:
    plan = planned(unquantized(R1), engine={"max_seq_len": 3072})
    assert plan.per_gpu[0].kv_request_bytes / 1e6 == pytest.approx(215.9, rel=1e-3)


def test_deepseek_r1_weights_under_attention_dp() -> None:
    layout = EIGHT_B200 | {"attention_dp": True}
    plan = planned(unquantized(R1), quantize={"format": "nvfp4_mlp_only"}, layout=layout)
    assert len(plan.per_gpu) == 8
    assert plan.per_gpu[0].weights_bytes / 1e9 == pytest.approx(74.6, rel=5e-3)


def test_attention_dp_holds_eight_times_the_requests_on_eight_gpus() -> None:
    shared = planned(unquantized(R1), layout=EIGHT_B200)
    own = planned(unquantized(R1), layout=EIGHT_B200 | {"attention_dp": True})
    assert shared.kv_bytes_per_token_all_gpus == 8 * own.kv_bytes_per_token_all_gpus
    capped = {"max_seq_len": 3072, "llm_args": {"kv_cache_config": {"max_tokens": 400 * 3072}}}
    few = planned(unquantized(R1), layout=EIGHT_B200, engine=capped)
    many = planned(unquantized(R1), layout=EIGHT_B200 | {"attention_dp": True}, engine=capped)
    assert (few.max_requests, many.max_requests) == (400, 3200)


def test_deepseek_r1_0528_fp4_v2_on_eight_b200_as_the_guide_shows_it() -> None:
    plan = planned(
        known("nvidia/DeepSeek-R1-0528-FP4-v2"),
        quantize={"method": "prequantized"},
        layout=EIGHT_B200,
        engine={
            "max_seq_len": 4096,
            "max_num_tokens": 8192,
            "llm_args": {"kv_cache_config": {"free_gpu_memory_fraction": 0.7}},
        },
    )
    assert plan.per_gpu[0].total_bytes / 2**30 == pytest.approx(145, rel=0.05)


def test_nemotron_4_340b_in_fp8_fits_eight_h100() -> None:
    layout = {"gpu": "H100", "gpus_per_node": 8, "tp": 8}
    engine = {"max_seq_len": 4096}
    fp8 = planned(unquantized(NEMOTRON), quantize={"format": "fp8"}, layout=layout, engine=engine)
    assert fp8.max_requests is not None
    assert fp8.max_requests > 32
    bf16 = planned(unquantized(NEMOTRON), quantize=BF16, layout=layout, engine=engine)
    assert bf16.max_requests == 0


@pytest.mark.parametrize(
    ("dtype", "quantize", "default_gb", "low_vram_gb"),
    [
        ("float16", BF16, 39.3, 23.9),
        ("bfloat16", BF16, 35.7, 23.9),
        ("bfloat16", {"format": "fp8"}, 24.6, 14.9),
        ("bfloat16", {"format": "nvfp4"}, 21.67, 11.1),
    ],
)
def test_flux_pipeline_vram(
    dtype: str, quantize: dict[str, Any], default_gb: float, low_vram_gb: float
) -> None:
    shape = unquantized(FLUX).shape
    assert shape is not None
    shape = shape._replace(dtype=dtype)
    pipeline = plan_pipeline(shape, weight_precisions(recipe(quantize=quantize), shape, None))
    assert pipeline.default_bytes / 1e9 == pytest.approx(default_gb, rel=0.05)
    assert pipeline.low_vram_bytes / 1e9 == pytest.approx(low_vram_gb, rel=0.05)


def test_flux_plan_counts_the_whole_pipeline() -> None:
    plan = planned(unquantized(FLUX), quantize=BF16, layout={"gpu": "RTX5090"})
    assert plan.pipeline is not None
    assert plan.per_gpu[0].total_bytes == plan.pipeline.default_bytes
    assert plan.max_tokens_in_kv is None
