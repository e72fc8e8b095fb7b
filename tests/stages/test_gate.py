"""Limits are applied to a measurement: three verdicts, each broken one said in words."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from bwdeploy.errors import GateError, HostError, RecipeError
from bwdeploy.pipeline.jobs import Audit, AuditFinding, AuditReport, JobData, TensorError
from bwdeploy.pipeline.stage import Work
from bwdeploy.pipeline.training_jobs import (
    AccuracyReport,
    CompareAccuracy,
    SampleValues,
    TaskComparison,
    TextComparison,
)
from bwdeploy.recipe.schema import Gate, GateTask, Recipe
from bwdeploy.stages.gate import (
    ACCURACY,
    REPORT,
    GateStage,
    broken_limits,
    read_accuracy,
    read_report,
    with_perplexities,
)
from bwdeploy.stages.gate_verdicts import broken_verdicts, verdict_line, verdicts_of
from bwdeploy.stages.source import ReferenceStage
from bwdeploy.tools.executors import local_executor
from tests.accuracy.test_task_file import TASK
from tests.pipeline.toy import HOST

ERROR = AuditFinding(check="scale-not-finite", severity="error", message="NaN in a scale")


def report(**changes: Any) -> AuditReport:
    values: dict[str, Any] = {
        "tensors": 2,
        "parameters": 1000,
        "bits_per_parameter": 6.0,
        "bits_per_quantized_parameter": 4.5,
        "dtype_census": {},
        "quant_algo": "NVFP4",
        "kv_cache_quant_algo": None,
        "findings": (),
        "compared_tensors": 1,
        "worst_tensors": (TensorError(name="a.weight", relative_error=0.1),),
        "source_perplexity": 20.0,
        "quantized_perplexity": 24.0,
        "evaluated_tokens": 4096,
        "activations": "quantized",
        "seconds": {},
        "peak_memory_bytes": 1,
    }
    return AuditReport.model_validate(values | changes)


def comparison(
    *, ratio: float = 1.2, spread: float = 0.01, samples: int = 16, **changes: Any
) -> AccuracyReport:
    """Perplexity 20 → 20 · ratio on `samples` sequences whose ratios differ by a factor of about `spread`."""
    source = tuple(math.log(20) + 0.3 * math.sin(number) for number in range(samples))
    source = tuple(value - sum(source) / samples + math.log(20) for value in source)
    noise = [spread * (-1) ** number for number in range(samples)]
    checkpoint = tuple(one + math.log(ratio) + change for one, change in zip(source, noise, strict=True))
    text = TextComparison(
        tokens_per_sequence=255,
        negative_log_likelihood=SampleValues(source=source, checkpoint=checkpoint),
        kl_divergence=tuple(0.1 + change for change in noise),
        top1_agreement=tuple(0.8 + change for change in noise),
        activations="quantized",
    )
    values: dict[str, Any] = {
        "text": text,
        "tasks": (),
        "lm_eval_version": None,
        "device": "cpu",
        "seconds": {},
        "peak_memory_bytes": 1,
    }
    return AccuracyReport.model_validate(values | changes)


def answers(name: str, *, right: int, lost: int, won: int, of: int) -> TaskComparison:
    """Answers of which the source has `right`, the checkpoint loses some of them and wins others."""
    source = [1.0] * right + [0.0] * (of - right)
    checkpoint = [0.0] * lost + [1.0] * (right - lost + won) + [0.0] * (of - right - won)
    scores = SampleValues(source=tuple(source), checkpoint=tuple(checkpoint))
    return TaskComparison(task=name, metric="acc", higher_is_better=True, scores=scores)


def recipe(**gate: Any) -> Recipe:
    data = {"schema": 1, "name": "x", "model": {"source": "file:///m"}, "quantize": {"format": "nvfp4"}}
    return Recipe.model_validate_json(json.dumps(data | {"gate": gate}))


def judged(tmp_path: Path, accuracy: AccuracyReport | None, **gate: Any) -> str:
    """What the stage says of planted figures; empty when it lets them pass."""
    (tmp_path / REPORT).write_text(report().model_dump_json())
    if accuracy is not None:
        (tmp_path / ACCURACY).write_text(accuracy.model_dump_json())
    try:
        GateStage().judge(recipe(**gate), tmp_path)
    except GateError as error:
        return error.message
    return ""


def test_measurement_within_all_limits_passes(tmp_path: Path) -> None:
    limits = {"max_perplexity_increase": 0.25, "max_kl_divergence": 0.12, "min_top1_agreement": 0.78}
    assert judged(tmp_path, comparison(), **limits, max_weight_error=0.1, max_bits_per_weight=6.0) == ""


def test_limit_that_is_not_given_is_not_applied(tmp_path: Path) -> None:
    assert judged(tmp_path, comparison(ratio=1e9)) == ""


@pytest.mark.parametrize(
    ("gate", "words"),
    [
        (Gate(max_weight_error=0.09), "a.weight is 0.1000"),
        (Gate(max_bits_per_weight=5.9), "6.000 bits per parameter"),
    ],
)
def test_broken_limit_of_the_audit_names_value_and_limit(gate: Gate, words: str) -> None:
    (line,) = broken_limits(report(), gate)
    assert words in line


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (
            {"max_perplexity_increase": 0.15},
            (
                r"fail: perplexity 20\.00 → 24\.00: \+20\.00% \(\+19\.\d\d% to \+20\.\d\d% with 95% "
                r"one-sided confidence, 16 samples\), "
                r"at most \+15\.00% allowed by gate\.max_perplexity_increase"
            ),
        ),
        (
            {"max_kl_divergence": 0.09},
            r"fail: KL divergence: 0\.1 nats per token \(0\.09\d+ to 0\.1\d+ .*\), at most 0\.09 allowed",
        ),
        (
            {"min_top1_agreement": 0.9},
            r"fail: top-1 agreement: 80\.00% \(79\.\d+% to 80\.\d+% .*\), at least 90\.00% allowed by",
        ),
    ],
)
def test_failed_verdict_names_value_interval_and_limit(
    limits: dict[str, float], words: str, tmp_path: Path
) -> None:
    assert re.search(words, judged(tmp_path, comparison(), **limits))


def test_interval_over_the_limit_is_inconclusive_and_passes_unless_the_recipe_says_otherwise(
    tmp_path: Path,
) -> None:
    noisy = comparison(ratio=1.2, spread=0.1)
    assert judged(tmp_path, noisy, max_perplexity_increase=0.21) == ""
    said = judged(tmp_path, noisy, max_perplexity_increase=0.21, inconclusive="fail")
    assert "inconclusive: perplexity 20.00 → 24.00: +20.00%" in said
    (figure,) = verdicts_of(noisy, Gate(max_perplexity_increase=0.21))
    needed = figure.judgement.samples_to_decide
    assert needed is not None
    assert needed > 16
    assert f"about {needed:,} samples like these would make it pass" in said


def test_more_samples_of_the_same_make_it_pass() -> None:
    gate = Gate(max_perplexity_increase=0.21)
    (few,) = verdicts_of(comparison(spread=0.1), gate)
    needed = few.judgement.samples_to_decide
    assert needed is not None
    (many,) = verdicts_of(comparison(spread=0.1, samples=needed + needed % 2 + 20), gate)
    assert (few.judgement.verdict, many.judgement.verdict) == ("inconclusive", "pass")


def test_too_few_samples_are_inconclusive_with_the_figure(tmp_path: Path) -> None:
    said = judged(tmp_path, comparison(samples=4), max_perplexity_increase=0.01, inconclusive="fail")
    assert "inconclusive: perplexity 20.00 → 24.00: +20.00%; 4 samples are too few" in said
    assert judged(tmp_path, comparison(samples=4), max_perplexity_increase=0.01) == ""


def test_next_step_of_an_undecided_build_is_more_samples(tmp_path: Path) -> None:
    def hint(**gate: Any) -> str:
        (tmp_path / REPORT).write_text(report().model_dump_json())
        (tmp_path / ACCURACY).write_text(comparison(spread=0.1).model_dump_json())
        with pytest.raises(GateError) as error:
            GateStage().judge(recipe(**gate), tmp_path)
        return error.value.hint

    undecided = {"max_perplexity_increase": 0.21, "inconclusive": "fail"}
    assert "gate.evaluation.samples" in hint(**undecided)
    assert "milder format" in hint(**undecided, max_kl_divergence=0.01)
    assert "milder format" in hint(**undecided, max_weight_error=0.01)


def test_destroyed_model_is_a_verdict_in_readable_numbers(tmp_path: Path) -> None:
    destroyed = comparison(ratio=1.0, spread=0.01)
    assert destroyed.text is not None
    likelihoods = SampleValues(
        source=destroyed.text.negative_log_likelihood.source, checkpoint=tuple(5e3 + n for n in range(16))
    )
    text = destroyed.text.model_copy(update={"negative_log_likelihood": likelihoods})
    said = judged(tmp_path, destroyed.model_copy(update={"text": text}), max_perplexity_increase=0.1)
    assert "fail: perplexity 20.00 → 1.01e+304: +1.01e+304 times" in said
    assert len(said) < 400
    shown = with_perplexities(report(), destroyed.model_copy(update={"text": text}))
    assert shown.quantized_perplexity == pytest.approx(math.exp(700))


# The published rows of R1 and Qwen3-VL with their number of questions: 5 % of the answers differ.
@pytest.mark.parametrize(
    ("task", "verdict"),
    [
        (answers("gsm8k", right=1270, lost=34, won=32, of=1319), "pass"),
        (answers("math500", right=477, lost=15, won=9, of=500), "inconclusive"),
        (answers("gsm8k", right=1112, lost=102, won=30, of=1319), "fail"),
        *(
            pytest.param(task, verdict, marks=pytest.mark.slow)
            for task, verdict in (
                (answers("mmlu", right=12736, lost=358, won=344, of=14042), "pass"),
                (answers("aime24", right=24, lost=1, won=1, of=30), "inconclusive"),
                (answers("gpqa", right=138, lost=5, won=4, of=198), "inconclusive"),
                (answers("gsm8k", right=1187, lost=725, won=0, of=1319), "fail"),
            )
        ),
    ],
)
def test_task_has_the_verdict_of_the_published_example(
    task: TaskComparison, verdict: str, tmp_path: Path
) -> None:
    accuracy = comparison(tasks=(task,), lm_eval_version="0.4.13")
    wanted = GateTask(task=task.task, margin=1.5)
    (figure,) = verdicts_of(accuracy, Gate(tasks=(wanted,)))
    assert figure.judgement.verdict == verdict
    said = judged(tmp_path, accuracy, tasks=[wanted.model_dump()])
    assert bool(said) == (verdict == "fail")
    assert "points" in verdict_line(figure)


def test_task_line_names_scores_margin_and_questions() -> None:
    task = answers("gsm8k", right=1112, lost=102, won=30, of=1319)
    accuracy = comparison(tasks=(task,), lm_eval_version="0.4.13")
    (line,) = broken_verdicts(accuracy, Gate(tasks=(GateTask(task="gsm8k"),)))
    assert line.startswith("fail: gsm8k acc 84.31 → 78.85: -5.46 points (")
    assert "1,319 samples), at least -1.50 allowed by gate.tasks[0].margin" in line


def test_worse_is_more_where_lower_is_better() -> None:
    scores = SampleValues(source=(0.0,) * 200, checkpoint=(1.0,) * 60 + (0.0,) * 140)
    task = TaskComparison(task="t", metric="error", higher_is_better=False, scores=scores)
    (figure,) = verdicts_of(comparison(tasks=(task,), lm_eval_version="1"), Gate(tasks=(GateTask(task="t"),)))
    assert figure.judgement.verdict == "fail"
    assert "at most +1.50 allowed" in verdict_line(figure)


@pytest.mark.parametrize(
    "limit", [{"max_perplexity_increase": 1.0}, {"max_kl_divergence": 1.0}, {"tasks": [{"task": "x"}]}]
)
def test_limit_without_a_source_to_compare_with_is_broken(limit: dict[str, Any], tmp_path: Path) -> None:
    assert "there is no source model to compare with" in judged(tmp_path, None, **limit)


def test_error_finding_breaks_the_gate_without_any_limit_and_is_the_only_reason(tmp_path: Path) -> None:
    (tmp_path / REPORT).write_text(report(findings=(ERROR,)).model_dump_json())
    with pytest.raises(GateError, match="scale-not-finite") as error:
        GateStage().judge(recipe(max_kl_divergence=0.1), tmp_path)
    assert "no source model" not in error.value.message


class PlantedExecutor:
    """Answers both jobs of the gate with planted results and keeps the requests."""

    device = None

    def __init__(self, audit: AuditReport, accuracy: AccuracyReport) -> None:
        self.planted: dict[type[Any], JobData] = {Audit: audit, CompareAccuracy: accuracy}
        self.requests: list[Any] = []

    def run(self, request: Any, **_: Any) -> Any:
        self.requests.append(request)
        return self.planted[type(request)]


@pytest.fixture
def ran(tmp_path: Path) -> Callable[..., tuple[Path, Sequence[Any]]]:
    """Runs the stage of a recipe on planted results: its artifact and the requests."""

    def run(recipe: Recipe, audit: AuditReport, accuracy: AccuracyReport) -> tuple[Path, Sequence[Any]]:
        out, scratch = tmp_path / "out", tmp_path / "scratch"
        for directory in (out, scratch):
            directory.mkdir()
        step = GateStage().plan_step(recipe, HOST)
        executor = PlantedExecutor(audit, accuracy)
        inputs = {name: tmp_path / name for name in step.inputs}
        work = Work(
            step=step,
            inputs=inputs,
            out=out,
            scratch=scratch,
            state=tmp_path,
            executor=executor,  # type: ignore[arg-type]
            log=tmp_path / "log",
            on_progress=lambda _: None,
        )
        GateStage().run(work)
        GateStage().verify(out)
        return out, executor.requests

    return run


def test_text_is_measured_once_and_the_audit_shows_its_perplexities(ran: Any) -> None:
    unmeasured = report(source_perplexity=None, quantized_perplexity=None, evaluated_tokens=0)
    out, (audit, compare) = ran(recipe(), unmeasured, comparison())
    assert (audit.evaluation, compare.evaluation.samples) == (None, 16)
    assert audit.source == compare.source
    assert audit.checkpoint == compare.checkpoint != compare.source
    shown = read_report(out)
    assert shown.source_perplexity == pytest.approx(20)
    assert shown.quantized_perplexity == pytest.approx(24)
    assert shown.evaluated_tokens == 16 * 255
    assert read_accuracy(out) == comparison()


def test_checkpoint_that_the_audit_refuses_is_not_run(ran: Any) -> None:
    out, requests = ran(recipe(), report(findings=(ERROR,)), comparison())
    assert [type(request) for request in requests] == [Audit]
    assert read_accuracy(out) is None


def test_checkpoint_that_computes_no_numbers_is_refused(ran: Any) -> None:
    nan = AuditFinding(check="perplexity-not-finite", severity="error", message="x computes NaN or infinity")
    out, _ = ran(recipe(max_kl_divergence=1.0), report(), comparison(text=None, findings=(nan,)))
    with pytest.raises(GateError, match="perplexity-not-finite: x computes NaN"):
        GateStage().judge(recipe(max_kl_divergence=1.0), out)


def test_prequantized_checkpoint_is_audited_with_its_own_perplexity(ran: Any) -> None:
    out, (audit,) = ran(Recipe.model_validate(PREQUANTIZED), report(source_perplexity=None), comparison())
    assert (audit.source, audit.evaluation.samples) == (None, 16)
    assert read_accuracy(out) is None
    assert read_report(out).quantized_perplexity == 24.0


PREQUANTIZED: dict[str, Any] = {
    "schema": 1,
    "name": "x",
    "model": {"source": "file:///m"},
    "quantize": {"method": "prequantized"},
}


def test_prequantized_checkpoint_is_compared_with_the_reference_that_the_recipe_names(
    ran: Any, tmp_path: Path
) -> None:
    gate = {"reference": f"hf://a/b@{'a' * 40}", "max_kl_divergence": 0.05}
    wanted = Recipe.model_validate(PREQUANTIZED | {"gate": gate})
    out, (audit, compare) = ran(wanted, report(), comparison())
    assert (audit.source, audit.evaluation) == (None, None)  # whoever made it may have changed any weight
    assert (compare.checkpoint, compare.source) == (tmp_path / "source", tmp_path / "reference")
    with pytest.raises(GateError, match="fail: KL divergence") as error:
        GateStage().judge(wanted, out)
    assert "take another checkpoint" in error.value.hint


def test_reference_is_made_only_where_it_is_compared_with() -> None:
    gate = {"gate": {"reference": f"hf://a/b@{'a' * 40}"}}
    step = ReferenceStage().plan_step(Recipe.model_validate(PREQUANTIZED | gate), HOST)
    assert step is not None
    assert step.params["repo"] == "a/b"
    assert ReferenceStage().plan_step(Recipe.model_validate(PREQUANTIZED), HOST) is None
    assert ReferenceStage().plan_step(recipe(**gate["gate"]), HOST) is None
    engine = {"engine": {"backend": "tensorrt"}}
    for changes in (gate, gate | engine):
        made = Recipe.model_validate(PREQUANTIZED | changes)
        planned = GateStage().plan_step(made, HOST)
        assert ("reference" in planned.inputs) is (ReferenceStage().plan_step(made, HOST) is not None)


def write_task(place: Path) -> str:
    place.mkdir()
    (place / "questions.jsonl").write_text("{}\n")
    (place / "mine.yaml").write_text(json.dumps(TASK))
    return f"file://{place / 'mine.yaml'}"


def test_task_file_travels_with_its_data_and_without_the_margin(ran: Any, tmp_path: Path) -> None:
    gate = {"tasks": [{"task": write_task(tmp_path / "t"), "margin": 3.0, "limit": 5}, {"task": "gsm8k"}]}
    _, (_, compare) = ran(recipe(**gate), report(), comparison())
    mine, named = compare.tasks
    copy = Path(mine.task.removeprefix("file://"))
    assert copy.is_relative_to(tmp_path / "scratch")
    content = json.loads(copy.read_text())
    assert (copy.parent / content["dataset_kwargs"]["data_files"]["test"]).read_text() == "{}\n"
    assert (mine.limit, named.task) == (5, "gsm8k")


def test_place_of_a_task_file_is_not_part_of_the_key_and_its_content_is(tmp_path: Path) -> None:
    first, second = (recipe(tasks=[{"task": write_task(tmp_path / name)}]) for name in "ab")
    steps = [GateStage().plan_step(one, HOST) for one in (first, second)]
    assert steps[0].params == steps[1].params
    assert {name: file.name for name, file in steps[0].sources.items() if name.startswith("task")} == {
        "task00": "mine.yaml",
        "task0data0": "questions.jsonl",
    }


def test_unusable_task_file_is_an_error_of_the_recipe(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"gate\.tasks\[0\]\.task"):
        GateStage().plan_step(recipe(tasks=[{"task": f"file://{tmp_path}/none.yaml"}]), HOST)


def test_limits_are_not_part_of_the_key() -> None:
    def params(**gate: Any) -> object:
        return GateStage().plan_step(recipe(**gate), HOST).params

    assert params() == params(
        max_weight_error=0.1, max_kl_divergence=0.1, confidence=0.9, inconclusive="fail"
    )
    tasks = [params(tasks=[{"task": "x", "margin": margin}]) for margin in (1.0, 2.0)]
    assert tasks[0] == tasks[1] != params()


def test_version_of_lm_eval_counts_only_where_tasks_are_named() -> None:
    assert "lm-eval" not in GateStage().plan_step(recipe(), HOST).tools
    assert "lm-eval" in GateStage().plan_step(recipe(tasks=[{"task": "x"}]), HOST).tools


def test_missing_lm_eval_is_told_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bwdeploy.tools.lm_eval.find_spec", lambda _: None)
    need = GateStage().plan_step(recipe(tasks=[{"task": "x"}]), HOST).program
    assert need is not None
    with pytest.raises(HostError, match="lm-eval, which is not installed") as error:
        local_executor().require(need)
    assert "bwdeploy[accuracy]" in error.value.hint
    assert GateStage().plan_step(recipe(), HOST).program is None
