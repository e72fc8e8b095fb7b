"""Measuring a draft on a CUDA GPU: nothing waits, graphs say what eager steps say, and the draft is cheap."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from bwdeploy.pipeline.training_jobs import DraftAcceptance, MeasureDraft
from bwdeploy.recipe.schema import DraftMeasurement
from bwdeploy.worker.drafts import measure
from bwdeploy.worker.drafts.decoding import RowDecoder, decode
from bwdeploy.worker.drafts.eagle3 import load_draft
from bwdeploy.worker.drafts.pair import Pair
from bwdeploy.worker.drafts.sampling import Greedy, Rule, Sampled
from bwdeploy.worker.drafts.target_model import TargetModel, load_target
from bwdeploy.worker.drafts.timing import Graphs
from tests.worker.drafts.draft_files import write_draft
from tests.worker.drafts.tiny_pair import PROMPTS, make_pair, write_prompts
from tests.worker.jobs_in_process import ignore_progress, quantize_tiny
from tests.worker.tiny_llama import make_tiny_llama

pytestmark = pytest.mark.gpu
HIDDEN, FFN, LAYERS, VOCAB = 576, 1536, 30, 49152
"""Of SmolLM2-135M."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pair(tmp_path_factory.mktemp("drafts"))


def pair_of(place: Path, rule: Rule) -> Pair:
    target = TargetModel(load_target(place / "target", device="cuda", trust_remote_code=False))
    return Pair(target, load_draft(place / "draft", target), rule)


@pytest.mark.parametrize("rule", [Greedy(), Sampled(1.0)])
def test_steps_never_wait_for_the_gpu(place: Path, rule: Rule) -> None:
    decoder = RowDecoder(pair_of(place, rule), rows=3, longest_prompt=11, new_tokens=32, draft_len=3)
    with torch.no_grad():
        decoder.begin(PROMPTS, 3)
        decoder.step(3)
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(4):
                decoder.step(3)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert max(one.steps for one in decoder.results()) == 5


@pytest.mark.parametrize("rounded", [False, True])
def test_graphs_decode_what_eager_steps_decode(place: Path, tmp_path: Path, *, rounded: bool) -> None:
    pair, graphs = pair_of(place, Greedy()), Graphs(torch.device("cuda"))
    if rounded:
        quantize_tiny(place / "target", tmp_path / "nvfp4", format="nvfp4", device="cuda")
        target = TargetModel(load_target(tmp_path / "nvfp4", device="cuda", trust_remote_code=False))
        pair = pair._replace(target=target)
    (replayed,) = decode(pair, PROMPTS, draft_len=3, new_tokens=16, replace=graphs.captured)
    (eager,) = decode(pair, PROMPTS, draft_len=3, new_tokens=16)
    assert graphs.used
    assert replayed == eager


def test_graphs_sample_anew_in_each_step_and_the_same_from_one_seed(place: Path) -> None:
    pair, graphs = pair_of(place, Sampled(5.0)), Graphs(torch.device("cuda"))

    def sampled(seed: int) -> list[list[int]]:
        torch.manual_seed(seed)
        (found,) = decode(pair, [PROMPTS[0]] * 3, draft_len=2, new_tokens=16, replace=graphs.captured)
        return [one.tokens for one in found]

    first = sampled(1)
    assert graphs.used
    assert len({tuple(tokens) for tokens in first}) == 3
    assert sampled(1) == first
    assert sampled(2) != first


def measured(place: Path, **changes: Any) -> DraftAcceptance:
    fields: dict[str, Any] = {
        "prompts": write_prompts(place / "prompts.jsonl"),
        "new_tokens": 32,
        "max_draft_len": 4,
        "batch_sizes": (1, 8),
        "temperature": 5.0,
    } | changes
    request = MeasureDraft(
        method="eagle3",
        target=place / "target",
        draft=place / "draft",
        measurement=DraftMeasurement(**fields),
        device="cuda",
        trust_remote_code=False,
    )
    return measure.run(request, ignore_progress)


@pytest.mark.parametrize("compiled", [False, True])
def test_measurement_runs_in_graphs(place: Path, caplog: pytest.LogCaptureFixture, *, compiled: bool) -> None:
    with caplog.at_level(logging.WARNING):
        result = measured(place, compile=compiled)
    assert "without CUDA graphs" not in caplog.text
    assert result.dtype == "bfloat16"
    assert result.peak_gpu_memory_bytes > 0
    assert result.overall[0].sampled_length.value > 1
    # Of 8 prompts at 4 lengths; logits in bf16 tie now and then, and more than ties stop the job.
    assert result.greedy_differs < 32


def test_draft_costs_at_most_a_quarter_of_the_target_step_and_real_runs_take_what_was_timed(
    tmp_path: Path,
) -> None:
    (tmp_path / "target").mkdir()
    make_tiny_llama(
        tmp_path / "target",
        vocab_size=VOCAB,
        hidden_size=HIDDEN,
        intermediate_size=FFN,
        num_hidden_layers=LAYERS,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=2048,
    )
    write_draft(tmp_path / "draft", draft_config(), draft_tensors())
    result = measured(tmp_path, max_draft_len=3, batch_sizes=(1,))
    (times,) = result.timings
    assert 3 * times.draft_ms <= 0.25 * times.target_ms
    steps_ms = {0: times.target_ms, **times.step_ms}
    for run in result.runs:  # real decoding takes the steps that were timed, and little beside them
        assert 1000 * run.acceptance_length / run.tokens_per_s == pytest.approx(
            steps_ms[run.draft_len], rel=0.25
        )


def draft_config() -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLMEagle3"],
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "intermediate_size": FFN,
        "num_hidden_layers": 1,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": VOCAB,
        "draft_vocab_size": VOCAB,
        "rope_theta": 50000.0,
        "eagle_config": {"eagle_aux_hidden_state_layer_ids": [1, 14, 26]},
    }


def draft_tensors() -> dict[str, torch.Tensor]:
    shapes = {
        "fc": (HIDDEN, 3 * HIDDEN),
        "layers.0.hidden_norm": (HIDDEN,),
        "layers.0.input_layernorm": (HIDDEN,),
        "layers.0.post_attention_layernorm": (HIDDEN,),
        "layers.0.self_attn.q_proj": (HIDDEN, 2 * HIDDEN),
        "layers.0.self_attn.k_proj": (HIDDEN // 3, 2 * HIDDEN),
        "layers.0.self_attn.v_proj": (HIDDEN // 3, 2 * HIDDEN),
        "layers.0.self_attn.o_proj": (HIDDEN, HIDDEN),
        "layers.0.mlp.gate_proj": (FFN, HIDDEN),
        "layers.0.mlp.up_proj": (FFN, HIDDEN),
        "layers.0.mlp.down_proj": (HIDDEN, FFN),
        "norm": (HIDDEN,),
        "lm_head": (VOCAB, HIDDEN),
    }
    return {f"{name}.weight": torch.randn(shape) * 0.05 for name, shape in shapes.items()}
