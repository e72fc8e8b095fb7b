"""Source and checkpoint side by side on text, held against plain formulas on whole logits."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from bwdeploy.errors import RecipeError, ToolError
from bwdeploy.recipe.schema import Evaluation
from bwdeploy.worker.accuracy.text import compare_with_source, held_out_sequences, keep_source
from bwdeploy.worker.next_token import NextToken, cut_at_head
from bwdeploy_runtime.checkpoint import load_model
from tests.worker.accuracy.changed_models import changed
from tests.worker.jobs_in_process import audit_tiny, compare_tiny, quantize_tiny
from tests.worker.tiny_llama import make_tiny_llama

EVALUATION = Evaluation(samples=9, seq_len=128)
Change = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def nvfp4(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exports") / "nvfp4"
    quantize_tiny(tiny_llama, out, format="nvfp4")
    return out


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs keep their files in the current directory."""
    monkeypatch.chdir(tmp_path)


def logits_of(directory: Path, sequences: Any) -> Any:
    model, _ = load_model(directory)
    with import_module("torch").no_grad():
        return model(input_ids=sequences).logits[:, :-1].log_softmax(-1)


def test_figures_are_those_of_the_whole_logits(tiny_llama: Path, nvfp4: Path) -> None:
    text = compare_tiny(nvfp4, tiny_llama, evaluation=EVALUATION).text
    assert text is not None
    sequences = held_out_sequences(EVALUATION, tiny_llama, trust_remote_code=False)
    log_p, log_q = logits_of(tiny_llama, sequences), logits_of(nvfp4, sequences)
    targets = sequences[:, 1:, None]
    expected = {
        text.negative_log_likelihood.source: -log_p.gather(2, targets).mean((1, 2)),
        text.negative_log_likelihood.checkpoint: -log_q.gather(2, targets).mean((1, 2)),
        text.kl_divergence: (log_p.exp() * (log_p - log_q)).sum(-1).mean(-1),
        text.top1_agreement: (log_p.argmax(-1) == log_q.argmax(-1)).float().mean(-1),
    }
    for ours, theirs in expected.items():
        assert ours == pytest.approx(theirs.tolist(), rel=1e-4, abs=1e-6)
    assert text.tokens_per_sequence == 127
    assert text.activations == "quantized"
    assert 0 < sum(text.kl_divergence) / 9 < 1


def test_perplexities_are_those_that_the_audit_measures_alone(tiny_llama: Path, nvfp4: Path) -> None:
    evaluation = Evaluation(samples=4, seq_len=32)
    text = compare_tiny(nvfp4, tiny_llama, evaluation=evaluation).text
    audit = audit_tiny(nvfp4, tiny_llama, evaluation=evaluation)
    assert text is not None
    likelihoods = text.negative_log_likelihood
    assert math.exp(sum(likelihoods.source) / 4) == pytest.approx(audit.source_perplexity, rel=1e-5)
    assert math.exp(sum(likelihoods.checkpoint) / 4) == pytest.approx(audit.quantized_perplexity, rel=1e-5)


def test_audit_without_evaluation_text_runs_no_model(tiny_llama: Path, nvfp4: Path) -> None:
    report = audit_tiny(nvfp4, tiny_llama, evaluation=None)
    assert (report.source_perplexity, report.quantized_perplexity) == (None, None)
    assert report.compared_tensors > 0
    assert not [phase for phase in report.seconds if "perplexity" in phase]


def test_source_beside_itself_agrees_wholly_and_is_loaded_once(tiny_llama: Path, tmp_path: Path) -> None:
    report = compare_tiny(tiny_llama, tiny_llama)
    assert list(tmp_path.iterdir()) == []  # nothing of the job is left behind
    assert report.text is not None
    assert set(report.text.kl_divergence) == {0.0}
    assert set(report.text.top1_agreement) == {1.0}
    likelihoods = report.text.negative_log_likelihood
    assert likelihoods.source == likelihoods.checkpoint
    assert "load checkpoint" not in report.seconds


def test_copy_of_the_source_agrees_wholly(tiny_llama: Path, tmp_path: Path) -> None:
    text = compare_tiny(changed(tiny_llama, tmp_path / "copy", lambda _: None), tiny_llama).text
    assert text is not None
    assert set(text.kl_divergence) == {0.0}
    assert text.activations == "unquantized"


def nan_in_a_norm(tensors: dict[str, Any]) -> None:
    tensors["model.norm.weight"][0] = math.nan


def test_checkpoint_that_computes_nan_is_a_finding(tiny_llama: Path, tmp_path: Path) -> None:
    broken = changed(tiny_llama, tmp_path / "broken", nan_in_a_norm)
    report = compare_tiny(broken, tiny_llama)
    assert report.text is None
    (finding,) = report.findings
    assert (finding.check, finding.severity) == ("perplexity-not-finite", "error")
    assert str(broken) in finding.message
    assert type(report).model_validate_json(report.model_dump_json()) == report


def test_source_that_computes_nan_is_named_instead(tiny_llama: Path, tmp_path: Path) -> None:
    broken = changed(tiny_llama, tmp_path / "broken", nan_in_a_norm)
    (finding,) = compare_tiny(tiny_llama, broken).findings
    assert str(broken) in finding.message


def test_checkpoint_that_cannot_be_loaded_is_a_finding(tiny_llama: Path, tmp_path: Path) -> None:
    broken = changed(tiny_llama, tmp_path / "broken", lambda tensors: tensors.pop("model.norm.weight"))
    (finding,) = compare_tiny(broken, tiny_llama).findings
    assert finding.check == "checkpoint-unreadable"
    assert "model.norm.weight" in finding.message


def test_source_that_cannot_be_loaded_is_an_error(tiny_llama: Path, tmp_path: Path) -> None:
    broken = changed(tiny_llama, tmp_path / "broken", lambda tensors: tensors.pop("model.norm.weight"))
    with pytest.raises(ToolError, match="source model cannot be read"):
        compare_tiny(tiny_llama, broken)


def test_too_little_text_is_an_error_of_the_recipe(tiny_llama: Path) -> None:
    with pytest.raises(RecipeError, match="evaluation part of"):
        compare_tiny(tiny_llama, tiny_llama, evaluation=Evaluation(samples=100_000, seq_len=4096))


def test_model_with_scaled_and_capped_logits_is_compared_as_it_answers(tmp_path: Path) -> None:
    torch = import_module("torch")
    directory = make_tiny_llama(tmp_path)
    config = json.loads((directory / "config.json").read_text())
    model, _ = load_model(directory)
    model.config.final_logit_softcapping = 3.0
    model.config.logit_scale = 0.5
    sequences = torch.randint(0, config["vocab_size"], (2, 16))
    with torch.inference_mode():
        halves = cut_at_head(model)
        logits = halves.logits(halves.features(sequences))
        plain = model(input_ids=sequences).logits[:, :-1].flatten(0, 1)
    torch.testing.assert_close(logits, (plain * 0.5 / 3.0).tanh() * 3.0)


def test_reference_of_another_vocabulary_is_refused(tiny_llama: Path, tmp_path: Path) -> None:
    other = make_tiny_llama(tmp_path, vocab_size=400)
    with pytest.raises(RecipeError, match=r"gate\.reference: it has 400 tokens .*, the checkpoint 384"):
        compare_tiny(tiny_llama, other)


def test_token_that_the_source_rules_out_adds_nothing(tmp_path: Path) -> None:
    torch = import_module("torch")

    def masked(batch: Any) -> Any:
        logits = torch.zeros(batch.shape[0] * (batch.shape[1] - 1), 4)
        logits[:, 3] = -math.inf
        return logits

    halves = NextToken(masked, lambda logits: logits)
    sequences = torch.zeros(1, 5, dtype=torch.int64)
    device = torch.device("cpu")
    kept = keep_source(halves, sequences, place=tmp_path, device=device, on_batch=lambda _done, _total: None)
    text = compare_with_source(kept, halves, activations="unquantized", on_batch=lambda _done, _total: None)
    assert text.kl_divergence == (0.0,)
    assert text.negative_log_likelihood.source == pytest.approx((math.log(3),))


def test_each_model_is_loaded_once_and_the_seconds_say_so(tiny_llama: Path, nvfp4: Path) -> None:
    report = compare_tiny(nvfp4, tiny_llama)
    assert list(report.seconds) == ["load source", "text of source", "load checkpoint", "text of checkpoint"]
