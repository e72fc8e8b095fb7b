"""What a rule is: an id, a severity, a source and a pure function from a subject to problems."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bwdeploy.checks.llm_args import ArgProblem, check_llm_args
from bwdeploy.facts.gpus import Gpu, find_gpu
from bwdeploy.facts.llm_args import LlmArgsSchema, llm_args_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bwdeploy.errors import Severity
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


class Rule(NamedTuple):
    """One thing that can be wrong."""

    id: str
    """Stable; people name it in their CI."""
    severity: Severity
    summary: str
    """One line for rule lists and SARIF."""
    find: Callable[[Subject], Iterable[Problem]]
    source: str = "bwdeploy"
    """The thread, document or upstream file that it comes from."""


def subject_of(recipe: Recipe) -> Subject:
    """The recipe with its facts looked up.

    Raises:
        HostError: an installed tensorrt_llm carries a schema file that cannot be read.
    """
    gpu = find_gpu(recipe.layout.gpu) if recipe.layout.gpu else None
    engine = recipe.engine
    return Subject(
        recipe=recipe,
        gpu=gpu,
        llm_args=llm_args_schema(engine.tensorrt_llm),
        arg_problems=check_llm_args(engine.tensorrt_llm, engine.llm_args),
    )
