"""Small lm-eval tasks in files, with their data beside them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

CHOICE: dict[str, Any] = {
    "task": "tiny_choice",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "choice.jsonl"}},
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "Question: {{question}}\nAnswer:",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "{{answer}}",
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
}
GENERATION: dict[str, Any] = {
    "task": "tiny_generation",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": ["generation.jsonl"]}},
    "test_split": "test",
    "output_type": "generate_until",
    "doc_to_text": "{{question}}",
    "doc_to_target": "{{answer}}",
    "generation_kwargs": {"until": ["\n"], "max_gen_toks": 4, "do_sample": False},
    "filter_list": [
        {
            "name": "first-letter",
            "filter": [{"function": "regex", "regex_pattern": "(.)"}, {"function": "take_first"}],
        },
        {"name": "whole", "filter": [{"function": "take_first"}]},
    ],
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}


def write_task(directory: Path, task: dict[str, Any], rows: list[dict[str, Any]], **changes: Any) -> str:
    """Write a task with its data into `directory`; its file:// name. A change to None removes a key."""
    directory.mkdir(parents=True, exist_ok=True)
    content = {name: value for name, value in (task | changes).items() if value is not None}
    path = directory / f"{task['task']}.yaml"
    path.write_text(json.dumps(content), encoding="utf-8")
    data = directory / ("choice.jsonl" if task is CHOICE else "generation.jsonl")
    data.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return f"file://{path}"


def choices(count: int) -> list[dict[str, Any]]:
    """Questions with three answers each."""
    words = ["one", "two", "three"]
    return [{"question": f"{n} + 1 ?", "choices": words, "answer": n % 3} for n in range(count)]


def texts(answers: list[str]) -> list[dict[str, Any]]:
    """Questions that want these answers."""
    return [{"question": f"Say number {n}", "answer": answer} for n, answer in enumerate(answers)]
