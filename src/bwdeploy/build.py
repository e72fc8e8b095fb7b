"""One checked recipe to its output: plan, run, publish.

With `checks.recipes` (load, check) before it, this is the whole program in the order it happens; the
command line and Python callers use the same functions.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bwdeploy.checks.themes.buildable import not_built_yet
from bwdeploy.errors import HostError
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
    from bwdeploy.model.describe import DescribedModel
    from bwdeploy.pipeline.jobs import Device, Executor
    from bwdeploy.pipeline.plan import Plan
    from bwdeploy.pipeline.run import StageResult, Watcher
    from bwdeploy.planner.memory import MemoryPlan
    from bwdeploy.planner.memory.quantization import QuantizationPlan
    from bwdeploy.recipe.load import LoadedRecipe


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResult:
    """A finished build."""

    name: str
    out: Path | None
    """None when the build was asked to stop before the repository."""
    stages: tuple[StageResult, ...]


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
) -> BuildResult:
    """Build one recipe into `out`, or only into the store when `until` names an earlier stage.

    Raises:
        HostError: the recipe asks for something that this version plans but does not build.
        ToolError, HostError, StoreError, GateError, InterruptedBuild: see `run_plan` and `publish_output`.
    """
    refused = [name for _, name in not_built_yet(loaded.recipe)]
    if refused:
        raise HostError(
            f"{loaded.recipe.name}: this version does not build {' and '.join(refused)}",
            hint="`bwdeploy check`, `plan` and `estimate` work on it; choose something else to build it",
        )
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
        )
    return BuildResult(name=plan.recipe.name, out=out if complete else None, stages=results)


def planned_needs(plan: Plan) -> Needs:
    """What a planned deployment is made of and needs.

    The model is known as its source says, else as stage `source` has made it. A checkpoint that is in the
    store already is counted by its own headers.
    """
    finished = {planned.name: planned.artifact for planned in plan.stages}
    made = finished.get("source")
    unified = checkpoint_layout(plan.recipe) == "unified"
    checkpoint = finished.get("quantize") if unified else None  # files of ranks hold parts of tensors
    model = describe_model(plan.recipe)
    if model.shape is None and made:
        model = describe_source(f"file://{made.directory}")
    return Needs(
        model=model,
        memory=plan_memory(plan.recipe, model, checkpoint=checkpoint.directory if checkpoint else None),
        quantization=plan_quantization(plan.recipe, model),
    )
