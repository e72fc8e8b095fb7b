"""How a plan changes with layout, cache, draft and limits."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from bwdeploy.planner.memory import plan_memory
from tests.planner.planned import SMALL_LLAMA, described, planned, recipe, unquantized

LLAMA = described(SMALL_LLAMA)
R1 = unquantized("deepseek-ai/DeepSeek-R1")
MIXTRAL = unquantized("mistralai/Mixtral-8x7B-v0.1")
HEAD_BYTES = 2 * 1000 * 256
BF16 = {"method": "none"}


def layout(**values: Any) -> dict[str, Any]:
    return {"gpus_per_node": 8, **values}


def by_role(plan: Any, role: str, gpu: int = 0) -> int:
    return sum(row.bytes for row in plan.per_gpu[gpu].by_role if row.role == role)


def test_roles_add_up_to_the_weights() -> None:
    gpu = planned(MIXTRAL, layout=layout(tp=2)).per_gpu[0]
    assert sum(row.bytes for row in gpu.by_role) == gpu.weights_bytes


def test_one_gpu_holds_the_checkpoint() -> None:
    plan = planned(LLAMA, quantize=BF16)
    assert plan.per_gpu[0].weights_bytes == plan.checkpoint_bytes


@pytest.mark.parametrize("tp", [2, 4, 8])
def test_tensor_parallel_splits_matrices_and_repeats_norms(tp: int) -> None:
    one, spread = planned(LLAMA, quantize=BF16), planned(LLAMA, quantize=BF16, layout=layout(tp=tp))
    assert len(spread.per_gpu) == tp
    for role in ("embedding", "head", "attention_output", "ffn"):
        assert by_role(spread, role) * tp == by_role(one, role)
    assert by_role(spread, "norm") == by_role(one, "norm")


def test_kv_heads_are_held_several_times_when_there_are_more_ranks() -> None:
    two, eight = (planned(LLAMA, quantize=BF16, layout=layout(tp=tp)) for tp in (2, 8))
    assert eight.kv_bytes_per_token_per_gpu == two.kv_bytes_per_token_per_gpu
    assert eight.kv_bytes_per_token_all_gpus == 4 * two.kv_bytes_per_token_all_gpus
    # 8 query heads of 32 over 8 ranks, but a whole key and a whole value head each.
    assert by_role(eight, "attention") == 6 * 2 * 256 * (32 + 32 + 32)
    assert any("each is held 4 times" in note for note in eight.notes)


def test_first_stages_hold_a_layer_more_and_the_ends_their_tables() -> None:
    plan = planned(LLAMA, quantize=BF16, layout=layout(pp=4))
    layers = [by_role(plan, "ffn", gpu) // (3 * 2 * 256 * 512) for gpu in range(4)]
    assert layers == [2, 2, 1, 1]
    assert [by_role(plan, "embedding", gpu) for gpu in range(4)] == [HEAD_BYTES, 0, 0, 0]
    assert [by_role(plan, "head", gpu) for gpu in range(4)] == [0, 0, 0, HEAD_BYTES]


def test_a_partition_of_the_pipeline_is_followed() -> None:
    engine = {"llm_args": {"pp_partition": [1, 5]}}
    plan = planned(LLAMA, layout=layout(pp=2), engine=engine)
    first, second = (by_role(plan, "ffn", gpu) for gpu in range(2))
    assert second == 5 * first


def test_tied_embeddings_stand_on_both_ends_of_a_pipeline() -> None:
    tied = described(SMALL_LLAMA | {"tie_word_embeddings": True})
    assert by_role(planned(tied), "head") == 0
    plan = planned(tied, layout=layout(pp=2))
    assert by_role(plan, "embedding", 0) == by_role(plan, "head", 1) == HEAD_BYTES


@pytest.mark.parametrize("pp", [7, 64])
def test_more_stages_than_layers_have_no_plan(pp: int) -> None:
    assert plan_memory(recipe(layout=layout(pp=pp)), LLAMA) is None


def test_unknown_shape_has_no_plan() -> None:
    assert plan_memory(recipe(), LLAMA._replace(shape=None)) is None


def test_expert_parallel_deals_out_experts_and_tensor_parallel_cuts_them() -> None:
    one = planned(MIXTRAL, quantize=BF16)
    for ep in (1, 2, 4, 8):
        spread = planned(MIXTRAL, quantize=BF16, layout=layout(tp=8, ep=ep))
        assert by_role(spread, "expert") * 8 == by_role(one, "expert")
        assert by_role(spread, "router") == by_role(one, "router")


def test_nvfp4_scales_are_padded_where_a_share_is_cut_small() -> None:
    whole = planned(LLAMA)
    cut = planned(LLAMA, layout=layout(tp=8))
    assert by_role(cut, "ffn") * 8 > by_role(whole, "ffn")


def test_attention_dp_repeats_attention_and_shards_experts_only() -> None:
    one = planned(R1, quantize=BF16)
    spread = planned(R1, quantize=BF16, layout=layout(tp=8, ep=8, attention_dp=True))
    for role in ("attention", "attention_output", "head", "embedding", "ffn", "shared_expert"):
        assert by_role(spread, role) == by_role(one, role)
    assert by_role(spread, "expert") * 8 == by_role(one, "expert")


def test_mla_projections_to_the_latent_stand_whole_on_every_rank() -> None:
    one, spread = planned(R1, quantize=BF16), planned(R1, quantize=BF16, layout=layout(tp=8))
    latent = 61 * 2 * 7168 * (1536 + 576)
    assert by_role(spread, "attention") == latent + (by_role(one, "attention") - latent) // 8
    assert spread.kv_bytes_per_token_per_gpu == one.kv_bytes_per_token_per_gpu


def test_deepseek_keeps_its_embedding_whole() -> None:
    spread = planned(R1, quantize=BF16, layout=layout(tp=8))
    assert by_role(spread, "embedding") == 2 * 129280 * 7168
    assert by_role(spread, "head") == 2 * 129280 * 7168 // 8


@pytest.mark.parametrize(("word", "bytes_per_head"), [("none", 64), ("fp8", 32), ("nvfp4", 18)])
def test_kv_cache_formats(word: str, bytes_per_head: int) -> None:
    plan = planned(LLAMA, quantize={"format": "nvfp4", "kv_cache": word})
    assert plan.kv_bytes_per_token == 6 * 2 * 2 * bytes_per_head


def test_the_engine_decides_on_the_kv_type_then_the_checkpoint() -> None:
    engine = {"llm_args": {"kv_cache_config": {"dtype": "fp8"}}}
    assert planned(LLAMA, engine=engine).kv_format == "fp8"
    brought = LLAMA._replace(quantization={"quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8"})
    assert planned(brought, quantize={"method": "prequantized"}).kv_format == "fp8"


def test_a_request_takes_whole_blocks() -> None:
    sizes = [
        planned(LLAMA, engine={"max_seq_len": length}).per_gpu[0].kv_request_bytes for length in (1000, 1024)
    ]
    assert sizes[0] == sizes[1]


def test_windows_count_only_when_the_runtime_is_told() -> None:
    model = unquantized("openai/gpt-oss-120b")
    full = planned(model, engine={"max_seq_len": 8192})
    assert any("max_attention_window is not set" in note for note in full.notes)
    told = {"max_seq_len": 8192, "llm_args": {"kv_cache_config": {"max_attention_window": [128, 8192]}}}
    windowed = planned(model, engine=told)
    assert windowed.per_gpu[0].kv_request_bytes * 2 * 8192 == full.per_gpu[0].kv_request_bytes * (8192 + 128)


def test_the_cache_takes_its_share_of_what_is_left() -> None:
    sizes = []
    for fraction in (0.5, 0.9):
        engine = {"llm_args": {"kv_cache_config": {"free_gpu_memory_fraction": fraction}}}
        gpu = planned(LLAMA, layout=layout(gpu="B200"), engine=engine).per_gpu[0]
        assert gpu.capacity_bytes is not None
        assert gpu.kv_pool_bytes == int((gpu.capacity_bytes - gpu.fixed_bytes) * fraction)
        assert gpu.total_bytes <= gpu.capacity_bytes
        sizes.append(gpu.total_bytes)
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "much", None])
def test_a_share_that_cannot_be_counts_as_the_default(value: object) -> None:
    engine = {"llm_args": {"kv_cache_config": {"free_gpu_memory_fraction": value}}}
    one, other = (planned(LLAMA, layout=layout(gpu="B200"), engine=given) for given in (engine, {}))
    assert one.per_gpu == other.per_gpu


def test_limits_of_the_cache_are_kept() -> None:
    engine = {"llm_args": {"kv_cache_config": {"max_tokens": 64_000}}}
    assert planned(LLAMA, layout=layout(gpu="B200"), engine=engine).max_tokens_in_kv == 64_000
    engine = {"llm_args": {"kv_cache_config": {"max_gpu_total_bytes": 2**30}}}
    assert planned(LLAMA, layout=layout(gpu="B200"), engine=engine).per_gpu[0].kv_pool_bytes == 2**30


def test_without_a_gpu_nothing_is_said_to_fit() -> None:
    plan = planned(LLAMA)
    assert (plan.max_tokens_in_kv, plan.max_requests, plan.per_gpu[0].kv_pool_bytes) == (None, None, None)
    assert plan.per_gpu[0].total_bytes == plan.per_gpu[0].required_bytes


def test_what_does_not_fit_has_room_for_nothing() -> None:
    plan = planned(unquantized("meta-llama/Llama-3.1-405B"), quantize=BF16, layout=layout(gpu="RTX5090"))
    assert (plan.max_tokens_in_kv, plan.max_requests) == (0, 0)


@pytest.mark.parametrize(("ranks", "mib"), [(1, 0), (2, 342), (4, 392), (8, 392), (16, 392)])
def test_communication_buffers(ranks: int, mib: int) -> None:
    plan = planned(MIXTRAL, layout=layout(tp=ranks))
    assert plan.per_gpu[0].communication_bytes == mib * 2**20


@pytest.mark.parametrize(
    ("engine", "graphs"),
    [
        ({"max_batch_size": 1}, 1),
        ({"max_batch_size": 64}, 33),
        ({"max_batch_size": 4096}, 34),
        ({"max_batch_size": 512, "llm_args": {"cuda_graph_config": {"max_batch_size": 512}}}, 36),
        ({"max_batch_size": 64, "llm_args": {"cuda_graph_config": {"enable_padding": True}}}, 11),
        ({"max_batch_size": 64, "llm_args": {"cuda_graph_config": {"batch_sizes": [1, 8, 64, 128]}}}, 3),
        ({"max_batch_size": 64, "llm_args": {"cuda_graph_config": None}}, 0),
        ({"max_batch_size": 64, "backend": "tensorrt"}, 0),
    ],
    ids=str,
)
def test_cuda_graphs(engine: dict[str, Any], graphs: int) -> None:
    plan = planned(LLAMA, engine=engine)
    assert plan.cuda_graphs == graphs
    assert plan.per_gpu[0].cuda_graph_bytes == graphs * 200_000_000


def test_an_engine_is_planned_by_its_own_parameters() -> None:
    parameters = {"kv_cache_free_gpu_mem_fraction": 0.5, "cuda_graph_mode": True, "cuda_graph_cache_size": 3}
    pools = [
        planned(LLAMA, engine=engine, layout=layout(gpu="H200"), **sections).per_gpu[0].kv_pool_bytes
        for engine, sections in (
            ({"backend": "tensorrt"}, {"serve": {"engine_parameters": parameters}}),
            ({"llm_args": {"kv_cache_config": {"free_gpu_memory_fraction": 0.5}}}, {}),
            ({"backend": "tensorrt", "llm_args": {"kv_cache_config": {"free_gpu_memory_fraction": 0.1}}}, {}),
            ({}, {}),
        )
    ]
    assert pools[0] == pools[1] != pools[2] == pools[3]
    plan = planned(LLAMA, engine={"backend": "tensorrt"}, serve={"engine_parameters": parameters})
    assert plan.cuda_graphs == 3


def test_graphs_never_take_more_than_the_cache_leaves() -> None:
    gpu = planned(LLAMA, layout=layout(gpu="RTX5090")).per_gpu[0]
    assert gpu.total_bytes == gpu.capacity_bytes


def test_mtp_layers_are_served_only_when_they_draft() -> None:
    without, drafting = planned(R1, quantize=BF16), planned(R1, quantize=BF16, speculative={"method": "mtp"})
    assert without.per_gpu[0].draft_bytes == 0
    assert without.per_gpu[0].weights_bytes == drafting.per_gpu[0].weights_bytes
    # Its copies of embedding and head are not loaded.
    assert drafting.per_gpu[0].draft_bytes == 2 * (13_463_426_304 - 2 * 129280 * 7168)
    assert drafting.kv_bytes_per_token == without.kv_bytes_per_token
    assert drafting.kv_bytes_per_token_per_gpu * 61 == without.kv_bytes_per_token_per_gpu * 62


@pytest.mark.parametrize(("version", "layers"), [("1.2.1", 3), ("1.3.0rc18", 3), ("1.3.0rc19", 1)])
def test_older_versions_size_an_eagle_cache_by_the_draft_length(version: str, layers: int) -> None:
    maverick = unquantized("meta-llama/Llama-4-Maverick-17B-128E-Instruct")
    drafted = {"method": "eagle3", "draft": "hf://nvidia/Nowhere@" + 40 * "0", "draft_len": 3}
    plan = planned(maverick, speculative=drafted, engine={"tensorrt_llm": version}, layout=layout(tp=8))
    assert plan.kv_bytes_per_token_per_gpu * 48 == plan.kv_bytes_per_token // 8 * (48 + layers)
    assert plan.per_gpu[0].draft_bytes > 0
    assert any("the draft's configuration is not on this machine" in note for note in plan.notes)


def test_a_draft_that_is_trained_is_counted_as_the_recipe_shapes_it() -> None:
    def draft_bytes(**training: int) -> int:
        drafted = {"method": "eagle3", "train": training, "draft_len": "auto"}
        plan = planned(LLAMA, speculative=drafted, engine={"tensorrt_llm": "1.3.0"})
        assert not [note for note in plan.notes if "draft" in note]
        return plan.per_gpu[0].draft_bytes

    whole = draft_bytes()
    assert whole - draft_bytes(draft_vocab=400) == 2 * (1000 - 400) * 256
    assert draft_bytes(ffn_width=1024) - whole == 2 * 3 * (1024 - 512) * 256
    assert whole < draft_bytes(layers=2) < 2 * whole


def test_a_length_that_is_yet_to_be_measured_is_planned_as_the_longest() -> None:
    def sized(draft_len: object) -> int:
        drafted = {"method": "eagle3", "train": {}, "measure": {"max_draft_len": 5}, "draft_len": draft_len}
        return planned(
            LLAMA, speculative=drafted, engine={"tensorrt_llm": "1.2.1"}
        ).kv_bytes_per_token_per_gpu

    assert sized("auto") == sized(5) > sized(3)


def test_heads_inside_an_engine_are_counted_for_each_token_of_their_chain() -> None:
    engine = {"backend": "tensorrt", "converter": "tensorrt_llm"}
    heads = {"draft": "file:///nowhere", "draft_len": 2}
    plans = [
        planned(
            LLAMA, quantize=BF16, engine=engine, speculative=heads | {"method": method} if method else None
        )
        for method in (None, "eagle", "medusa")
    ]
    without, eagle, medusa = (plan.kv_bytes_per_token_per_gpu for plan in plans)
    assert (eagle * 6, medusa) == (without * 7, without)
    layer = by_role(plans[0], "ffn") + by_role(plans[0], "attention") + by_role(plans[0], "attention_output")
    drafts = [plan.per_gpu[0].draft_bytes for plan in plans]
    assert drafts[0] == 0
    network = layer // 6 + 2 * HEAD_BYTES + 2 * 2 * 256 * 256
    assert 2 * network < drafts[1] < 2 * network + 10_000  # its norms
    assert drafts[2] == 2 * (2 * 256 * 256 + HEAD_BYTES)
    assert any("2 EAGLE networks are counted" in note for note in plans[1].notes)


def test_uneven_stages_are_shown_apart_and_like_ones_once() -> None:
    plan = planned(LLAMA, layout=layout(tp=2, pp=3))
    assert [count for _, count in plan.distinct_gpus] == [2, 2, 2]
    assert [count for _, count in planned(LLAMA, layout=layout(tp=8)).distinct_gpus] == [8]


def test_more_tokens_in_a_step_take_more_activations() -> None:
    sizes = [
        planned(MIXTRAL, engine={"max_num_tokens": tokens}).per_gpu[0].activation_bytes
        for tokens in (1024, 8192, 32768)
    ]
    assert all(small < large for small, large in pairwise(sizes))


def test_a_limit_on_expert_tokens_bounds_their_workspace() -> None:
    dp = layout(tp=8, ep=8, attention_dp=True)
    limited = {"llm_args": {"moe_config": {"max_num_tokens": 8192}}}
    free, bounded = (planned(R1, layout=dp, engine=engine) for engine in ({}, limited))
    assert bounded.per_gpu[0].activation_bytes * 4 < free.per_gpu[0].activation_bytes


def test_unified_memory_is_named() -> None:
    plan = planned(LLAMA, layout={"gpu": "dgx_spark"})
    assert any("shares its 119.7 GiB with the CPU" in note for note in plan.notes)


@pytest.mark.parametrize(
    "arguments",
    [
        {"kv_cache_config": {"max_attention_window": ["x", 0, -5]}},
        {"kv_cache_config": {"tokens_per_block": 0, "max_tokens": -1, "dtype": 7}},
        {"kv_cache_config": [1], "cuda_graph_config": "on", "moe_config": 3},
        {"cuda_graph_config": {"batch_sizes": ["a", None, 0], "max_batch_size": 10**30}},
        {"pp_partition": [0, 6]},
        {"pp_partition": "3,3"},
        {"speculative_config": {"decoding_type": 4}},
        {"speculative_config": {"decoding_type": "MTP", "num_nextn_predict_layers": "three"}},
    ],
    ids=str,
)
def test_nonsense_in_the_arguments_is_no_crash(arguments: dict[str, Any]) -> None:
    plan = planned(LLAMA, engine={"llm_args": arguments}, layout=layout(gpu="B200"))
    assert plan.max_tokens_in_kv
