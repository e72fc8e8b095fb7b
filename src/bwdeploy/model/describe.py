"""What is known of a recipe's model without fetching anything: its configuration, its shape, its files.

Looked for in this order: the source's own directory, package or hub cache on this machine, then the
configurations that come with bwdeploy. An architecture that is not known is read from the tensor headers.
Reading never fails a check: what is wrong is said in `problem`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from bwdeploy.model.config_file import FoundConfig, find_config, local_source
from bwdeploy.model.families import read_shape
from bwdeploy.model.problem import ModelProblem, ShapeError

if TYPE_CHECKING:
    from pathlib import Path

    from bwdeploy.model.shape import ModelShape
    from bwdeploy.recipe.schema import Recipe

__all__ = ["DescribedModel", "ModelProblem", "describe_model", "describe_source", "way_to_know"]

_MAX_REMEMBERED = 64
_CONFIGS = ("config.json", "hf_quant_config.json", "transformer/config.json")
_remembered: dict[tuple[str, tuple[float, ...]], DescribedModel] = {}


class DescribedModel(NamedTuple):
    """A model as far as it is known here."""

    config: dict[str, Any] | None
    """The Hugging Face (or diffusers) configuration; None when there is none on this machine."""
    origin: str
    """Where it was found: a path, `bundled configuration of org/name`, or an empty string."""
    shape: ModelShape | None
    problem: ModelProblem | None
    quantization: dict[str, Any] | None = None
    """What the source says of its own quantization: `quantization_config` of config.json, or the content of
    hf_quant_config.json under its key `quantization`."""
    directory: Path | None = None
    """Where its files lie, when they lie on this machine."""


_UNKNOWN = DescribedModel(config=None, origin="", shape=None, problem=None)


def describe_model(recipe: Recipe) -> DescribedModel:
    """What is known of the recipe's model on this machine."""
    return describe_source(recipe.model.source)


def describe_source(source: str) -> DescribedModel:
    """What is known of a model source: `model.source`, or a draft.

    Remembered until one of its configuration files changes: the recipes of a matrix share one reading.
    """
    place = local_source(source)
    key = (source, _times(place))
    found = _remembered.get(key)
    if found is None:
        if len(_remembered) >= _MAX_REMEMBERED:
            _remembered.clear()
        found = _remembered[key] = _describe(source, place)
    return found


def way_to_know(source: str) -> str:
    """The next step for somebody whose model is not known on this machine."""
    scheme, _, rest = source.partition("://")
    if scheme != "hf":
        return "put the config.json of the model beside it"
    repository, _, revision = rest.partition("@")
    pinned = f" --revision {revision}" if revision else ""
    return f"fetch its configuration: `hf download {repository} config.json{pinned}`"


def _times(place: Path | None) -> tuple[float, ...]:
    """When the files that are read were changed; 0 for one that is not there."""
    if place is None:
        return ()
    return tuple(_time(file) for file in (place, *(place / name for name in _CONFIGS)))


def _time(file: Path) -> float:
    try:
        status = file.stat()
    except (OSError, ValueError):
        return 0.0
    return status.st_mtime_ns + status.st_size / 2**40


def _describe(source: str, place: Path | None) -> DescribedModel:
    directory = place if place is not None and place.is_dir() else None
    try:
        found = find_config(source, place)
    except ShapeError as error:
        return _UNKNOWN._replace(problem=error.problem, directory=directory)
    if found is None:
        return _UNKNOWN._replace(directory=directory)
    shape, problem = _shape(found)
    if shape is not None and found.note:
        shape = shape._replace(assumptions=(*shape.assumptions, found.note))
    return DescribedModel(
        config=found.config,
        origin=found.origin,
        shape=shape,
        problem=problem,
        quantization=found.quantization,
        directory=found.directory or directory,
    )


def _shape(found: FoundConfig) -> tuple[ModelShape | None, ModelProblem | None]:
    """From the configuration; of an architecture that is not known, else from the tensor headers."""
    try:
        shape = read_shape(found.config, origin=found.origin)
    except ShapeError as error:
        if error.kind != "unknown-architecture":
            return None, error.problem
        return _from_headers(found, error.problem)
    if shape.known:
        return shape, None
    from_headers, problem = _from_headers(found, None)
    if from_headers is None:
        return shape, problem
    # The layers of the usual keys, the weights as they really are.
    return shape._replace(weights=from_headers.weights, origin=from_headers.origin), None


def _from_headers(
    found: FoundConfig, problem: ModelProblem | None
) -> tuple[ModelShape | None, ModelProblem | None]:
    if found.directory is None:
        return None, problem
    from bwdeploy.model.header_shape import shape_from_headers  # noqa: PLC0415 - few recipes need it

    try:
        shape = shape_from_headers(found.directory, found.config)
    except ShapeError as error:
        return None, error.problem
    return shape, None if shape is not None else problem
