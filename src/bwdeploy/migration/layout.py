"""The section `layout` of a migrated recipe: ranks, and the GPUs that they need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.facts.gpus import find_gpu
from bwdeploy.migration.found import Note

if TYPE_CHECKING:
    from bwdeploy.migration.deployment import EngineDeployment
    from bwdeploy.migration.draft import RecipeDraft

_MOST_GPUS = 72
"""Of one machine, in a recipe."""


def put_layout(draft: RecipeDraft, deployment: EngineDeployment) -> None:
    """Write the ranks of `deployment` and as many GPUs as they need."""
    place, world = deployment.layout_place, deployment.tp * deployment.pp
    put_ranks(
        draft, tp=deployment.tp, pp=deployment.pp, gpu=deployment.gpu, place=place or "assumed",
        gpus_per_node=_gpus_per_node(deployment, world),
    )  # fmt: skip
    if deployment.ep > 1:
        draft.put(("layout", "ep"), deployment.ep, place)
    if not place:
        message = "the deployment does not say how many ranks it has; the recipe has one"
        draft.note(Note("assumed", "layout", None, message, "set layout.tp and layout.gpus_per_node"))


def put_ranks(draft: RecipeDraft, *, tp: int, pp: int, gpu: str, place: str, gpus_per_node: int = 8) -> None:
    """Write `tp` and `pp`, on machines of `gpus_per_node` GPUs as far as they need several."""
    if gpu:
        put_gpu(draft, gpu)
    nodes, gpus = _machines(tp * pp, gpus_per_node)
    if nodes > 1:
        draft.put(("layout", "nodes"), nodes, f"{tp * pp} ranks on machines of {gpus} GPUs")
    draft.put(("layout", "gpus_per_node"), gpus, "one GPU for each rank")
    draft.put(("layout", "tp"), tp, place)
    if pp > 1:
        draft.put(("layout", "pp"), pp, place)


def put_gpu(draft: RecipeDraft, name: str) -> None:
    """Write the GPU `name`, or note that it is not known."""
    if find_gpu(name) is not None:
        draft.put(("layout", "gpu"), name)
    else:
        message = "no such GPU is known here, so the recipe names none"
        draft.note(Note("lost", "gpu", name, message, "set layout.gpu, for example B200"))


def _gpus_per_node(deployment: EngineDeployment, world: int) -> int:
    """As the Triton model's `num_nodes` says, else as the mapping does."""
    said = deployment.setting("tensorrt_llm", "num_nodes")
    nodes = int(said.value) if said is not None and str(said.value).isdecimal() else 0
    return world // nodes if nodes and not world % nodes else deployment.gpus_per_node


def _machines(world: int, gpus_per_node: int) -> tuple[int, int]:
    """Machines and GPUs in each for `world` ranks."""
    if world <= gpus_per_node or world % gpus_per_node:
        return 1, min(world, _MOST_GPUS)
    return world // gpus_per_node, gpus_per_node
