"""An output directory of `bwdeploy build`, opened: what serving needs to know, from `bwdeploy.json`.

Which model answers, which names it takes and how many ranks its engine has are decided here and nowhere else.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - part of the public dataclass
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from bwdeploy.engines.directory import EngineError, read_engine
from bwdeploy.errors import HostError, StoreError
from bwdeploy.pipeline.output import MANIFEST, read_manifest
from bwdeploy.recipe.schema import Recipe, Serve
from bwdeploy.serving import trtllm_serve
from bwdeploy.serving.launch_line import LAUNCH
from bwdeploy.serving.vocabulary import LLMAPI, Vocabulary, ensemble_vocabulary
from bwdeploy.tools.triton_ranks import ENGINE_MODEL, EngineLaunch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.engines.directory import EngineDirectory

REPOSITORY: Final = "model_repository"
ENGINE_IN_REPOSITORY: Final = f"{ENGINE_MODEL}/1/engine"

_FRONT: Final = "ensemble"
"""The model of an engine's repository that takes text and answers with text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A built deployment on disk."""

    directory: Path
    name: str
    serve: Serve
    tensorrt_llm: str
    model: str
    """The Triton model that answers."""
    vocabulary: Vocabulary = LLMAPI
    """The names that it takes."""
    engine: EngineLaunch | None = None
    """None when Triton loads no engine."""
    nodes: int = 1
    """Machines that its ranks are spread over."""
    kernels: tuple[str, ...] = ()
    """Ops of the kernel pack that the model runs with."""

    @property
    def repository(self) -> Path:
        """The Triton model repository."""
        return self.directory / REPOSITORY


def open_deployment(directory: Path) -> Deployment:
    """Read an output directory.

    Raises:
        StoreError: it is not an output directory, or its manifest, repository or engine is not usable.
        HostError: it is for trtllm-serve, which is not started from here.
    """
    directory = directory.absolute()
    recipe = _recipe(directory)
    if recipe.serve.server == "trtllm-serve":
        raise _for_trtllm_serve(directory, recipe)
    has_engine = recipe.builds_engine
    deployment = Deployment(
        directory=directory,
        name=recipe.name,
        serve=recipe.serve,
        tensorrt_llm=recipe.engine.tensorrt_llm,
        model=_FRONT if has_engine else recipe.serve.model_name,
        vocabulary=ensemble_vocabulary(recipe.engine.tensorrt_llm) if has_engine else LLMAPI,
        engine=_engine_launch(directory, recipe) if has_engine else None,
        nodes=recipe.layout.nodes if has_engine else 1,
        kernels=recipe.kernels,
    )
    if not (deployment.repository / deployment.model / "config.pbtxt").is_file():
        raise StoreError(
            f"{deployment.repository} has no model {deployment.model}; the output is not whole",
            hint="Build the recipe again: it is repaired",
        )
    return deployment


def _recipe(directory: Path) -> Recipe:
    manifest = read_manifest(directory)
    try:
        return Recipe.model_validate_json(json.dumps(manifest["recipe"]))
    except (KeyError, ValidationError) as error:
        raise StoreError(
            f"{directory / MANIFEST} lacks or misstates the recipe: {error}",
            hint="Build the recipe again with this version",
        ) from error


def _engine_launch(directory: Path, recipe: Recipe) -> EngineLaunch:
    place = directory / REPOSITORY / ENGINE_IN_REPOSITORY
    try:
        found = read_engine(place)
    except EngineError as error:
        raise StoreError(error.message, hint="Build the recipe again: it is repaired") from error
    problems = tuple(_differences(found, recipe))
    if problems:
        raise StoreError(
            f"The engine in {place} does not fit the recipe: {'; '.join(problems)}",
            hint="Build the recipe again",
        )
    return EngineLaunch(
        version=recipe.engine.tensorrt_llm,
        world_size=found.mapping.world_size,
        mode=recipe.serve.launch_mode,
        plugins=bool(recipe.kernels),
        variables=tuple(sorted(recipe.engine.environment.items())),
    )


def _differences(found: EngineDirectory, recipe: Recipe) -> Iterator[str]:
    layout = recipe.layout
    if found.missing_ranks:
        yield "it lacks " + ", ".join(found.missing_files)
    if found.mapping.world_size != layout.tp * layout.pp:
        asked = layout.tp * layout.pp
        yield f"it has {found.mapping.world_size} ranks, and tp {layout.tp} and pp {layout.pp} make {asked}"
    if found.version != recipe.engine.tensorrt_llm:
        yield f"TensorRT-LLM {found.version} built it, and {recipe.engine.tensorrt_llm} is to load it"


def _for_trtllm_serve(directory: Path, recipe: Recipe) -> HostError:
    place = directory / trtllm_serve.DIRECTORY
    image = trtllm_serve.image_of(recipe.engine.tensorrt_llm)
    return HostError(
        f"{directory} is for trtllm-serve, which bwdeploy writes the files of and does not start.",
        hint=f"Run {place / LAUNCH} where TensorRT-LLM {recipe.engine.tensorrt_llm} is, such as in {image}.",
    )
