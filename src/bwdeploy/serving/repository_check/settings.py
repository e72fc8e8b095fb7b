"""The rule on model.yaml's keys: those of command lines and old versions that no configuration class has."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bwdeploy.checks.reading import DescribedRule
from bwdeploy.facts.llm_arg_renames import always_renamed
from bwdeploy.serving.repository_check.model import MODEL_YAML, RepositoryProblem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bwdeploy.serving.repository_check.model import ModelDirectory


def settings_problems(model: ModelDirectory) -> Iterator[RepositoryProblem]:
    """Keys that no version has under this name; which version serves is not known here."""
    files = sorted(file for file in model.place.glob(f"*/{MODEL_YAML}") if file.is_file())
    if not files or model.settings.get("backend", "pytorch") != "pytorch":
        return
    for row in always_renamed():
        name = ".".join(row.found)
        if name in model.settings:
            message = f"the LLM API has no argument {name}"
            hint = f"use {row.use}" if row.use else "remove it"
            line = _line_of_key(files[0], row.found[-1])
            yield RepositoryProblem("triton-settings-key", files[0], line, message, hint)


def _line_of_key(file: Path, key: str) -> int:
    """The first line that starts with `key`, 0 when none does."""
    starts = re.compile(rf"\s*[\"']?{re.escape(key)}[\"']?\s*:")
    lines = enumerate(file.read_text().splitlines(), start=1)
    return next((number for number, line in lines if starts.match(line)), 0)


SETTINGS_RULES: tuple[DescribedRule, ...] = (
    DescribedRule(
        "triton-settings-key",
        "error",
        "a key of model.yaml that the LLM API does not have",
        "https://github.com/NVIDIA/TensorRT-LLM/pull/18594 · tensorrt_llm/llmapi/llm_args.py",
        "Every configuration class forbids unknown keys: the model does not load.",
    ),
)
