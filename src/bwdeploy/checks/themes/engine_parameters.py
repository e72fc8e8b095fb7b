"""Rules on `serve.engine_parameters`: each template key exists, fits its type and is said here only.

The keys come from `facts.triton_templates`. How they fit the engine and the launch is said in
`engine_serving`, which other fields of `serve` an engine's models have in `serve`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.checks.rule import Problem, Subject
from bwdeploy.checks.themes import engine_serving
from bwdeploy.checks.themes.engine_serving import BACKEND, PATH, engine_rule, given, serves_engine
from bwdeploy.facts.template_values import misfit
from bwdeploy.facts.triton_templates import TemplateKey, removed_keys, template_keys
from bwdeploy.recipe.validate import shown
from bwdeploy.recipe.words import nearest

if TYPE_CHECKING:
    from collections.abc import Iterator

_FIXED = {"triton_backend": "tensorrtllm", "tensorrt_llm_model_name": "tensorrt_llm"}
"""Keys whose value follows from what is written."""
_PICTURES = ("multimodal_model_path", "multimodal_encoders_name", "max_num_images")


def _wrong_backend(subject: Subject) -> Iterator[Problem]:
    if subject.recipe.serve.engine_parameters and not serves_engine(subject.recipe):
        message = "no engine is served by Triton, so that these parameters have no effect"
        yield Problem(PATH, message, "remove them, or set engine.backend: tensorrt")


def _unknown(subject: Subject) -> Iterator[Problem]:
    names = given(subject)
    known = (*template_keys(), *removed_keys()) if names else ()
    for name in names:
        if name in known:
            continue
        near = nearest(name.lstrip("-").replace("-", "_"), template_keys())
        hint = (
            f"did you mean {near}"
            if near
            else "remove it, or look it up in the docs/model_config.md of tensorrtllm_backend"
        )
        yield Problem((*PATH, name), f"the Triton models of an engine have no {name}", hint)


def _removed(subject: Subject) -> Iterator[Problem]:
    for name in given(subject):
        if name in removed_keys():
            message = "older templates had this key; the models that are written do not"
            yield Problem((*PATH, name), message, removed_keys()[name])


def _type(subject: Subject) -> Iterator[Problem]:
    for name, key, value in _known(subject):
        expected = misfit(key, value)
        if expected and key.kind != "choice":
            yield Problem((*PATH, name), f"expected {expected}, got {shown(value)}", _as_written(key, value))


def _choice(subject: Subject) -> Iterator[Problem]:
    for name, key, value in _known(subject):
        if key.kind == "choice" and misfit(key, value):
            one_of = ", ".join(key.choices)
            near = nearest(value, key.choices) if isinstance(value, str) else ""
            hint = f"did you mean {near}" if near else f"choose one of: {one_of}"
            yield Problem((*PATH, name), f"{shown(value)} is not one of: {one_of}", hint)


def _elsewhere(subject: Subject) -> Iterator[Problem]:
    for name, key, _ in _known(subject):
        if key.elsewhere:
            message = f"the recipe says this at {key.elsewhere}"
            yield Problem((*PATH, name), message, "remove it here, and set it there")


def _fixed(subject: Subject) -> Iterator[Problem]:
    for name, _, value in _known(subject):
        if name in _FIXED and value != _FIXED[name] and isinstance(value, str):
            message = f"the repository is written with the C++ backend under its own name, not {value}"
            yield Problem((*PATH, name), message, f"remove it, or write {_FIXED[name]}")


def _pictures(subject: Subject) -> Iterator[Problem]:
    for name in given(subject):
        if name in _PICTURES:
            message = "preprocessing takes text only: no vision encoder is served"
            yield Problem((*PATH, name), message, "remove it, or set engine.backend: pytorch")


def _known(subject: Subject) -> Iterator[tuple[str, TemplateKey, object]]:
    for name, value in given(subject).items():
        key = template_keys().get(name)
        if key is not None:
            yield name, key, value


def _as_written(key: TemplateKey, value: object) -> str:
    """What to write in place of `value`, for the slips that people make."""
    if isinstance(value, str) and key.kind == "switch" and value.lower() in {"true", "false"}:
        return f"write {value.lower()} without quotes"
    if isinstance(value, str) and key.kind in {"whole", "number"} and value.replace(".", "", 1).isdecimal():
        return f"write {value} without quotes"
    if isinstance(value, str) and key.kind in {"groups", "wholes"}:
        return "write a list, for example [0, 1]"
    if isinstance(value, str) and key.kind == "tree":
        return "write lists, for example [[0, 0], [0, 1]]"
    default = "" if key.default is None else f"; unset means {shown(key.default).removeprefix('the number ')}"
    return f"{key.help[0].lower()}{key.help[1:].rstrip('.')}{default}"


_IGNORED = "The backend takes what it cannot read for unset, without a word: the engine runs on its default."
RULES = (
    engine_rule(
        "parameter-backend",
        "parameters of an engine without one",
        _wrong_backend,
        severity="warning",
        why="Nothing reads them; what they were meant to change stays as it is.",
    ),
    engine_rule(
        "parameter-unknown",
        "no such template key",
        _unknown,
        severity="error",
        why="Nothing reads it; a misspelt name leaves the setting at its default.",
    ),
    engine_rule(
        "parameter-removed",
        "a template key of older versions",
        _removed,
        severity="error",
        why="Nothing reads it any more.",
    ),
    engine_rule(
        "parameter-type",
        "a parameter of the wrong type or size",
        _type,
        severity="error",
        source=BACKEND,
        why=_IGNORED,
    ),
    engine_rule(
        "parameter-choice",
        "a parameter with a value that does not exist",
        _choice,
        severity="error",
        source=BACKEND,
        why=_IGNORED,
    ),
    engine_rule(
        "parameter-said-elsewhere",
        "a parameter that the recipe says elsewhere",
        _elsewhere,
        severity="error",
        source="bwdeploy",
        why="Two places for one setting drift apart, and the models disagree.",
    ),
    engine_rule(
        "parameter-fixed",
        "a parameter that follows from what is written",
        _fixed,
        severity="error",
        source="bwdeploy",
        why="The other backend or model is not part of the repository; the server refuses it.",
    ),
    engine_rule(
        "parameter-pictures",
        "a vision encoder in front of an engine",
        _pictures,
        severity="error",
        source="bwdeploy",
        why="The models have no inputs for pictures, and preprocessing refuses to load.",
    ),
    *engine_serving.RULES,
)
