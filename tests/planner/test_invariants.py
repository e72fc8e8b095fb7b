"""What holds for every model, layout and format: nothing is lost, made, negative or larger than its GPU."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bwdeploy.facts.formats import format_table
from bwdeploy.model.describe import DescribedModel
from bwdeploy.planner.memory import MemoryPlan, plan_memory
from bwdeploy.planner.weights.precision import weight_precisions
from tests.planner.planned import known, recipe

HUB_IDS = (
    "meta-llama/Llama-3.1-8B", "openai/gpt-oss-120b", "mistralai/Mixtral-8x7B-v0.1",
    "deepseek-ai/DeepSeek-R1", "nvidia/DeepSeek-R1-FP4", "meta-llama/Llama-4-Scout-17B-16E-Instruct",
    "HuggingFaceTB/SmolLM2-135M-Instruct",
)  # fmt: skip
MODELS = {hub_id: known(hub_id) for hub_id in HUB_IDS}
PATTERNS = ("*self_attn*", "*.layers.[0-3].*", "*experts.1*", "*layers.?.mlp*", "model.layers.1*", "*.7.*")


@st.composite
def deployments(draw: Any) -> tuple[DescribedModel, dict[str, Any]]:
    model = MODELS[draw(st.sampled_from(HUB_IDS))]
    tp = draw(st.sampled_from([1, 2, 3, 4, 8]))
    pp = draw(st.integers(1, 4))
    layout: dict[str, Any] = {
        "tp": tp,
        "pp": pp,
        "ep": draw(st.sampled_from([ep for ep in (1, 2, 4, 8) if tp % ep == 0])),
        "attention_dp": draw(st.booleans()),
        "gpus_per_node": tp * pp,
        "gpu": draw(st.sampled_from([None, "b200", "rtx-pro-6000"])),
    }
    cache = {"free_gpu_memory_fraction": draw(st.sampled_from([0.5, 0.9, 1.0]))}
    quantize: dict[str, Any] = {"method": draw(st.sampled_from(["none", "prequantized", "ptq"]))}
    if quantize["method"] == "ptq":
        quantize["format"] = draw(st.sampled_from(sorted(format_table().formats)))
        patterns = draw(st.lists(st.sampled_from(PATTERNS), max_size=2))
        words = st.sampled_from(["none", "fp8"])
        quantize["overrides"] = [{"modules": one, "format": draw(words)} for one in patterns]
    if quantize["method"] != "prequantized":
        model = model._replace(quantization=None)
    engine = {
        "max_batch_size": draw(st.sampled_from([1, 256])),
        "max_seq_len": draw(st.sampled_from([256, 8192, 131_072])),
        "llm_args": {"kv_cache_config": cache},
    }
    return model, {"layout": layout, "quantize": quantize, "engine": engine}


def plan(model: DescribedModel, sections: dict[str, Any], **layout: Any) -> MemoryPlan:
    found = plan_memory(recipe(**{**sections, "layout": sections["layout"] | layout}), model)
    assert found is not None
    return found


@settings(max_examples=120, deadline=None)
@given(deployments())
def test_weights_are_neither_lost_nor_made(given_: tuple[DescribedModel, dict[str, Any]]) -> None:
    model, sections = given_
    assert model.shape is not None
    stored = weight_precisions(recipe(**sections), model.shape, model.quantization)
    assert sum(part.weight.elements for part in stored) == sum(one.elements for one in model.shape.weights)
    served = sum(part.checkpoint_bytes for part in stored if not part.weight.mtp)
    found = plan(model, sections)
    held = sum(gpu.weights_bytes for gpu in found.per_gpu)
    assert held >= served * 0.9999
    if sections["layout"]["tp"] == 1 and not model.shape.tied_embeddings:
        assert held <= served * 1.01
    tp, pp = sections["layout"]["tp"], sections["layout"]["pp"]
    wider = plan(model, sections, tp=2 * tp, gpus_per_node=2 * tp * pp)
    assert wider.fullest.weights_bytes <= found.fullest.weights_bytes


@settings(max_examples=120, deadline=None)
@given(deployments())
def test_every_gpu_stays_within_its_memory(given_: tuple[DescribedModel, dict[str, Any]]) -> None:
    model, sections = given_
    layout = sections["layout"]
    found = plan(model, sections)
    copies = layout["tp"] if layout["attention_dp"] else 1
    assert len(found.per_gpu) == layout["tp"] * layout["pp"]
    for gpu in found.per_gpu:
        assert all(value >= 0 for value in gpu if isinstance(value, int))
        assert sum(row.bytes for row in gpu.by_role) == gpu.weights_bytes
        if gpu.kv_pool_bytes is None or gpu.capacity_bytes is None:
            assert layout["gpu"] is None
            assert found.max_tokens_in_kv is found.max_requests is None
            continue
        assert gpu.total_bytes <= max(gpu.capacity_bytes, gpu.fixed_bytes)
        assert (found.max_tokens_in_kv or 0) * gpu.kv_bytes_per_token <= gpu.kv_pool_bytes * copies
        assert (found.max_requests or 0) * gpu.kv_request_bytes <= gpu.kv_pool_bytes * copies


@settings(max_examples=60, deadline=None)
@given(deployments())
def test_a_cache_of_fewer_bits_is_smaller_by_as_much(given_: tuple[DescribedModel, dict[str, Any]]) -> None:
    model, sections = given_

    def per_token(word: str) -> int:
        engine = {**sections["engine"], "llm_args": {"kv_cache_config": {"dtype": word}}}
        return plan(model, {**sections, "engine": engine}).kv_bytes_per_token

    assert per_token("bfloat16") == 2 * per_token("fp8")
    assert 9 * per_token("bfloat16") == 32 * per_token("nvfp4")  # 4 bits and a byte for each 16 values
