"""Which layouts a model can have on the GPUs at hand, and the best of them for a goal.

Every split into tp, pp, ep and attention data parallelism (powers of two) is tried: what does not fit is
kept with its reason, the rest is ranked by the predicted step. The ranking is arithmetic with a wide band
(`roofline`), so close candidates deserve a measurement.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from bwdeploy.facts.gpus import find_gpu
from bwdeploy.planner.layout.fitting import layout_conflicts, scale_block
from bwdeploy.planner.memory import plan_memory
from bwdeploy.planner.speed.roofline import Load, estimate_point, step_time
from bwdeploy.planner.speed.work import recipe_work

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bwdeploy.facts.gpus import Gpu
    from bwdeploy.model.describe import DescribedModel
    from bwdeploy.model.shape import ModelShape
    from bwdeploy.planner.speed.work import Work
    from bwdeploy.recipe.schema import Layout, Recipe

Goal = Literal["latency", "throughput"]

DEFAULT_GPU = "b200"
_DEFAULT_TOKENS = 1024
_PIPELINE_FILL = 0.9
"""Assumed in the ranking: stages wait for each other now and then, which the prediction does not see."""
_GIB = 2**30


class Candidate(NamedTuple):
    """A layout that works."""

    layout: Layout
    requests: int
    """That the prediction is for: 1 for latency, the largest batch that fits for throughput."""
    step_ms: float
    tokens_per_s_per_user: float
    tokens_per_s_per_gpu: float
    weights_gib: float
    """On the fullest GPU, without the draft."""
    max_requests: int
    """Of max_seq_len tokens, over the whole deployment."""
    remarks: tuple[str, ...]
    """What is not ideal about it."""


class Rejection(NamedTuple):
    """A layout that does not work."""

    layout: Layout
    key: str
    """memory, pcie, nvlink, or the key of the conflict."""
    reason: str


class Suggestion(NamedTuple):
    """All layouts that were tried."""

    goal: Goal
    gpu: str
    load: Load | None
    """The traffic of the prediction; None when nothing could be predicted."""
    ranked: tuple[Candidate, ...]
    """Best first."""
    rejected: tuple[Rejection, ...]
    assumptions: tuple[str, ...]
    problem: str | None = None
    """Why there is nothing to choose from."""

    @property
    def chosen(self) -> Layout | None:
        """The best layout, None without any."""
        return self.ranked[0].layout if self.ranked else None


class _Choice(NamedTuple):
    recipe: Recipe
    described: DescribedModel
    shape: ModelShape
    work: Work
    gpu: Gpu
    load: Load
    block: int | None


def suggest(recipe: Recipe, described: DescribedModel, goal: Goal) -> Suggestion:
    """The layouts of a recipe's model on its GPUs, best first for `goal`.

    latency: the fastest step of one request inside one NVLink domain. throughput: most tokens/s for each GPU
    at the largest batch that fits. Ties go to fewer GPUs, then to fewer kinds of parallelism.
    """
    room, assumptions = _room(recipe.layout)
    gpu = find_gpu(room.gpu or DEFAULT_GPU)
    if gpu is None or described.shape is None or described.shape.kind != "decoder":
        problem = (
            f"no facts about a GPU called {room.gpu!r}"
            if gpu is None
            else "the model's shape is not known on this machine, or it is no language model"
        )
        return Suggestion(goal, room.gpu or DEFAULT_GPU, None, (), (), assumptions, problem)
    shape = described.shape
    choice = _Choice(
        recipe=recipe,
        described=described,
        shape=shape,
        work=recipe_work(recipe, shape, described.quantization),
        gpu=gpu,
        load=_load(recipe),
        block=scale_block(recipe, described.quantization),
    )
    fitting: list[Candidate] = []
    rejected: list[Rejection] = []
    for layout in layouts_of(shape, room):
        found = _judge(choice, layout, goal)
        if isinstance(found, Rejection):
            rejected.append(found)
        else:
            fitting.append(found)
    ranked = tuple(sorted(fitting, key=lambda one: _rank(one, goal)))
    nothing = None if ranked else "the model does not fit these GPUs in any layout"
    return Suggestion(goal, gpu.id, choice.load, ranked, tuple(rejected), assumptions, nothing)


def layouts_of(shape: ModelShape, room: Layout) -> Iterator[Layout]:
    """Every layout on up to all GPUs of `room`."""
    has_experts = any(layer.ffn.kind == "moe" for layer in shape.layers)
    gpus = room.nodes * room.gpus_per_node
    for count in _powers(gpus):
        nodes = -(-count // room.gpus_per_node)
        if count % nodes:
            continue
        for tp in _powers(count):
            if count % tp:
                continue
            for ep in _powers(tp) if has_experts else (1,):
                for attention_dp in (False, True) if has_experts and tp > 1 else (False,):
                    yield room.model_copy(
                        update={
                            "nodes": nodes,
                            "gpus_per_node": count // nodes,
                            "tp": tp,
                            "pp": count // tp,
                            "ep": ep,
                            "attention_dp": attention_dp,
                        }
                    )


def _room(layout: Layout) -> tuple[Layout, tuple[str, ...]]:
    """The GPUs to fill, and what was assumed about them."""
    gpu = find_gpu(layout.gpu or DEFAULT_GPU)
    if gpu is None or "gpus_per_node" in layout.model_fields_set:
        given = layout if layout.gpu else layout.model_copy(update={"gpu": DEFAULT_GPU})
        said = () if layout.gpu else (f"layout.gpu is not given: {DEFAULT_GPU} is assumed",)
        return given, said
    room = layout.model_copy(update={"gpu": gpu.id, "gpus_per_node": gpu.gpus_per_node})
    if layout.gpu is None:
        return room, (f"layout.gpu is not given: one node of {gpu.gpus_per_node} {gpu.id} is assumed",)
    return room, (f"layout.gpus_per_node is not given: whole machines of {gpu.gpus_per_node} are assumed",)


def _load(recipe: Recipe) -> Load:
    """The traffic of the first expectation that has one, else 1,024 tokens in and out as far as they fit."""
    for one in recipe.expect.values():
        if one.workload is not None:
            return Load(1, one.workload.input_tokens, one.workload.output_tokens)
    tokens = max(1, min(_DEFAULT_TOKENS, recipe.engine.max_seq_len // 2))
    return Load(1, tokens, tokens)


def _judge(choice: _Choice, layout: Layout, goal: Goal) -> Candidate | Rejection:
    gpu = choice.gpu
    if layout.tp > 1 and not gpu.nvlink_gb_s:
        reason = f"{gpu.id} has no NVLink: pipeline stages give more than tensor parallelism over PCIe"
        return Rejection(layout, "pcie", reason)
    if layout.tp > 1 and layout.tp > gpu.nvlink_domain:
        reason = f"NVLink joins {gpu.nvlink_domain} {gpu.id}"
        return Rejection(layout, "nvlink", reason)
    conflicts = layout_conflicts(choice.shape, layout, block=choice.block)
    for conflict in conflicts:
        if conflict.severity == "error":
            return Rejection(layout, conflict.key, conflict.message)
    remarks = tuple(one.message for one in conflicts if one.severity == "warning")
    return _sized(choice, layout, goal, remarks)


def _sized(choice: _Choice, layout: Layout, goal: Goal, remarks: tuple[str, ...]) -> Candidate | Rejection:
    recipe = choice.recipe.model_copy(update={"layout": layout})
    memory = plan_memory(recipe, choice.described)
    if memory is None:
        return Rejection(layout, "pp-layers", "there are stages without layers")
    fullest = memory.fullest
    requests = memory.max_requests or 0
    if requests < 1:
        needed = (fullest.fixed_bytes + fullest.kv_request_bytes) / _GIB
        has = (fullest.capacity_bytes or 0) / _GIB
        reason = (
            f"needs {needed:,.1f} of {has:,.1f} GiB for one request of {recipe.engine.max_seq_len} tokens"
        )
        return Rejection(layout, "memory", reason)
    copies = layout.tp if layout.attention_dp else 1
    batch = 1 if goal == "latency" else min(requests, recipe.engine.max_batch_size * copies * layout.pp)
    load = choice.load._replace(concurrency=batch)
    context = load.input_tokens + load.output_tokens // 2
    step = step_time(choice.work, choice.gpu, layout, requests=batch, context=context).total_s
    point = estimate_point(choice.work, choice.gpu, layout, load)
    return Candidate(
        layout=layout,
        requests=batch,
        step_ms=step * 1e3,
        tokens_per_s_per_user=point.tokens_per_s_per_user,
        tokens_per_s_per_gpu=point.tokens_per_s_per_gpu,
        weights_gib=fullest.weights_bytes / _GIB,
        max_requests=requests,
        remarks=remarks,
    )


def _rank(one: Candidate, goal: Goal) -> tuple[float, ...]:
    layout = one.layout
    simpler = (layout.tp * layout.pp, layout.pp, int(layout.attention_dp), layout.ep)
    filled = _PIPELINE_FILL if layout.pp > 1 else 1.0
    speed = one.step_ms if goal == "latency" else -one.tokens_per_s_per_gpu * filled
    return (float(f"{speed:.4g}"), *simpler)


def _powers(most: int) -> Iterable[int]:
    """1, 2, 4 … up to `most`, and `most` itself."""
    powers = [1 << exponent for exponent in range(most.bit_length()) if 1 << exponent <= most]
    return powers if powers[-1] == most else [*powers, most]
