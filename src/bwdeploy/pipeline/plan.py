"""The plan: which stages a recipe needs, their keys, and whether each is in the store or must run, and why.

Nothing runs here. Sources are read at most once (see `digests`), everything else is arithmetic on the recipe.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from bwdeploy.errors import StoreError
from bwdeploy.pipeline.keys import KeyDocument, differences, key_document, key_of
from bwdeploy.pipeline.trees import content_files

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bwdeploy.pipeline.host import Host
    from bwdeploy.pipeline.stage import Stage, Step
    from bwdeploy.pipeline.store import Artifact, Store
    from bwdeploy.recipe.schema import Recipe

Status = Literal["cached", "run"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStage:
    """One stage of a plan."""

    stage: Stage
    step: Step
    key: str
    document: KeyDocument
    artifact: Artifact | None
    """The finished result, if the store has it."""
    why: str

    @property
    def name(self) -> str:
        """The stage's name."""
        return self.stage.name

    @property
    def status(self) -> Status:
        """Whether the stage's result is in the store."""
        return "cached" if self.artifact else "run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All stages of a build, in order."""

    recipe: Recipe
    stages: tuple[PlannedStage, ...]

    @property
    def keys(self) -> dict[str, str]:
        """Stage name → key."""
        return {planned.name: planned.key for planned in self.stages}


def make_plan(recipe: Recipe, *, stages: Sequence[Stage], host: Host, store: Store) -> Plan:
    """Plan a build.

    Raises:
        HostError: the source cannot be found on this machine.
        StoreError: a source or the store cannot be read.
    """
    previous = store.remembered(recipe.name)
    planned: list[PlannedStage] = []
    keys: dict[str, str] = {}
    for stage in stages:
        step = stage.plan_step(recipe, host)
        if step is None:
            continue
        document = key_document(stage, step, source_digests=_source_digests(step, store), input_keys=keys)
        key = keys[stage.name] = key_of(document)
        artifact = store.find(stage.name, key)
        why = "in the store" if artifact else _reason(stage.name, document, previous, store)
        planned.append(
            PlannedStage(stage=stage, step=step, key=key, document=document, artifact=artifact, why=why)
        )
    return Plan(recipe=recipe, stages=tuple(planned))


def _source_digests(step: Step, store: Store) -> dict[str, str]:
    digests: dict[str, str] = {}
    for name, root in step.sources.items():
        try:
            files = content_files(root)
            by_path = store.digests.of_files(files.values())
        except OSError as error:
            raise StoreError(
                f"{error.filename or root} cannot be read: {error.strerror or error}",
                hint="Check the path and its permissions",
            ) from error
        digests |= {f"{name}/{relative}": by_path[path] for relative, path in files.items()}
    return digests


def _reason(stage: str, document: KeyDocument, previous: dict[str, str], store: Store) -> str:
    if stage not in previous:
        return "not built yet"
    if previous[stage] == key_of(document):
        return "its store entry is missing or damaged"
    before = store.find(stage, previous[stage])
    if before is None:
        return "not in the store"
    return "changed: " + "; ".join(differences(before.key_document, document)[:5])
