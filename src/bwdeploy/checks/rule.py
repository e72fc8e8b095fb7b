"""What a rule is: an id, a severity, a source and a pure function from a subject to problems."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bwdeploy.checks.llm_args import ArgProblem, check_llm_args
from bwdeploy.facts.gpus import Gpu, find_gpu
from bwdeploy.facts.llm_args import LlmArgsSchema, llm_args_schema
from bwdeploy.facts.speculation import completed_arguments
from bwdeploy.model.describe import DescribedModel, describe_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bwdeploy.errors import Severity
    from bwdeploy.model.shape import ModelShape
    from bwdeploy.planner.layout.suggest import Suggestion
    from bwdeploy.planner.memory import MemoryPlan
    from bwdeploy.recipe.places import KeyPath
    from bwdeploy.recipe.schema import Recipe


class Problem(NamedTuple):
    """Something that a rule found."""

    path: KeyPath
    message: str
    hint: str
    severity: Severity | None = None
    """When it differs from the rule's own."""


class Subject(NamedTuple):
    """What rules look at: the recipe and the facts that it names."""

    recipe: Recipe
    gpu: Gpu | None
    """None when the recipe names none, or one that is not known."""
    llm_args: LlmArgsSchema | None
    """None when the TensorRT-LLM version is not known."""
    arg_problems: tuple[ArgProblem, ...]
    """What is wrong with `engine.llm_args`; several rules share this one look at them."""
    model: DescribedModel
    """What is known of the model without fetching anything."""
    memory: MemoryPlan | None
    """None without a GPU, while the shape is not known, or when the layout cannot hold the model at all."""
    suggestion: Suggestion | None
    """What `layout.auto` was answered with; `recipe` already has the chosen layout."""

    @property
    def shape(self) -> ModelShape | None:
        """The model's shape, None while it is not known."""
        return self.model.shape


class Rule(NamedTuple):
    """One thing that can be wrong."""

    id: str
    """Stable; people name it in their CI."""
    severity: Severity
    summary: str
    """One line for rule lists and SARIF."""
    find: Callable[[Subject], Iterable[Problem]]
    source: str = "bwdeploy"
    """The thread, document or upstream file that it comes from; several are parted by ` · `."""
    why: str = ""
    """What happens to somebody who goes on all the same; `check --explain` prints it."""


def subject_of(recipe: Recipe) -> Subject:
    """The recipe with its facts looked up and `layout.auto` answered.

    Raises:
        HostError: an installed tensorrt_llm carries a schema file that cannot be read.
    """
    model = describe_model(recipe)
    suggestion = _suggestion(recipe, model)
    if suggestion and suggestion.chosen:
        recipe = recipe.model_copy(update={"layout": suggestion.chosen})
    engine = recipe.engine
    return Subject(
        recipe=recipe,
        gpu=find_gpu(recipe.layout.gpu) if recipe.layout.gpu else None,
        llm_args=llm_args_schema(engine.tensorrt_llm),
        arg_problems=check_llm_args(
            engine.tensorrt_llm,
            completed_arguments(engine.llm_args, recipe.speculative, engine.tensorrt_llm),
        ),
        model=model,
        memory=_memory(recipe, model),
        suggestion=suggestion,
    )


def _memory(recipe: Recipe, model: DescribedModel) -> MemoryPlan | None:
    if recipe.layout.gpu is None:
        return None
    from bwdeploy.planner.memory import plan_memory  # noqa: PLC0415 - no memory to compare with, no planner

    return plan_memory(recipe, model)


def _suggestion(recipe: Recipe, model: DescribedModel) -> Suggestion | None:
    if recipe.layout.auto is None:
        return None
    from bwdeploy.planner.layout.suggest import suggest  # noqa: PLC0415 - few recipes ask for it

    return suggest(recipe, model, recipe.layout.auto)
