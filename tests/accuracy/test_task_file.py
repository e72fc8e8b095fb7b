"""Task files are data: what would run code is refused by name, and every file that counts is known."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bwdeploy.accuracy.task_file import TaskFileError, read_task_file

TASK: dict[str, Any] = {
    "task": "mine",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "questions.jsonl"}},
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "{{question}}",
    "doc_to_target": "{{answer}}",
    "metric_list": [{"metric": "acc"}],
}
ODD = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "questions.jsonl").write_text("{}\n")
    return tmp_path


def write(place: Path, text: str | None = None, **changes: Any) -> Path:
    """A task file; a change to None removes the key."""
    content = {name: value for name, value in (TASK | changes).items() if value is not None}
    file = place / "mine.yaml"
    file.write_text(json.dumps(content) if text is None else text)
    return file


def refused(file: Path) -> str:
    with pytest.raises(TaskFileError) as error:
        read_task_file(file)
    return f"{error.value.message} > {error.value.hint}"


def test_whole_task_is_read_with_its_files(place: Path) -> None:
    task = read_task_file(write(place))
    assert task.name == "mine"
    assert task.data_files == (place / "questions.jsonl",)
    assert task.task_files == (place / "mine.yaml",)
    assert task.config["dataset_kwargs"]["data_files"] == {"test": str(place / "questions.jsonl")}


def test_included_keys_lie_under_those_of_the_file_and_its_data_beside_it(place: Path) -> None:
    shared = place / "shared"
    shared.mkdir()
    (shared / "other.jsonl").write_text("{}\n")
    base = TASK | {"dataset_kwargs": {"data_files": "other.jsonl"}, "description": "from below"}
    (shared / "base.yaml").write_text(json.dumps(base))
    task = read_task_file(write(place, "include: shared/base.yaml\ntask: above\n"))
    assert (task.name, task.config["description"]) == ("above", "from below")
    assert task.data_files == (shared / "other.jsonl",)
    assert task.task_files == (place / "mine.yaml", shared / "base.yaml")


def test_file_that_includes_itself_is_refused(place: Path) -> None:
    assert "included more than once" in refused(write(place, "include: mine.yaml\n"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"process_docs": "utils.f"}, "process_docs runs Python code"),
        ({"class": "x.Task"}, "class runs Python code"),
        ({"custom_dataset": "x.make"}, "custom_dataset runs Python code"),
        ({"unsafe_code": True}, "unsafe_code runs Python code"),
        ({"use_prompt": "x.yaml:*"}, "use_prompt runs Python code"),
        ({"metric_list": [{"metric": "x/y", "hf_evaluate": True}]}, "x/y would run code from a hub"),
        ({"generation_kwargs": {"custom_generate": "x/y", "trust_remote_code": True}}, "custom_generate"),
        ({"filter_list": [{"name": "a", "filter": [{"function": "custom"}]}]}, "none of lm-eval's own"),
        ({"dataset_path": "pandas"}, "'pandas' is not read"),
        ({"dataset_path": "openai/gsm8k"}, "'openai/gsm8k' is not read from a task file > use csv, json"),
        (
            {"dataset_kwargs": {"data_files": "q", "trust_remote_code": True}},
            "trust_remote_code is not taken",
        ),
        ({"dataset_kwargs": {"data_files": "https://x/y.json"}}, "https:/x/y.json is no file"),
        ({"dataset_kwargs": {"data_files": "none.jsonl"}}, "none.jsonl is no file"),
        ({"dataset_kwargs": {}}, "names no data"),
        ({"output_type": "loglikelihood_rolling"}, "gives no score for each question"),
        ({"group": "many"}, "makes it a group of tasks > name each task"),
        ({"doc_to_txt": "x"}, "no key 'doc_to_txt' > did you mean doc_to_text"),
        ({"doc_to_target": None, "test_split": None}, "it lacks doc_to_target, test_split"),
        ({"metric_list": None}, "lacks metric_list"),
        ({"metric_list": [{"aggregation": "mean"}]}, "entry without metric"),
        ({"task": "two words"}, "'two words' is no name"),
    ],
)
def test_what_would_run_code_or_cannot_be_scored_is_refused(
    changes: dict[str, Any], words: str, place: Path
) -> None:
    assert words in refused(write(place, **changes))


def test_function_tag_is_refused_with_its_line(place: Path) -> None:
    said = refused(write(place, "task: mine\ndoc_to_text: !function utils.f\n"))
    assert said.startswith(f"{place / 'mine.yaml'}:2: the YAML tag !function is not allowed")
    assert said.endswith("a task file runs no code: write templates")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=st.sampled_from([*TASK, "filter_list", "generation_kwargs", "include"]), value=ODD)
def test_odd_value_of_a_key_is_read_or_refused(place: Path, key: str, value: Any) -> None:
    file = write(place, json.dumps(TASK | {key: value}))
    with suppress(TaskFileError):  # any other exception is a traceback for the user
        assert read_task_file(file).data_files
