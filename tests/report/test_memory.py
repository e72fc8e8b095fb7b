"""The memory of a plan as a person and as a program see it."""

from __future__ import annotations

import json
import re

from bwdeploy.planner.memory.quantization import plan_quantization
from bwdeploy.report.memory import memory_json, memory_lines, quantization_json, quantization_lines
from tests.planner.planned import SMALL_LLAMA, described, planned, recipe, unquantized

LLAMA = described(SMALL_LLAMA)
R1 = unquantized("deepseek-ai/DeepSeek-R1")


def test_gpus_that_are_alike_are_shown_once() -> None:
    layout = {"gpu": "B200", "gpus_per_node": 8, "tp": 8, "ep": 8}
    lines = list(memory_lines(planned(R1, layout=layout, speculative={"method": "mtp"})))
    assert lines[0].startswith("8 GPUs, each ")
    labels = [line.split("  ")[1] for line in lines if re.match(r"  \S", line)]
    assert labels == ["weights", "draft", "KV cache", "activations", "CUDA graphs", "NCCL", "runtime"]
    assert "70,272 bytes of KV cache for each token" in "\n".join(lines)


def test_uneven_stages_are_shown_apart() -> None:
    lines = list(memory_lines(planned(LLAMA, layout={"gpu": "B200", "gpus_per_node": 2, "pp": 2})))
    assert sum(line.startswith("1 GPU, ") for line in lines) == 2


def test_a_pipeline_says_what_low_vram_takes() -> None:
    text = "\n".join(memory_lines(planned(unquantized("black-forest-labs/FLUX.1-dev"))))
    assert "with one engine loaded at a time" in text
    assert "KV cache" not in text


def test_json_keeps_its_contract() -> None:
    shown = json.loads(json.dumps(memory_json(planned(LLAMA, layout={"gpu": "B200"}))))
    assert shown["per_gpu"][0].keys() >= {
        "weights_bytes", "kv_bytes", "kv_pool_bytes", "activation_bytes", "total_bytes", "required_bytes",
        "capacity_bytes", "draft_bytes", "cuda_graph_bytes", "communication_bytes", "runtime_bytes",
    }  # fmt: skip
    assert shown.keys() >= {"kv_bytes_per_token", "max_tokens_in_kv", "max_requests", "checkpoint_bytes"}
    assert sum(row["bytes"] for row in shown["per_gpu"][0]["by_role"]) == shown["per_gpu"][0]["weights_bytes"]


def test_the_simplest_way_to_quantize_is_marked() -> None:
    plan = plan_quantization(recipe(layout={"gpu": "B200"}), LLAMA)
    assert plan is not None
    lines = list(quantization_lines(plan))
    assert lines[0] == "ptq, estimated:"
    assert lines[1].endswith("fits  <- simplest that fits")
    assert quantization_json(plan)["chosen"] == "one GPU"


def test_what_fits_nowhere_says_how_many_gpus_would_do() -> None:
    section = {"method": "ptq", "format": "nvfp4", "calibration": {"batch_size": 4096, "seq_len": 65536}}
    plan = plan_quantization(recipe(layout={"gpu": "B200"}, quantize=section), LLAMA)
    assert plan is not None
    assert (
        list(quantization_lines(plan))[-1] == "  fits on none of these; no number of such GPUs would hold it"
    )
