"""What is wrong with an existing Triton model repository, as far as its files show.

A Triton server tells some of this in its log only, some as a hang of the first stream, and accepts the rest.
Reads configurations and launch scripts, runs nothing. `rules` holds the rules of one model, `launch` those of
launch files, `engines` those of an engine and what stands around it; here stand the walk and what concerns
several models at once.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from google.protobuf.text_format import ParseError

from bwdeploy.checks.reading import DescribedRule
from bwdeploy.errors import Finding, RecipeError
from bwdeploy.recipe.document import read_document
from bwdeploy.recipe.places import dotted
from bwdeploy.recipe.words import nearest
from bwdeploy.serving.model_config import parse_pbtxt, pbtxt_names
from bwdeploy.serving.repository_check.devices import DEVICE_RULES, device_problems
from bwdeploy.serving.repository_check.engine_launch import ENGINE_LAUNCH_RULES, engine_launch_problems
from bwdeploy.serving.repository_check.engines import ENGINE_RULES, engine_problems, found_engines
from bwdeploy.serving.repository_check.ensembles import ENSEMBLE_RULES, ensemble_problems
from bwdeploy.serving.repository_check.launch import LAUNCH_RULES, launch_problems
from bwdeploy.serving.repository_check.model import (
    CONFIG,
    MODEL_YAML,
    ModelDirectory,
    RepositoryProblem,
)
from bwdeploy.serving.repository_check.rules import MODEL_RULES, model_problems
from bwdeploy.serving.repository_check.settings import SETTINGS_RULES, settings_problems
from bwdeploy.serving.repository_check.templates import TEMPLATE_RULES, template_problems

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MAX_CONFIG_BYTES = 1_000_000

_WALK_RULES = (
    DescribedRule(
        "triton-config-missing",
        "error",
        "a model directory without config.pbtxt",
        "triton-inference-server/server docs/getting_started/llm.md",
        "The launchers switch auto-completion off, so that the server refuses a model that does not describe "
        "itself.",
    ),
    DescribedRule(
        "triton-config-syntax",
        "error",
        "a config.pbtxt that does not parse",
        "triton-inference-server/common protobuf/model_config.proto",
        "The server refuses the model; the reason stands in its log only.",
    ),
)
REPOSITORY_RULES: tuple[DescribedRule, ...] = (
    *_WALK_RULES,
    *MODEL_RULES,
    *DEVICE_RULES,
    *SETTINGS_RULES,
    *ENSEMBLE_RULES,
    *ENGINE_RULES,
    *ENGINE_LAUNCH_RULES,
    *TEMPLATE_RULES,
    *LAUNCH_RULES,
)
"""Every rule about repositories, for rule lists and `check --explain`."""


def check_repository(directory: Path) -> tuple[Finding, ...]:
    """Everything wrong with a model repository, or with one model directory of it, by file and line."""
    is_model = (directory / CONFIG).is_file()
    places = [directory] if is_model else _model_directories(directory)
    rules = {rule.id: rule for rule in REPOSITORY_RULES}
    problems: list[RepositoryProblem] = []
    models: list[ModelDirectory] = []
    for place in places:
        problems += template_problems(place)
        model = _read(place, problems)
        if model is not None:
            models.append(model)
    for model in models:
        problems += model_problems(model)
        problems += device_problems(model)
        problems += settings_problems(model)
        problems += ensemble_problems(model, models, alone=is_model)
    engines = found_engines(models, problems)
    problems += engine_problems(models, engines)
    problems += engine_launch_problems(directory, engines)
    problems += launch_problems(directory)
    findings = {_finding(problem, rules[problem.rule]) for problem in problems}
    return tuple(sorted(findings, key=lambda one: (one.file, one.line, one.rule, one.message)))


def is_repository(directory: Path) -> bool:
    """Whether `directory` is a model directory or holds one."""
    return (directory / CONFIG).is_file() or any(
        (place / CONFIG).is_file() for place in _model_directories(directory)
    )


def _model_directories(directory: Path) -> list[Path]:
    try:
        children = sorted(directory.iterdir())
    except OSError:
        return []
    return [child for child in children if child.is_dir() and not child.name.startswith((".", "_"))]


def _read(place: Path, problems: list[RepositoryProblem]) -> ModelDirectory | None:
    file = place / CONFIG
    if not file.is_file():
        message = f"{place.name} has no {CONFIG}"
        hint = "write one, or move what is no model out of the repository"
        problems.append(RepositoryProblem("triton-config-missing", place, 0, message, hint))
        return None
    try:
        with file.open("rb") as stream:
            raw = stream.read(_MAX_CONFIG_BYTES + 1)
        if len(raw) > _MAX_CONFIG_BYTES:
            message, hint = "it is larger than 1 MB, which no configuration is", "check the file"
            problems.append(RepositoryProblem("triton-config-syntax", file, 0, message, hint))
            return None
        text = raw.decode()
        config = parse_pbtxt(text)
    except ParseError as error:
        if "${" not in text:  # a template is judged as one
            line = error.GetLine() or 0
            message = _first_line(error)
            problems.append(RepositoryProblem("triton-config-syntax", file, line, message, _hint(message)))
        return None
    except UnicodeDecodeError:
        hint = "save it as UTF-8 without a byte order mark"
        problems.append(RepositoryProblem("triton-config-syntax", file, 0, "it is no UTF-8 text", hint))
        return None
    except OSError as error:
        message = f"it cannot be read: {error.strerror}"
        problems.append(RepositoryProblem("triton-config-syntax", file, 0, message, "check the file"))
        return None
    return ModelDirectory(place=place, text=text, config=config, settings=_settings(place, problems))


def _settings(place: Path, problems: list[RepositoryProblem]) -> dict[str, object]:
    """`model.yaml` of an llmapi model, flat: its `triton_config` and top-level values by dotted name."""
    for file in sorted(place.glob(f"*/{MODEL_YAML}")):
        if not file.is_file():
            continue
        try:
            data = read_document(file).data
        except RecipeError as error:
            first = error.findings[0]
            problems.append(
                RepositoryProblem("triton-config-syntax", file, first.line, first.message, first.hint)
            )
            continue
        if isinstance(data, dict):
            return dict(_flat(data, ()))
        message = "it holds no mapping of arguments"
        problems.append(RepositoryProblem("triton-config-syntax", file, 1, message, "write key: value lines"))
    return {}


def _flat(data: dict[str, object], path: tuple[str, ...]) -> Iterator[tuple[str, object]]:
    for key, value in data.items():
        yield dotted((*path, key)), value
        if isinstance(value, dict):
            yield from _flat(value, (*path, key))


def _first_line(error: ParseError) -> str:
    """Without protobuf's copy of the line, which may hold anything."""
    text = " ".join(str(error).split())
    found = re.match(r"\d+:\d+ : (?:'.*': )?(.*)", text)
    said = found[1] if found else text
    if "\ufeff" in said:
        return "it starts with a byte order mark"
    return "".join(letter if letter.isprintable() else "?" for letter in said)[:300] or "it does not parse"


def _hint(message: str) -> str:
    if "byte order mark" in message:
        return "save it as UTF-8 without a byte order mark"
    found = re.search(r'type "inference\.(\w+)" has no (?:field|value) named "?(\w+)', message)
    near = nearest(found[2], pbtxt_names(found[1])) if found else None
    if found and not near and f"TYPE_{found[2].upper()}" in pbtxt_names(found[1]):
        near = f"TYPE_{found[2].upper()}"
    return f"did you mean {near}" if near else "correct it at this place"


def _finding(problem: RepositoryProblem, rule: DescribedRule) -> Finding:
    return Finding(
        rule=rule.id,
        severity=rule.severity,
        path="",
        message=problem.message,
        hint=problem.hint[:1].upper() + problem.hint[1:],
        file=str(problem.file),
        line=problem.line,
        column=1 if problem.line else 0,
        source=rule.source,
    )
