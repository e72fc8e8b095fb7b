"""Rules on ensembles: every step names a model that is there, with tensors that it has and that fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bwdeploy.checks.reading import DescribedRule

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bwdeploy.serving.repository_check.model import ModelDirectory, RepositoryProblem

_LLM_STEP = "tensorrt_llm"
_TOKENS = "TOKENS_BATCH"
"""What upstream's postprocessing takes; a step called preprocessing is found before any model."""
_ENSEMBLES = "triton-inference-server/server docs/user_guide/ensemble_models.md"


def ensemble_problems(
    model: ModelDirectory, models: Sequence[ModelDirectory], *, alone: bool
) -> Iterator[RepositoryProblem]:
    """Everything wrong with an ensemble; `alone`: its neighbors were not read, so nothing is said of them."""
    if model.config.platform != "ensemble":
        return
    steps = model.config.ensemble_scheduling.step
    if not steps:
        yield model.problem(
            "triton-ensemble", "an ensemble without steps", "add ensemble_scheduling { step … }"
        )
    known = {other.name: other for other in models}
    types = {item.name: item.data_type for item in (*model.config.input, *model.config.output)}
    for step in steps:
        if step.model_name in known:
            yield from _step_problems(model, step, known[step.model_name], types)
        elif not alone:
            message = f"step {step.model_name or '(unnamed)'} is no model of this repository"
            others = sorted(set(known) - {model.name})
            hint = f"the repository has: {', '.join(others) or 'no other model'}"
            yield model.problem("triton-ensemble", message, hint, near=f'"{step.model_name}"')
    yield from _unconnected(model, steps)
    if any(step.model_name == _LLM_STEP or _TOKENS in step.input_map for step in steps):
        message = (
            "an ensemble around an LLM: cancelled requests go on, and streamed text can split characters"
        )
        hint = "serve one model that tokenizes and detokenizes itself, such as llmapi or ours"
        yield model.problem("triton-ensemble-llm", message, hint, near="ensemble_scheduling")


def _unconnected(model: ModelDirectory, steps: Sequence[Any]) -> Iterator[RepositoryProblem]:
    """Tensors that a step takes, or the ensemble answers with, and nothing makes."""
    made = {item.name for item in model.config.input}
    made |= {tensor for step in steps for tensor in step.output_map.values()}
    for step in steps:
        for tensor in step.input_map.values():
            if tensor not in made:
                message = f"step {step.model_name} takes tensor {tensor}, which nothing makes"
                hint = f"there are: {', '.join(sorted(made)) or 'none'}"
                yield model.problem("triton-ensemble", message, hint, near=f'"{tensor}"')
    for item in model.config.output if steps else ():
        if item.name not in made:
            message = f"no step makes the ensemble's output {item.name}"
            hint = f"name it in the output_map of a step; there are: {', '.join(sorted(made)) or 'none'}"
            yield model.problem("triton-ensemble", message, hint, near=f'"{item.name}"')


def _step_problems(
    model: ModelDirectory,
    step: Any,  # noqa: ANN401 - generated message class
    target: ModelDirectory,
    types: dict[str, int],
) -> Iterator[RepositoryProblem]:
    """One step; `types` learns the types of the ensemble's own tensors as steps connect them."""
    for kind, mapping, items in (
        ("input", step.input_map, target.config.input),
        ("output", step.output_map, target.config.output),
    ):
        own = {item.name: item for item in items}
        for name, tensor in mapping.items():
            if name not in own:
                message = f"step {step.model_name} has no {kind} {name}"
                hint = f"it has: {', '.join(sorted(own)) or 'none'}"
                yield model.problem("triton-ensemble", message, hint, near=f'"{name}"')
            elif types.setdefault(tensor, own[name].data_type) != own[name].data_type:
                message = (
                    f"tensor {tensor} has another data type than {kind} {name} of step {step.model_name}"
                )
                yield model.problem("triton-ensemble", message, "give both the same type", near=f'"{tensor}"')
        required = {item.name for item in items if not getattr(item, "optional", False)}
        if kind == "input" and (missing := sorted(required - set(mapping))):
            message = f"step {step.model_name} gets no {', '.join(missing)}"
            near = f'"{step.model_name}"'
            yield model.problem("triton-ensemble", message, "add them to its input_map", near=near)


ENSEMBLE_RULES: tuple[DescribedRule, ...] = (
    DescribedRule(
        "triton-ensemble",
        "error",
        "an ensemble whose steps do not connect",
        _ENSEMBLES,
        "The server refuses the ensemble, for some of these with the reason in its log only.",
    ),
    DescribedRule(
        "triton-ensemble-llm",
        "warning",
        "an ensemble around a language model",
        "triton-inference-server/core src/ensemble_scheduler",
        "Cancellation is looked at between steps only, so that an abandoned request keeps its place on "
        "the GPU; "
        "detokenizing token by token breaks multi-byte characters.",
    ),
)
