"""Read an executor file: YAML to `ExecutorSettings`, every problem at its place."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pydantic import ValidationError

from bwdeploy.errors import Finding, RecipeError
from bwdeploy.recipe.document import read_document
from bwdeploy.recipe.findings import finding_at, in_reading_order
from bwdeploy.recipe.places import dotted, path_within, value_at
from bwdeploy.recipe.validate import shown
from bwdeploy.recipe.words import nearest, section_fields
from bwdeploy.tools.executors.sbatch_options import option_problem
from bwdeploy.tools.executors.settings import (
    PATTERN_MEANINGS,
    ContainerSettings,
    ExecutorSettings,
    SlurmSettings,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pydantic_core import ErrorDetails

    from bwdeploy.recipe.document import Document
    from bwdeploy.recipe.places import KeyPath
    from bwdeploy.recipe.schema import Section

_SECTIONS: dict[KeyPath, type[Section]] = {
    (): ExecutorSettings,
    ("container",): ContainerSettings,
    ("slurm",): SlurmSettings,
}


def read_settings(file: Path) -> ExecutorSettings:
    """The settings in `file`.

    Raises:
        RecipeError: it cannot be read, or says something that no executor file can say.
    """
    document = read_document(file)
    try:
        settings = ExecutorSettings.model_validate_json(json.dumps(document.data))
    except ValidationError as error:
        details = error.errors(include_url=False)
        raise RecipeError(in_reading_order([_finding(detail, document) for detail in details])) from None
    problems = tuple(_option_findings(settings, document))
    if problems:
        raise RecipeError(problems)
    return settings


def _finding(detail: ErrorDetails, document: Document) -> Finding:
    path = path_within(tuple(detail["loc"]), document.data)
    if detail["type"] == "extra_forbidden":
        return finding_at(
            document.places.of_key(path),
            rule="executor-unknown-key",
            path=dotted(path),
            message=f"an executor file has no key {dotted(path)!r}",
            hint=_key_hint(path),
        )
    return finding_at(
        document.places.of_value(path),
        rule="executor-wrong-value",
        path=dotted(path),
        message=f"{shown(value_at(document.data, path))} does not fit: {_expected(detail)}",
        hint=_value_hint(detail, document.places.of_value(path).text),
    )


def _value_hint(detail: ErrorDetails, written: str) -> str:
    if detail["type"] == "string_type" and written:
        return f'put it in quotes: "{written}"'
    return "see docs/executors.md for what this key takes"


def _expected(detail: ErrorDetails) -> str:
    pattern = detail.get("ctx", {}).get("pattern")
    if pattern in PATTERN_MEANINGS:
        return f"expected {PATTERN_MEANINGS[pattern]}"
    message = detail["msg"]
    return message[:1].lower() + message[1:]


def _key_hint(path: KeyPath) -> str:
    section = _SECTIONS.get(path[:-1])
    if section is None:
        return "remove it"
    valid = tuple(section_fields(section))
    near = nearest(str(path[-1]), valid)
    return f"did you mean {near}" if near else "valid here: " + ", ".join(valid)


def _option_findings(settings: ExecutorSettings, document: Document) -> Iterable[Finding]:
    for name, value in settings.slurm.options.items():
        problem = option_problem(name, value)
        if problem is not None:
            path = ("slurm", "options", name)
            yield finding_at(
                document.places.of_key(path),
                rule="executor-slurm-option",
                path=dotted(path),
                message=problem.message,
                hint=problem.hint,
            )
