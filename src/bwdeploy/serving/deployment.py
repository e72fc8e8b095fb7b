"""An output directory of `bwdeploy build`, opened: what serving needs to know, from `bwdeploy.json`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - part of the public dataclass
from typing import Final

from pydantic import ValidationError

from bwdeploy.errors import StoreError
from bwdeploy.pipeline.output import MANIFEST, read_manifest
from bwdeploy.recipe.schema import Recipe, Serve

REPOSITORY: Final = "model_repository"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A built deployment on disk."""

    directory: Path
    name: str
    serve: Serve
    tensorrt_llm: str

    @property
    def repository(self) -> Path:
        """The Triton model repository."""
        return self.directory / REPOSITORY


def open_deployment(directory: Path) -> Deployment:
    """Read an output directory.

    Raises:
        StoreError: it is not an output directory, or its manifest or repository is not usable.
    """
    directory = directory.absolute()
    manifest = read_manifest(directory)
    try:
        recipe = Recipe.model_validate_json(json.dumps(manifest["recipe"]))
    except (KeyError, ValidationError) as error:
        raise StoreError(
            f"{directory / MANIFEST} lacks or misstates the recipe: {error}",
            hint="Build the recipe again with this version",
        ) from error
    deployment = Deployment(
        directory=directory,
        name=recipe.name,
        serve=recipe.serve,
        tensorrt_llm=recipe.engine.tensorrt_llm,
    )
    if not (deployment.repository / recipe.serve.model_name / "config.pbtxt").is_file():
        raise StoreError(
            f"{deployment.repository} has no model {recipe.serve.model_name}; the output is not whole",
            hint="Build the recipe again: it is repaired",
        )
    return deployment
