"""Tasks of lm-eval answered by tiny models: offline, in pairs, and without running anything of a file."""

from __future__ import annotations

import math
import socket
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from bwdeploy.errors import HostError, RecipeError, ToolError
from bwdeploy.pipeline.training_jobs import AccuracyReport, TaskComparison
from bwdeploy.recipe.schema import GateTask
from bwdeploy.worker.accuracy.answers import answer
from bwdeploy.worker.accuracy.tasks import load_tasks
from bwdeploy_runtime.checkpoint import load_model
from tests.worker.accuracy.changed_models import changed
from tests.worker.accuracy.local_tasks import CHOICE, GENERATION, choices, texts, write_task
from tests.worker.jobs_in_process import compare_tiny

pytest.importorskip("lm_eval", reason="the extra `accuracy` is not installed")


def rounded(tensors: dict[str, Any]) -> None:
    """Coarse steps in every matrix of the layers."""
    for name, tensor in tensors.items():
        if name.endswith("_proj.weight"):
            tensors[name] = (tensor * 3).round() / 3


@pytest.fixture(autouse=True)
def _own_directory_and_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "job").mkdir()
    monkeypatch.chdir(tmp_path / "job")

    def refuse(*_arguments: Any) -> None:
        raise AssertionError("something asked the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def compared(checkpoint: Path, source: Path, *tasks: GateTask) -> AccuracyReport:
    return compare_tiny(checkpoint, source, tasks=tasks)


def only(report: AccuracyReport) -> TaskComparison:
    (task,) = report.tasks
    return task


def likeliest(directory: Path, question: str, answers: list[str]) -> int:
    """Index of the answer that the model gives the highest likelihood, by plain transformers."""
    torch, transformers = import_module("torch"), import_module("transformers")
    model, _ = load_model(directory)
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    start = len(tokenizer(question)["input_ids"])
    totals = []
    for words in answers:
        ids = torch.tensor([tokenizer(f"{question} {words}")["input_ids"]])
        with torch.no_grad():
            logs = model(input_ids=ids).logits.log_softmax(-1)
        totals.append(float(logs[0, start - 1 : -1].gather(1, ids[0, start:, None]).sum()))
    return max(range(len(answers)), key=totals.__getitem__)


def test_choices_are_scored_for_each_question_of_both_models(tiny_llama: Path, tmp_path: Path) -> None:
    rows, coarse = choices(9), changed(tiny_llama, tmp_path / "coarse", rounded)
    report = compared(coarse, tiny_llama, GateTask(task=write_task(tmp_path / "t", CHOICE, rows)))
    task = only(report)
    assert (task.task, task.metric, task.higher_is_better) == ("tiny_choice", "acc", True)
    for directory, scores in ((tiny_llama, task.scores.source), (coarse, task.scores.checkpoint)):
        expected = [
            float(
                likeliest(directory, f"Question: {row['question']}\nAnswer:", row["choices"]) == row["answer"]
            )
            for row in rows
        ]
        assert list(scores) == expected
    assert report.lm_eval_version == import_module("importlib.metadata").version("lm-eval")
    assert list(tmp_path.joinpath("job").iterdir()) == []


def test_generated_answers_are_compared_with_those_wanted(tiny_llama: Path, tmp_path: Path) -> None:
    torch, transformers = import_module("torch"), import_module("transformers")
    model, _ = load_model(tiny_llama)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_llama)
    ids = torch.tensor([tokenizer("Say number 0")["input_ids"]])
    made = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=4, do_sample=False)
    said = tokenizer.decode(made[0, ids.shape[1] :]).split("\n")[0]
    file = write_task(tmp_path / "t", GENERATION, texts([said, "surely not"]))
    task = only(compared(tiny_llama, tiny_llama, GateTask(task=file, metric="exact_match,whole")))
    assert task.scores.source == task.scores.checkpoint == (1.0, 0.0)


def test_questions_that_do_not_fit_the_memory_are_asked_in_smaller_batches(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch, evaluator = import_module("torch"), import_module("lm_eval.evaluator")
    plain, tried, least = evaluator.evaluate, list[int](), 1

    def evaluate(**arguments: Any) -> Any:
        tried.append(arguments["lm"].batch_size)
        if tried[-1] > least:
            raise torch.OutOfMemoryError("too large")
        return plain(**arguments)

    task = GateTask(task=write_task(tmp_path / "t", CHOICE, choices(2)))
    whole = only(compared(tiny_llama, tiny_llama, task))
    monkeypatch.setattr(evaluator, "evaluate", evaluate)
    assert only(compared(tiny_llama, tiny_llama, task)) == whole
    assert tried == [4, 1]
    least = 0
    with pytest.raises(ToolError, match="A question of tiny_choice does not fit the GPU's memory"):
        compared(tiny_llama, tiny_llama, task)


def test_first_filter_counts_unless_another_is_named(tiny_llama: Path, tmp_path: Path) -> None:
    file = write_task(tmp_path / "t", GENERATION, texts(["x", "y"]))
    assert only(compared(tiny_llama, tiny_llama, GateTask(task=file))).metric == "exact_match"
    with pytest.raises(RecipeError, match=r"no filter 'nonesuch'.*first-letter, whole"):
        compared(tiny_llama, tiny_llama, GateTask(task=file, metric="exact_match,nonesuch"))


def test_examples_stand_before_each_question_and_are_the_same_for_every_model(
    tiny_llama: Path, tmp_path: Path
) -> None:
    file = write_task(tmp_path / "t", CHOICE, choices(9), fewshot_split="test")
    (task,) = load_tasks([GateTask(task=file, few_shot=2)], place=tmp_path)
    tokenizer = import_module("transformers").AutoTokenizer.from_pretrained(tiny_llama)
    first, second = (answer(task, load_model(tiny_llama)[0], tokenizer) for _ in range(2))
    assert first == second
    prompts = [instance.args[0] for instance in task.loaded["tasks"]["tiny_choice"].instances]
    assert {prompt.count("Question:") for prompt in prompts} == {3}


def test_several_tasks_are_answered_in_order_each_up_to_its_limit(tiny_llama: Path, tmp_path: Path) -> None:
    tasks = (
        GateTask(task=write_task(tmp_path / "a", GENERATION, texts(["x"]))),
        GateTask(task=write_task(tmp_path / "b", CHOICE, choices(9)), limit=4),
    )
    report = compared(tiny_llama, tiny_llama, *tasks)
    assert [(task.task, len(task.scores.source)) for task in report.tasks] == [
        ("tiny_generation", 1),
        ("tiny_choice", 4),
    ]


def test_template_reaches_nothing_but_its_question(tiny_llama: Path, tmp_path: Path) -> None:
    escape = "{{ ''.__class__.__mro__[1].__subclasses__() }}"
    file = write_task(tmp_path / "t", CHOICE, choices(2), doc_to_text=escape)
    with pytest.raises(RecipeError, match="cannot be loaded: SecurityError"):
        compared(tiny_llama, tiny_llama, GateTask(task=file))


def test_template_that_fails_on_a_later_question_is_an_error_of_the_recipe(
    tiny_llama: Path, tmp_path: Path
) -> None:
    late = "{{ question if answer == 0 else question.nonesuch.more }}"
    file = write_task(tmp_path / "t", CHOICE, choices(2), doc_to_text=late)
    with pytest.raises(RecipeError, match="template of tiny_choice does not fit a question"):
        compared(tiny_llama, tiny_llama, GateTask(task=file))


@pytest.mark.parametrize(
    ("changes", "metric", "words"),
    [
        ({"metric_list": [{"metric": "accc"}]}, None, r"no metric 'accc'.*Did you mean acc"),
        ({}, "f1", r"f1 is no metric of it.*Its metrics are acc"),
        (
            {"metric_list": [{"metric": "brier_score"}, {"metric": "acc"}]},
            None,
            r"brier_score gives no score for each question.*acc",
        ),
        ({"test_split": "validation"}, None, "cannot be loaded"),
        ({"process_docs": "utils.process"}, None, "process_docs runs Python code"),
    ],
)
def test_task_that_cannot_be_scored_is_refused_before_any_model_is_loaded(
    changes: dict[str, Any], metric: str | None, words: str, tiny_llama: Path, tmp_path: Path
) -> None:
    file = write_task(tmp_path / "t", CHOICE, choices(2), **changes)
    with pytest.raises(RecipeError, match=rf"gate\.tasks\[0\].*{words}"):
        compared(tmp_path / "no model", tmp_path / "none", GateTask(task=file, metric=metric))


@pytest.mark.slow
def test_unknown_name_is_refused_with_the_nearest_one(tiny_llama: Path) -> None:
    with pytest.raises(RecipeError, match=r"has no task 'gsm8kk'.*Did you mean gsm8k"):
        compared(tiny_llama, tiny_llama, GateTask(task="gsm8kk"))


def test_missing_lm_eval_says_what_to_install(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_task(tmp_path / "t", CHOICE, choices(2))
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(HostError, match="lm-eval, which is not installed") as error:
        compared(tiny_llama, tiny_llama, GateTask(task=file))
    assert "bwdeploy[accuracy]" in error.value.hint


def test_checkpoint_that_computes_nan_is_asked_nothing(tiny_llama: Path, tmp_path: Path) -> None:
    def break_norm(tensors: dict[str, Any]) -> None:
        tensors["model.norm.weight"][0] = math.nan

    broken = changed(tiny_llama, tmp_path / "broken", break_norm)
    file = write_task(tmp_path / "t", CHOICE, choices(2))
    report = compared(broken, tiny_llama, GateTask(task=file))
    assert report.tasks == ()
    assert [finding.check for finding in report.findings] == ["perplexity-not-finite"]
