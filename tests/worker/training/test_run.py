"""QAT and QAD of the tiny model with the real ModelOpt and the real Trainer, in this process."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from bwdeploy.errors import RecipeError, ToolError
from bwdeploy.facts.formats import format_table
from bwdeploy.pipeline.jobs import Progress
from bwdeploy.pipeline.training_jobs import TrainedResult
from bwdeploy.recipe.schema import FormatOverride
from bwdeploy.worker.training import master, session, stopping, trainer, validation
from tests.worker.jobs_in_process import audit_tiny, quantize_tiny
from tests.worker.training.jobs import train_tiny

DENSE_FORMATS = [word for word, facts in format_table().formats.items() if facts.modules != "routed experts"]


def tensors_of(directory: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = import_module("safetensors.torch").load_file(directory / "model.safetensors")
    return loaded


def same_bytes(first: Path, second: Path) -> bool:
    return (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("qad")


@pytest.fixture(scope="module")
def qad(tiny_llama: Path, place: Path) -> TrainedResult:
    return train_tiny(tiny_llama, place)


def test_distillation_brings_the_model_nearer_to_its_source(qad: TrainedResult) -> None:
    assert qad.curve is not None
    assert qad.curve.metric == "kl_divergence"
    assert [point.step for point in qad.curve.points] == [0, 4, 8, 12]
    values = {point.step: point.validation for point in qad.curve.points}
    assert values[qad.curve.best_step] == min(value for value in values.values() if value is not None)
    assert qad.curve.best_step > 0
    assert (values[qad.curve.best_step] or 1) < 0.9 * (values[0] or 0)
    assert (qad.curve.steps, qad.curve.stopped, qad.curve.resumed_at) == (12, "steps", None)


def test_what_was_trained_is_what_ships(qad: TrainedResult) -> None:
    assert qad.perplexity_trained != qad.perplexity_before
    assert qad.perplexity_exported == pytest.approx(qad.perplexity_trained, rel=1e-4)
    assert qad.likelihoods_exported == pytest.approx(qad.likelihoods_trained, rel=1e-4)


def test_activations_computed_anew_train_the_same(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, passes = LlamaRMSNorm.forward, []

    def counted(self: LlamaRMSNorm, hidden: torch.Tensor) -> torch.Tensor:
        passes.append(torch.is_grad_enabled())
        return forward(self, hidden)

    monkeypatch.setattr(LlamaRMSNorm, "forward", counted)
    training = {"steps": 2, "warmup_steps": 1}
    once = train_tiny(tiny_llama, tmp_path / "kept", training=training)
    kept = sum(passes)
    passes.clear()
    result = train_tiny(tiny_llama, tmp_path / "anew", training=training | {"gradient_checkpointing": True})
    assert sum(passes) > 1.5 * kept
    assert result.likelihoods_trained == pytest.approx(once.likelihoods_trained, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("word", ["nvfp4", "fp8"])
def test_what_was_trained_in_the_arithmetic_of_a_gpu_is_what_ships(
    word: str, tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mixed(_device: str) -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16)

    def in_bf16(request: Any, *, dtype: object) -> Any:
        return master.load_float(request, dtype=torch.bfloat16)

    monkeypatch.setattr(validation, "autocast", mixed)
    monkeypatch.setattr(trainer, "autocast", mixed)
    monkeypatch.setattr(session, "load_float", in_bf16)
    result = train_tiny(tiny_llama, tmp_path, format=word, training={"learning_rate": 3e-4})
    assert result.perplexity_exported == pytest.approx(result.perplexity_trained, rel=1e-4)


@pytest.mark.slow
def test_rounded_kv_cache_is_trained_with_and_does_not_hide_a_lossy_export(
    tiny_llama: Path, tmp_path: Path
) -> None:
    result = train_tiny(tiny_llama, tmp_path, kv_cache="fp8", training={"steps": 1})
    assert result.kv_cache_quant_algo == "FP8"
    assert result.perplexity_exported == pytest.approx(result.perplexity_trained, rel=1e-4)


def test_trained_checkpoint_is_sound_and_leaves_alone_what_is_not_quantized(
    qad: TrainedResult, place: Path, tiny_llama: Path
) -> None:
    report = audit_tiny(place / "out", tiny_llama, format="nvfp4")
    assert [finding for finding in report.findings if finding.severity == "error"] == []
    assert qad.quant_algo == report.quant_algo == "NVFP4"
    ours, source = tensors_of(place / "out"), tensors_of(tiny_llama)
    plain = [name for name in ours if name in source and ours[name].dtype == source[name].dtype]
    assert len(plain) == 6
    assert all(ours[name].equal(source[name]) for name in plain)
    assert json.loads((place / "out" / "config.json").read_text())["torch_dtype"] == "bfloat16"


def test_weights_moved_from_those_of_calibration_alone(
    place: Path, qad: TrainedResult, tiny_llama: Path
) -> None:
    quantize_tiny(tiny_llama, place / "ptq", format="nvfp4")
    name = "model.layers.0.mlp.down_proj.weight"
    differs = tensors_of(place / "out")[name] != tensors_of(place / "ptq")[name]
    assert differs.float().mean() > 0.05


def test_fused_layers_share_their_scales(place: Path, qad: TrainedResult) -> None:
    tensors = tensors_of(place / "out")
    for scale in ("weight_scale_2", "input_scale"):
        values = [tensors[f"model.layers.0.self_attn.{one}_proj.{scale}"].item() for one in "qkv"]
        assert len(set(values)) == 1


def test_interrupted_training_goes_on_and_ends_with_the_same_bytes(
    qad: TrainedResult, place: Path, tiny_llama: Path, tmp_path: Path
) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.phase == "train" and progress.done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_tiny(tiny_llama, tmp_path, report=interrupt)
    assert list((tmp_path / "out").iterdir()) == []
    seen: list[tuple[str, int]] = []
    resumed = train_tiny(tiny_llama, tmp_path, report=lambda one: seen.append((one.phase, one.done)))
    assert resumed.curve is not None
    assert qad.curve is not None
    assert resumed.curve.resumed_at == 4
    assert [(one.step, one.loss, one.validation) for one in resumed.curve.points] == [
        (one.step, one.loss, one.validation) for one in qad.curve.points
    ]
    assert min(done for phase, done in seen if phase == "train" and done) == 5
    assert same_bytes(tmp_path / "out", place / "out")


def test_training_that_was_killed_while_exporting_is_not_trained_again(
    qad: TrainedResult, place: Path, tiny_llama: Path, tmp_path: Path
) -> None:
    (tmp_path / "state").symlink_to(place / "state")
    phases: list[str] = []
    again = train_tiny(tiny_llama, tmp_path, report=lambda one: phases.append(one.phase))
    assert phases.count("train") == 1  # its announcement
    assert again.perplexity_exported == qad.perplexity_exported
    assert same_bytes(tmp_path / "out", place / "out")


def test_training_without_improvement_stops_early_and_ships_the_best_step(
    tiny_llama: Path, tmp_path: Path
) -> None:
    harmful = {"learning_rate": 0.1, "patience": 2, "evaluate_every": 1, "steps": 50, "warmup_steps": 0}
    result = train_tiny(tiny_llama, tmp_path, method="qat", training=harmful)
    assert result.curve is not None
    assert result.curve.metric == "perplexity"
    assert result.curve.stopped == "patience"
    assert result.curve.steps == result.curve.best_step + 2
    assert result.perplexity_exported == pytest.approx(result.perplexity_trained, rel=1e-4)


def test_diverging_training_is_stopped_with_what_to_do_and_keeps_its_state(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # This model has no divergence of several nats in it: its weights cannot leave the range of their scales.
    monkeypatch.setattr(stopping, "_NATS", 0.05)
    wild = {"learning_rate": 1.0, "steps": 60, "evaluate_every": 60, "seq_len": 16, "warmup_steps": 0}
    with pytest.raises(ToolError, match="The training diverged at step") as caught:
        train_tiny(tiny_llama, tmp_path, training=wild)
    assert "Lower quantize.training.learning_rate" in caught.value.hint
    assert (tmp_path / "state" / "step-0" / "model.safetensors").exists()


def refused(source: Path, place: Path, **changes: Any) -> str:
    with pytest.raises(RecipeError) as caught:
        train_tiny(source, place, **changes)
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"layout": "tensorrt_llm"}, ["quantize.method", "would undo the training"]),
        ({"training": {"gpus": 3}}, ["quantize.training.batch_size", "shared evenly by 3 GPUs"]),
        ({"training": {"samples": 9_000}}, ["quantize.training", "the training part of"]),
        ({"training": {"validation_samples": 9_000}}, ["quantize.training", "the validation part of"]),
        ({"overrides": (FormatOverride(modules="*_proj", format="none"),)}, ["quantizes nothing"]),
    ],
)
def test_training_that_cannot_be_is_refused(
    changes: dict[str, Any], words: list[str], tiny_llama: Path, tmp_path: Path
) -> None:
    message = refused(tiny_llama, tmp_path, **changes)
    assert all(word in message for word in words)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["qat", "qad"])
@pytest.mark.parametrize("word", DENSE_FORMATS)
def test_what_was_trained_is_what_ships_in_every_format(
    word: str, method: str, tiny_llama: Path, tmp_path: Path
) -> None:
    rate = 3e-4 if "4" in word else 3e-5  # eight bits are near the source already
    result = train_tiny(tiny_llama, tmp_path, format=word, method=method, training={"learning_rate": rate})
    assert result.curve is not None
    assert result.curve.best_step > 0
    assert result.perplexity_exported == pytest.approx(result.perplexity_trained, rel=3e-3)
    report = audit_tiny(tmp_path / "out", tiny_llama, format=word)
    assert [finding.check for finding in report.findings if finding.severity == "error"] == []
