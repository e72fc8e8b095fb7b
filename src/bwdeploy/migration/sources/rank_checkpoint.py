"""A TensorRT-LLM checkpoint, or its config.json: layout, shape, quantization, but no sizes of an engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.engines.checkpoint import is_rank_checkpoint, read_rank_checkpoint
from bwdeploy.engines.document import EngineError
from bwdeploy.migration.deployment import EngineDeployment, Quantized, WeightsClue
from bwdeploy.migration.engine_recipe import engine_recipe
from bwdeploy.migration.files import source_error
from bwdeploy.migration.found import Note

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bwdeploy.engines.checkpoint import RankCheckpoint
    from bwdeploy.migration.found import Found, Wanted


def recognizes(path: Path) -> bool:
    """Whether `path` is a TensorRT-LLM checkpoint or its config.json."""
    return is_rank_checkpoint(path)


def read(path: Path, wanted: Wanted) -> Found:
    """The checkpoint at `path` as a recipe that makes it again and builds it.

    Raises:
        RecipeError: its config.json cannot be used.
    """
    return engine_recipe(checkpoint_deployment(path), wanted)


def checkpoint_deployment(path: Path) -> EngineDeployment:
    """The checkpoint at `path`.

    Raises:
        RecipeError: its config.json cannot be used.
    """
    try:
        found = read_rank_checkpoint(path)
    except EngineError as error:
        raise source_error(path, error.message, error.hint) from None
    version = found.config.get("version")
    return EngineDeployment(
        kind=f"TensorRT-LLM checkpoint of {found.architecture}, {found.mapping.world_size} ranks",
        name=found.file.absolute().parent.name,
        version=version if isinstance(version, str) else "",
        weights=WeightsClue(shape=found.config),
        quantized=Quantized(
            found.quant_algo or "", found.kv_cache_quant_algo or "", "quantization.quant_algo"
        ),
        tp=found.mapping.tp,
        pp=found.mapping.pp,
        ep=found.mapping.moe_ep,
        layout_place="mapping",
        notes=tuple(_missing_ranks(found)),
    )


def _missing_ranks(found: RankCheckpoint) -> Iterator[Note]:
    if found.missing_ranks:
        names = ", ".join(found.missing_files[:8])
        message = "the directory lacks weights that its config.json asks for; a build makes all of them"
        yield Note("assumed", "weight files", names, message)
