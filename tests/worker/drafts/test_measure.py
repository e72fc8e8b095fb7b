from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from bwdeploy.errors import HostError, RecipeError, ToolError
from bwdeploy.pipeline.jobs import Progress
from bwdeploy.pipeline.training_jobs import DraftAcceptance, MeasureDraft
from bwdeploy.recipe.schema import DraftMeasurement
from bwdeploy.worker.drafts import measure, timing
from bwdeploy.worker.drafts.target_model import TargetModel
from tests.worker.drafts.test_mtp import make_deepseek
from tests.worker.drafts.tiny_pair import make_pair, write_prompts
from tests.worker.jobs_in_process import ignore_progress

SMALL: dict[str, Any] = {"new_tokens": 8, "max_draft_len": 2, "batch_sizes": (2, 1), "temperature": 10.0}


@pytest.fixture(autouse=True)
def few_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is timed here is not judged."""
    monkeypatch.setattr(timing, "_REPEATS", 3)
    monkeypatch.setattr(timing, "_RUN_SECONDS", 0.0)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pair(tmp_path_factory.mktemp("measured"))


def request_for(place: Path, measurement: DraftMeasurement, **changes: Any) -> MeasureDraft:
    fields: dict[str, Any] = {
        "method": "eagle3",
        "target": place / "target",
        "draft": place / "draft",
        "measurement": measurement,
        "device": "cpu",
        "trust_remote_code": False,
    } | changes
    return MeasureDraft(**fields)


def measured(place: Path, **changes: Any) -> DraftAcceptance:
    prompts = write_prompts(place / "prompts.jsonl")
    return measure.run(
        request_for(place, DraftMeasurement(prompts=prompts, **SMALL | changes)), ignore_progress
    )


def test_measurement_has_every_figure_that_the_choice_needs(place: Path) -> None:
    told: list[Progress] = []
    prompts = write_prompts(place / "prompts.jsonl")
    result = measure.run(request_for(place, DraftMeasurement(prompts=prompts, **SMALL)), told.append)
    assert [(one.workload, one.prompts) for one in result.workloads] == [("code", 4), ("chat", 4)]
    assert [length.draft_len for length in result.overall] == [1, 2]
    for length in result.overall:
        assert 1 <= length.length.low <= length.length.value <= length.length.high <= length.draft_len + 1
        assert 1 < length.sampled_length.value <= length.draft_len + 1
        assert len(length.per_position) == length.draft_len
    assert [times.batch_size for times in result.timings] == [1, 2]
    for times in result.timings:
        assert set(times.step_ms) == {1, 2}
        assert 0 < times.draft_ms < times.step_ms[2]
    assert [run.draft_len for run in result.runs] == [0, 1, 2]
    assert result.runs[0].acceptance_length == 1.0
    assert all(run.tokens_per_s > 0 for run in result.runs)
    assert (result.greedy_differs, result.device, result.dtype) == (0, "cpu", "float32")
    assert set(result.seconds) == {"load", "acceptance", "timing", "decoding"}
    assert any(progress.detail == "sampled, 2 drafted" for progress in told)
    assert DraftAcceptance.model_validate_json(result.model_dump_json()) == result


def test_layers_inside_a_checkpoint_are_measured_the_same_way(tmp_path: Path) -> None:
    make_deepseek(tmp_path / "target")
    prompts = write_prompts(tmp_path / "p.jsonl", workloads=("chat",))
    small = DraftMeasurement(prompts=prompts, new_tokens=8, max_draft_len=1, batch_sizes=(1,))
    result = measure.run(request_for(tmp_path, small, method="mtp", draft=None), ignore_progress)
    assert result.method == "mtp"
    assert result.greedy_differs == 0
    assert result.overall[0].sampled_length.value > 1


def test_model_without_prediction_layers_is_told(place: Path) -> None:
    prompts = write_prompts(place / "prompts.jsonl")
    wanted = request_for(place, DraftMeasurement(prompts=prompts, **SMALL), method="mtp", draft=None)
    with pytest.raises(RecipeError, match="no multi-token prediction layer"):
        measure.run(wanted, ignore_progress)


def test_decoding_that_differs_from_the_models_own_is_stopped(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = TargetModel.forward

    def one_off(self: TargetModel, ids: Any, positions: Any, cache: Any, capture: Any) -> Any:
        return right(self, ids, positions * 2 % cache.length, cache, capture)

    monkeypatch.setattr(TargetModel, "forward", one_off)
    with pytest.raises(ToolError, match="the target's logits move by"):
        measured(place)


def test_prompts_that_leave_no_room_are_refused(place: Path) -> None:
    with pytest.raises(RecipeError, match="the model has room for 0"):
        measured(place, new_tokens=260)


def test_cuda_without_a_gpu_is_told(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(HostError, match="torch sees none"):
        measure.run(request_for(place, DraftMeasurement(), device="cuda"), ignore_progress)


@pytest.mark.slow
def test_compiled_draft_accepts_the_same(place: Path) -> None:
    plain, compiled = measured(place), measured(place, compile=True)
    assert compiled.compiled
    assert compiled.workloads == plain.workloads
    counted = import_module("torch._dynamo.utils").counters["stats"]["unique_graphs"]
    assert 0 < counted <= 6  # torch gives up after eight


def test_one_prompt_at_a_time_takes_the_steps_that_many_take(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "_RUN_SECONDS", 600.0)
    prompts = write_prompts(place / "one.jsonl", workloads=("chat",))
    small = DraftMeasurement(prompts=prompts, **SMALL | {"max_draft_len": 1, "batch_sizes": (1,)})
    result = measure.run(request_for(place, small), ignore_progress)
    assert result.runs[1].acceptance_length == result.overall[0].length.value
