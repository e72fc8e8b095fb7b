"""One checked recipe to its output: plan, run, publish.

With `checks.recipes` (load, check) before it, this is the whole program in the order it happens; the
command line and Python callers use the same functions.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bwdeploy.model.describe import describe_model, describe_source
from bwdeploy.pipeline.host import probe_host
from bwdeploy.pipeline.output import publish_output
from bwdeploy.pipeline.plan import make_plan
from bwdeploy.pipeline.run import run_plan
from bwdeploy.pipeline.store import Store, storage_errors
from bwdeploy.places import cache_directory
from bwdeploy.planner.memory import plan_memory
from bwdeploy.planner.memory.quantization import plan_quantization
from bwdeploy.stages import STAGES, placed_in_output
from bwdeploy.stages.checkpoint import checkpoint_layout

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bwdeploy.model.describe import DescribedModel
    from bwdeploy.pipeline.jobs import Device, Executor
    from bwdeploy.pipeline.output import Reporter
    from bwdeploy.pipeline.plan import Plan
    from bwdeploy.pipeline.run import StageResult, Watcher
    from bwdeploy.planner.memory import MemoryPlan
    from bwdeploy.planner.memory.quantization import QuantizationPlan
    from bwdeploy.recipe.load import LoadedRecipe
    from bwdeploy.recipe.schema import Gate, Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResult:
    """A finished build."""

    name: str
    out: Path | None
    """None when the build was asked to stop before the repository."""
    stages: tuple[StageResult, ...]
    gate: Gate
    """The limits that the checkpoint keeps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a planned deployment is made of and needs; memory is None while the model's shape is not known."""

    model: DescribedModel
    memory: MemoryPlan | None
    quantization: QuantizationPlan | None
    """None when nothing is quantized."""


def open_store() -> Store:
    """The user's store: `$BWDEPLOY_STORE`, else `store` in the cache directory."""
    chosen = os.environ.get("BWDEPLOY_STORE")
    return Store(Path(chosen).expanduser().absolute() if chosen else cache_directory() / "store")


def plan_recipe(loaded: LoadedRecipe, *, store: Store, device: Device | None = None) -> Plan:
    """Plan the build of one recipe; `device` is of the machine that jobs run on, None: of this one.

    Raises:
        HostError, StoreError: as `make_plan`.
    """
    return make_plan(loaded.recipe, stages=STAGES, host=probe_host(device=device), store=store)


def build_recipe(
    loaded: LoadedRecipe,
    out: Path,
    *,
    store: Store,
    executor: Executor,
    watcher: Watcher,
    until: str | None = None,
    reporter: Reporter | None = None,
) -> BuildResult:
    """Build one recipe into `out`, or only into the store when `until` names an earlier stage.

    `reporter` writes pages about the build into `out`.

    Raises:
        ToolError, HostError, StoreError, GateError, InterruptedBuild: see `run_plan` and `publish_output`.
    """
    with storage_errors(store.root):
        plan = plan_recipe(loaded, store=store, device=executor.device)
        results = run_plan(plan, store=store, executor=executor, watcher=watcher, until=until)
    complete = len(results) == len(plan.stages)
    if complete:
        publish_output(
            out,
            recipe=loaded.recipe,
            recipe_text=loaded.text,
            host=probe_host(device=executor.device),
            results=results,
            placed=placed_in_output(loaded.recipe),
            reporter=reporter,
        )
    return BuildResult(
        name=plan.recipe.name, out=out if complete else None, stages=results, gate=plan.recipe.gate
    )


def planned_needs(plan: Plan) -> Needs:
    """What a planned deployment is made of and needs, see `needs_of`."""
    finished = {planned.name: planned.artifact for planned in plan.stages}
    made = {name: artifact.directory for name, artifact in finished.items() if artifact is not None}
    return needs_of(plan.recipe, made)


def needs_of(recipe: Recipe, made: Mapping[str, Path]) -> Needs:
    """What a deployment is made of and needs; `made` are the directories of finished stages.

    The model is known as its source says, else as stage `source` has made it. A checkpoint that is in the
    store already is counted by its own headers.
    """
    unified = checkpoint_layout(recipe) == "unified"
    checkpoint = made.get("quantize") if unified else None  # files of ranks hold parts of tensors
    model = describe_model(recipe)
    if model.shape is None and "source" in made:
        model = describe_source(f"file://{made['source']}")
    return Needs(
        model=model,
        memory=plan_memory(recipe, model, checkpoint=checkpoint),
        quantization=plan_quantization(recipe, model),
    )
