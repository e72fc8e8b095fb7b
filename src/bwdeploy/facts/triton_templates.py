"""The five Triton models that serve an engine: their template keys, parameters, tensors, and what may be set.

A template key is a name that upstream's fill_template.py fills in; a parameter is an entry of config.pbtxt.
Facts only: `template_values` judges values, `serving.engine_repository` writes the models.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from bwdeploy.facts.reader import read_data
from bwdeploy.facts.versions import parse_version

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal["whole", "number", "switch", "text", "choice", "wholes", "groups", "tree"]
"""wholes: one whole number or a list of them. groups: a list of them, or a list of such lists, one for each
instance. tree: a list of paths through a draft tree."""

_KEY = re.compile(r"\$\{(\w+)\}")


class TemplateKey(NamedTuple):
    """One key and the values that it takes."""

    name: str
    kind: Kind
    help: str
    default: str | int | float | bool | None = None
    """What an unset one means, or what the template needs at least; None where neither is known."""
    choices: tuple[str, ...] = ()
    least: float | None = None
    above: float | None = None
    most: float | None = None
    elsewhere: str = ""
    """The place of a recipe that says it."""
    since: str = ""
    """The first TensorRT-LLM with it; empty: all that have these models."""


class EngineTensor(NamedTuple):
    """One input or output."""

    name: str
    type: str
    """Triton's word, or `${key}`."""
    dims: tuple[int, ...]
    optional: bool = False
    ragged: bool = False
    """Requests of different length share a batch."""
    scalar: bool = False
    """The backend sees one number for each request."""
    vision: bool = False
    """For pictures; bwdeploy's preprocessing takes text only."""
    since: str = ""
    until: str = ""
    """The first TensorRT-LLM without it."""

    def is_in(self, version: str) -> bool:
        """Whether the template of TensorRT-LLM `version` has it; of the newest, when that is not known."""
        this = parse_version(version)
        since, until = parse_version(self.since), parse_version(self.until)
        if this is None:
            return until is None
        return (since is None or since <= this) and (until is None or this < until)


class EngineModel(NamedTuple):
    """One of the five models."""

    name: str
    backend: str
    """Name or `${triton_backend}`; empty for the ensemble."""
    queue: Literal["bounded", "plain", "none"]
    """How Triton batches: with a limit of waiting requests, without, or not at all."""
    decoupled: bool
    """Whether the template says that it may send several responses."""
    instances: str
    """Template key of the instance count, a number, or empty."""
    mandatory: tuple[str, ...]
    optional: tuple[str, ...]
    parameters: dict[str, str]
    """Parameter of config.pbtxt → `${key}`, or the value that it always has."""
    inputs: tuple[EngineTensor, ...]
    outputs: tuple[EngineTensor, ...]
    defaults: dict[str, Any]
    """Template key → default, for those that have one."""


class EnsembleStep(NamedTuple):
    """One model of the ensemble; tensor of the model → tensor of the ensemble."""

    model: str
    inputs: dict[str, str]
    outputs: dict[str, str]


@cache
def template_keys() -> dict[str, TemplateKey]:
    """Every template key by name."""
    return {
        name: TemplateKey(name, **{**row, "choices": tuple(row.get("choices", ()))})
        for name, row in _data()["keys"].items()
    }


@cache
def engine_models() -> dict[str, EngineModel]:
    """The five models by name, in the order of the ensemble's work; the callers leave it as it is."""
    return {name: _model(name, row) for name, row in _data()["models"].items()}


@cache
def ensemble_steps() -> tuple[EnsembleStep, ...]:
    """Which tensor of which model becomes which tensor of the ensemble, for all versions together."""
    return tuple(EnsembleStep(**row) for row in _data()["ensemble_steps"])


def removed_keys() -> Mapping[str, str]:
    """Keys of older templates → what to do."""
    rows: Mapping[str, str] = _data()["removed"]
    return rows


def template_key_of(model: str, parameter: str) -> str | None:
    """The template key that fills `parameter` of `model`; None for a fixed or an unknown one."""
    row = engine_models().get(model)
    return key_in(row.parameters.get(parameter, "")) if row else None


def key_in(text: str) -> str | None:
    """The key of `${key}`, None for anything else."""
    found = _KEY.fullmatch(text)
    return found[1] if found else None


def _model(name: str, row: dict[str, Any]) -> EngineModel:
    keys = template_keys()
    return EngineModel(
        name=name,
        backend=row["backend"],
        queue=row["queue"],
        decoupled=row["decoupled"],
        instances=row["instances"],
        mandatory=tuple(row["mandatory"]),
        optional=tuple(row["optional"]),
        parameters=row["parameters"],
        inputs=tuple(_tensor(item) for item in row["inputs"]),
        outputs=tuple(_tensor(item) for item in row["outputs"]),
        defaults={
            key: keys[key].default
            for key in (*row["mandatory"], *row["optional"])
            if keys[key].default is not None
        },
    )


def _tensor(row: dict[str, Any]) -> EngineTensor:
    return EngineTensor(**{**row, "dims": tuple(row["dims"])})


def _data() -> dict[str, Any]:
    data: dict[str, Any] = read_data("triton_templates.json")
    return data
