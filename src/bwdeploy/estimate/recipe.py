"""A recipe to its estimate: method, workload, points, expectations. Nothing is run on a GPU here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.errors import Finding, RecipeError
from bwdeploy.estimate.drafts import drafts_of
from bwdeploy.estimate.expectations import compare, load_of
from bwdeploy.estimate.figures import Estimate, EstimateRequest
from bwdeploy.estimate.points import Subject, choose_method, points_of
from bwdeploy.facts.gpus import find_gpu
from bwdeploy.model.describe import describe_model, way_to_know
from bwdeploy.planner.memory import plan_memory
from bwdeploy.planner.speed.roofline import Load
from bwdeploy.planner.speed.slow_settings import settings_against
from bwdeploy.planner.speed.work import recipe_work

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.facts.gpus import Gpu
    from bwdeploy.model.describe import DescribedModel
    from bwdeploy.model.shape import ModelShape
    from bwdeploy.recipe.schema import Recipe

_DEFAULT_TOKENS = 1024
_LADDER = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
_SHORT_LADDER = (1, 4, 16, 64, 256, 1024, 4096)


def estimate_recipe(recipe: Recipe, request: EstimateRequest) -> Estimate:
    """Estimate the recipe's own layout.

    Raises:
        RecipeError: no GPU is named, or the model's shape is not known on this machine.
        HostError: aiconfigurator was asked for and is not there, or cannot know this recipe.
        ToolError: aiconfigurator was asked for and failed.
    """
    described = describe_model(recipe)
    gpu, shape = _gpu(recipe), _shape(described, recipe.model.source)
    work = recipe_work(recipe, shape, described.quantization)
    python, why = choose_method(recipe, described, gpu, request)
    load = _load(recipe, request)
    drafts, notes = drafts_of(recipe, request, work, gpu, load)
    subject = Subject(recipe, described, shape, gpu, work, drafts, python)
    counts = _concurrency(request, load.concurrency)
    expected = {name: load_of(one, load) for name, one in recipe.expect.items()}
    wanted = (load, *(load._replace(concurrency=count) for count in counts), *expected.values())
    answers = points_of(subject, wanted, request=request)
    own = answers.points[load]
    more = answers.notes
    if python is not None and own.method == "roofline":
        why, more = answers.notes[0], answers.notes[1:]
    return Estimate(
        name=recipe.name,
        method=own.method,
        why=why,
        gpu=gpu.id,
        gpus=recipe.layout.tp * recipe.layout.pp,
        load=load,
        points=tuple(answers.points[load._replace(concurrency=count)] for count in counts),
        own_point=own,
        drafts=drafts,
        expect=tuple(
            compare(subject, name, one, expected[name], answers.points[expected[name]])
            for name, one in recipe.expect.items()
        ),
        front=answers.front,
        notes=(*notes, *more, *_setting_notes(recipe, load), *_room_notes(subject, load, counts)),
    )


def _gpu(recipe: Recipe) -> Gpu:
    name = recipe.layout.gpu
    gpu = find_gpu(name) if name else None
    if gpu is None:
        message = f"nothing is known about a GPU called {name!r}" if name else "an estimate needs a GPU"
        raise _unusable("layout.gpu", message, "Name one, for example `--set layout.gpu=B200`")
    return gpu


def _shape(described: DescribedModel, source: str) -> ModelShape:
    if described.shape is not None and described.shape.kind == "decoder":
        return described.shape
    if described.problem is not None:
        raise _unusable("model.source", described.problem.message, described.problem.hint)
    raise _unusable(
        "model.source",
        "the model's shape is not known on this machine, or it is no language model",
        way_to_know(source),
    )


def _unusable(path: str, message: str, hint: str) -> RecipeError:
    return RecipeError(
        (Finding(rule="estimate-unknown", severity="error", path=path, message=message, hint=hint),)
    )


def _load(recipe: Recipe, request: EstimateRequest) -> Load:
    """The workload asked for, else of the first expectation that has one, else 1,024 tokens in and out."""
    layout, engine = recipe.layout, recipe.engine
    given = next((one.workload for one in recipe.expect.values() if one.workload), None)
    tokens = max(1, min(_DEFAULT_TOKENS, engine.max_seq_len // 2))
    own = engine.max_batch_size * (layout.tp if layout.attention_dp else 1) * layout.pp
    return Load(
        concurrency=own,
        input_tokens=request.input_tokens or (given.input_tokens if given else tokens),
        output_tokens=request.output_tokens or (given.output_tokens if given else tokens),
    )


def _concurrency(request: EstimateRequest, own: int) -> tuple[int, ...]:
    if request.concurrency:
        return tuple(sorted(set(request.concurrency)))
    ladder = _LADDER if request.method == "roofline" else _SHORT_LADDER
    return tuple(sorted({*(count for count in ladder if count < own), own}))


def _setting_notes(recipe: Recipe, load: Load) -> tuple[str, ...]:
    against = settings_against(recipe, load.input_tokens)
    return tuple(f"the figures are for a better setting of {one}" for one in against)


def _room_notes(subject: Subject, load: Load, counts: tuple[int, ...]) -> Iterator[str]:
    longest = subject.recipe.engine.max_seq_len
    if load.input_tokens + load.output_tokens > longest:
        yield (
            f"engine.max_seq_len is {longest}: requests of {load.input_tokens} tokens in and"
            f" {load.output_tokens} out are refused or cut short"
        )
    memory = plan_memory(subject.recipe, subject.described)
    if memory is None or memory.max_requests is None or max(counts) <= memory.max_requests:
        return
    yield (
        f"the KV cache holds {memory.max_requests:,} requests of {longest:,} tokens: with more at once of"
        " that length, some wait and the figures are too high"
    )
