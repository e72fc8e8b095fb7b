"""EAGLE3 training of a tiny random model, end to end in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from bwdeploy.errors import ToolError
from bwdeploy.pipeline.jobs import Progress
from bwdeploy.pipeline.training_jobs import DraftTrainingResult
from bwdeploy.worker.drafts.chat_tokens import ChatTokens
from bwdeploy.worker.drafts.conversations import read_conversations
from bwdeploy.worker.drafts.eagle3 import load_draft
from bwdeploy.worker.drafts.sequences import Batch
from bwdeploy.worker.drafts.target_model import TargetModel, load_target
from bwdeploy.worker.drafts.unrolling import UnrolledDraft
from tests.worker.drafts.tiny_pair import greedy_acceptance
from tests.worker.drafts.training_jobs import refused, train_tiny, training, write_chats
from tests.worker.jobs_in_process import quantize_tiny
from tests.worker.tiny_llama import make_tiny_llama

LAYERS = 4


class StopError(Exception):
    """What an interrupted job looks like from inside."""


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("target"), num_hidden_layers=LAYERS)


@pytest.fixture(scope="module")
def trained(target: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DraftTrainingResult]:
    place = tmp_path_factory.mktemp("trained")
    return place, train_tiny(target, place, draft_vocab=96, ffn_width=48)


def weights(place: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(place / "out" / "model.safetensors")
    return found


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_the_loss_falls(trained: tuple[Path, DraftTrainingResult]) -> None:
    losses = [point.loss for point in trained[1].curve.points if point.loss is not None]
    assert len(losses) == 2
    assert losses[1] < losses[0]


def test_exported_names_shapes_and_type_are_those_of_the_layout(
    trained: tuple[Path, DraftTrainingResult],
) -> None:
    found = weights(trained[0])
    hidden, drafted, ffn = 64, 96, 48
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == {
        "fc.weight": (hidden, 3 * hidden),
        "d2t": (drafted,),
        "norm.weight": (hidden,),
        "lm_head.weight": (drafted, hidden),
        "layers.0.hidden_norm.weight": (hidden,),
        "layers.0.input_layernorm.weight": (hidden,),
        "layers.0.post_attention_layernorm.weight": (hidden,),
        "layers.0.self_attn.q_proj.weight": (64, 2 * hidden),
        "layers.0.self_attn.k_proj.weight": (32, 2 * hidden),
        "layers.0.self_attn.v_proj.weight": (32, 2 * hidden),
        "layers.0.self_attn.o_proj.weight": (hidden, 64),
        "layers.0.mlp.gate_proj.weight": (ffn, hidden),
        "layers.0.mlp.up_proj.weight": (ffn, hidden),
        "layers.0.mlp.down_proj.weight": (hidden, ffn),
    }
    assert {tensor.dtype for name, tensor in found.items() if name != "d2t"} == {torch.bfloat16}
    assert found["d2t"].dtype == torch.int64


def test_the_map_of_a_reduced_vocabulary_is_filled_and_ascending(
    trained: tuple[Path, DraftTrainingResult],
) -> None:
    offsets = weights(trained[0])["d2t"]
    tokens = offsets + torch.arange(len(offsets))
    assert tokens.max() > len(offsets)
    assert (tokens.diff() > 0).all()
    assert tokens.max() < 384


def test_configuration_is_what_the_draft_was_trained_with(
    trained: tuple[Path, DraftTrainingResult],
) -> None:
    config = json.loads((trained[0] / "out" / "config.json").read_text())
    assert config["torch_dtype"] == config["dtype"] == "bfloat16"
    assert config["rope_theta"] == 50000.0
    assert config["rope_scaling"] is None
    assert config["draft_vocab_size"] == 96
    assert config["eagle_config"]["eagle_aux_hidden_state_layer_ids"] == [0, 2, 3]
    assert (trained[0] / "out" / "bwdeploy_target.json").is_file()


def test_the_result_describes_draft_and_training(trained: tuple[Path, DraftTrainingResult]) -> None:
    result = trained[1]
    assert result.shape.ffn_width == 48
    assert result.shape.draft_vocab_size == 96
    assert result.shape.hidden_layers == (0, 2, 3)
    assert [point.step for point in result.curve.points] == [5, 10]
    assert result.curve.best_step in {5, 10}
    best = max(point.validation or 0 for point in result.curve.points)
    assert result.acceptance_length == pytest.approx(best, rel=0.1)  # weights in bf16 now, float32 there
    assert result.training_tokens > 0
    assert result.target_perplexity is not None


def test_real_decoding_with_the_exported_draft_accepts_what_was_validated(
    target: Path, trained: tuple[Path, DraftTrainingResult]
) -> None:
    model: Any = load_target(target, device="cpu", trust_remote_code=False)
    served = TargetModel(model)
    tokens = ChatTokens(AutoTokenizer.from_pretrained(target))
    chosen = read_conversations(training(draft_vocab=96))
    prompts = [tokens.prompt(one) for one in chosen.held_out]
    draft = load_draft(trained[0] / "out", served)
    found = greedy_acceptance(served, draft, prompts, draft_len=3, new_tokens=16)
    accepted = sum(one.gained for one in found) / sum(one.steps for one in found)
    assert trained[1].acceptance_length > 1
    assert accepted == pytest.approx(trained[1].acceptance_length, rel=0.1)


def test_an_interrupted_training_goes_on_and_ends_with_the_same_draft(
    target: Path, trained: tuple[Path, DraftTrainingResult], tmp_path: Path
) -> None:
    with pytest.raises(StopError):
        train_tiny(target, tmp_path, _stop_at(10), draft_vocab=96, ffn_width=48)
    result = train_tiny(target, tmp_path, draft_vocab=96, ffn_width=48)
    assert result.curve.resumed_at == 5
    assert same(weights(tmp_path), weights(trained[0]))
    assert [point.loss for point in result.curve.points] == [point.loss for point in trained[1].curve.points]
    seconds = [point.seconds for point in result.curve.points]
    assert seconds == sorted(seconds)


def test_a_loss_that_is_no_number_stops_with_step_rate_and_what_to_do(
    target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: UnrolledDraft, batch: Batch) -> torch.Tensor:
        return sum(value.sum() for value in self.draft.parameters()) * float("nan")

    monkeypatch.setattr(UnrolledDraft, "forward", broken)
    with pytest.raises(ToolError, match=r"diverged at step 5: the loss is nan \(learning rate") as caught:
        train_tiny(target, tmp_path)
    assert "learning_rate" in caught.value.hint
    assert not list((tmp_path / "state").glob("training-*/checkpoint-*"))


@pytest.mark.parametrize(
    ("changes", "path", "said"),
    [
        ({"hidden_layers": (0, 2, 4)}, "hidden_layers", "a model that has 4"),
        ({"hidden_layers": (1, 1, 2)}, "hidden_layers", "three different layers"),
        ({"draft_vocab": 385}, "draft_vocab", "vocabulary has 384"),
        ({"batch_size": 64}, "batch_size", "takes 64 sequences, but the data makes 27"),
        ({"gpus": 3}, "batch_size", "shared evenly by 3 GPUs"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    target: Path, tmp_path: Path, changes: dict[str, Any], path: str, said: str
) -> None:
    with refused(path, said):
        train_tiny(target, tmp_path, **changes)


def test_given_answers_train_a_draft_too(target: Path, tmp_path: Path) -> None:
    data = write_chats(tmp_path / "chats.jsonl")
    result = train_tiny(target, tmp_path, data=data, answers="given", layers=2)
    assert result.shape.layers == 2
    assert result.curve.points[-1].loss is not None
    assert "layers.1.mlp.up_proj.weight" in weights(tmp_path)
    assert "d2t" not in weights(tmp_path)


@pytest.mark.slow
def test_the_target_may_be_a_quantized_checkpoint(target: Path, tmp_path: Path) -> None:
    quantize_tiny(target, tmp_path / "nvfp4", format="nvfp4")
    result = train_tiny(tmp_path / "nvfp4", tmp_path)
    assert result.acceptance_length > 1.1
    assert json.loads((tmp_path / "out" / "config.json").read_text()).get("quantization_config") is None
    assert weights(tmp_path)["fc.weight"].dtype == torch.bfloat16


def _stop_at(step: int) -> Callable[[Progress], None]:
    def stop(progress: Progress) -> None:
        if progress.phase == "train" and progress.done == step:
            raise StopError

    return stop
