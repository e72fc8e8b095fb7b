"""Memory of the quantization step: which ways of running it fit."""

from __future__ import annotations

from typing import Any

import pytest

from bwdeploy.planner.memory.quantization import Mode, QuantizationPlan, plan_quantization
from tests.planner.planned import SMALL_LLAMA, described, recipe, unquantized

LLAMA_8B = unquantized("meta-llama/Llama-3.1-8B")
LLAMA_70B = unquantized("meta-llama/Llama-3.3-70B-Instruct")
R1 = unquantized("deepseek-ai/DeepSeek-R1")

SMOLLM2 = SMALL_LLAMA | {
    "hidden_size": 576,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "intermediate_size": 1536,
    "vocab_size": 49152,
    "tie_word_embeddings": True,
}
"""SmolLM2-135M."""


def step(model: Any, **sections: Any) -> QuantizationPlan:
    plan = plan_quantization(recipe(**sections), model)
    assert plan is not None
    return plan


def chosen(plan: QuantizationPlan) -> str | None:
    return plan.chosen.name if plan.chosen else None


@pytest.mark.parametrize(
    ("model", "gpu", "gpus", "name"),
    [
        (LLAMA_8B, "RTX5090", 1, "one GPU"),
        (LLAMA_70B, "B200", 1, "one GPU"),
        (LLAMA_70B, "H100", 8, "all 8 GPUs of a node"),
        (LLAMA_70B, "H100", 1, "CPU offload"),
        (R1, "B300", 8, "all 8 GPUs of a node"),
        (R1, "H100", 8, "CPU offload"),
    ],
)
def test_simplest_way_to_calibrate(model: Any, gpu: str, gpus: int, name: str) -> None:
    assert chosen(step(model, layout={"gpu": gpu, "gpus_per_node": gpus})) == name


def test_calibration_holds_the_unquantized_model() -> None:
    plan = step(LLAMA_70B)
    assert plan.modes[0].gpu_bytes > 141_107_412_992
    assert [mode.fits for mode in plan.modes] == [None] * len(plan.modes)


def test_larger_batches_take_more_memory() -> None:
    sizes = [
        step(LLAMA_8B, quantize={"format": "nvfp4", "calibration": {"batch_size": size}}).modes[0].gpu_bytes
        for size in (1, 64)
    ]
    assert sizes[0] < sizes[1]


def training(model: Any, method: str = "qad", **fields: Any) -> Mode:
    return step(model, quantize={"method": method, "format": "nvfp4", "training": fields}).modes[0]


def test_training_counts_its_own_batches_and_shares_them() -> None:
    small, double, large = (training(LLAMA_8B, batch_size=size).gpu_bytes for size in (8, 16, 64))
    assert large - small == 7 * (double - small)
    assert training(LLAMA_8B, batch_size=64, gpus=8).gpu_bytes < small


def test_a_search_calibrates() -> None:
    quantize = {"method": "auto"}
    assert step(LLAMA_8B, quantize=quantize).modes[0].gpu_bytes < 4 * 8_030_261_248


def test_offload_needs_host_memory_for_the_weights() -> None:
    offload = mode(step(LLAMA_70B), "CPU offload")
    assert offload.host_bytes == 141_107_412_992
    assert offload.gpu_bytes < 20e9


def test_one_layer_at_a_time_keeps_hidden_states_not_weights() -> None:
    layerwise = mode(step(LLAMA_70B), "one layer at a time")
    assert layerwise.host_bytes < 10e9


def test_training_holds_sixteen_bytes_of_what_is_trained_and_four_of_the_rest() -> None:
    linear, rest = 6_979_321_856, 8_030_261_248 - 6_979_321_856
    states = 16 * linear + 4 * rest
    alone = training(LLAMA_8B, "qat", batch_size=1, seq_len=8, gradient_checkpointing=True).gpu_bytes
    assert states < alone < 1.01 * states


def test_training_of_the_quickstart_takes_what_was_measured_on_an_h100() -> None:
    estimated = training(described(SMOLLM2), batch_size=16, seq_len=256).gpu_bytes
    assert estimated == pytest.approx(10_991_276_032, rel=0.1)


def test_activations_computed_anew_are_not_kept() -> None:
    kept = training(LLAMA_8B, seq_len=2048)
    anew = training(LLAMA_8B, seq_len=2048, gradient_checkpointing=True)
    assert anew.name == "one GPU, gradient checkpointing"
    assert kept.gpu_bytes - anew.gpu_bytes > 100e9


def test_training_that_does_not_fit_is_told_what_to_set() -> None:
    quantize = {"method": "qad", "format": "nvfp4", "training": {"batch_size": 32}}
    plan = step(LLAMA_8B, layout={"gpu": "B200", "gpus_per_node": 8}, quantize=quantize)
    assert [(mode.gpus, mode.how) for mode in plan.modes] == [
        (1, ""),
        (1, "set quantize.training.gradient_checkpointing: true"),
        (8, "set quantize.training.gradient_checkpointing: true and gpus: 8"),
    ]
    assert [mode.fits for mode in plan.modes] == [False, True, True]


def test_distillation_holds_a_teacher_too() -> None:
    qat, qad = (
        step(LLAMA_8B, quantize={"method": name, "format": "nvfp4"}).modes[0] for name in ("qat", "qad")
    )
    assert qad.gpu_bytes - qat.gpu_bytes == 2 * 8_030_261_248


def test_gpus_needed_are_enough() -> None:
    layout = {"gpu": "B200", "gpus_per_node": 8}
    quantize: dict[str, Any] = {"method": "qat", "format": "nvfp4"}
    nemotron = unquantized("nvidia/Nemotron-4-340B-Instruct")
    plan = step(nemotron, layout=layout, quantize=quantize)
    assert plan.chosen is None
    assert plan.gpus_needed is not None
    assert plan.gpus_needed > 8
    enough = quantize | {"training": {"gpus": plan.gpus_needed, "gradient_checkpointing": True}}
    assert step(nemotron, layout=layout, quantize=enough).modes[0].fits


@pytest.mark.parametrize("method", ["none", "prequantized"])
def test_no_step_needs_no_memory(method: str) -> None:
    assert plan_quantization(recipe(quantize={"method": method}), described(SMALL_LLAMA)) is None


def mode(plan: QuantizationPlan, name: str) -> Mode:
    return next(one for one in plan.modes if one.name == name)
