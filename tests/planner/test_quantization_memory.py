"""Memory of the quantization step: which ways of running it fit."""

from __future__ import annotations

from typing import Any

import pytest

from bwdeploy.planner.memory.quantization import Mode, QuantizationPlan, plan_quantization
from tests.planner.planned import SMALL_LLAMA, described, recipe, unquantized

LLAMA_8B = unquantized("meta-llama/Llama-3.1-8B")
LLAMA_70B = unquantized("meta-llama/Llama-3.3-70B-Instruct")
R1 = unquantized("deepseek-ai/DeepSeek-R1")


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


def test_training_counts_its_own_batches_and_each_gpu_its_share() -> None:
    sizes = [
        step(LLAMA_8B, quantize={"method": "qad", "format": "nvfp4", "training": training}).modes[0].gpu_bytes
        for training in ({"batch_size": 8}, {"batch_size": 64}, {"batch_size": 64, "gpus": 8})
    ]
    assert sizes[0] == sizes[2] < sizes[1]


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


def test_training_takes_sixteen_bytes_for_each_parameter() -> None:
    alone = step(LLAMA_8B, quantize={"method": "qat", "format": "nvfp4"}).modes[0]
    assert alone.gpu_bytes > 16 * 8_030_261_248
    assert alone.gpu_bytes < 1.2 * 16 * 8_030_261_248


def test_distillation_holds_a_teacher_too() -> None:
    qat, qad = (
        step(LLAMA_8B, quantize={"method": name, "format": "nvfp4"}).modes[0] for name in ("qat", "qad")
    )
    assert qad.gpu_bytes - qat.gpu_bytes == 2 * 8_030_261_248


def test_gpus_needed_are_enough() -> None:
    layout = {"gpu": "B200", "gpus_per_node": 8}
    quantize = {"method": "qat", "format": "nvfp4"}
    nemotron = unquantized("nvidia/Nemotron-4-340B-Instruct")
    plan = step(nemotron, layout=layout, quantize=quantize)
    assert plan.gpus_needed is not None
    assert plan.gpus_needed > 8
    enough = step(nemotron, layout=layout | {"nodes": plan.gpus_needed // 8}, quantize=quantize)
    assert mode(enough, f"{plan.gpus_needed} GPUs, fully sharded").fits


@pytest.mark.parametrize("method", ["none", "prequantized"])
def test_no_step_needs_no_memory(method: str) -> None:
    assert plan_quantization(recipe(quantize={"method": method}), described(SMALL_LLAMA)) is None


def mode(plan: QuantizationPlan, name: str) -> Mode:
    return next(one for one in plan.modes if one.name == name)
