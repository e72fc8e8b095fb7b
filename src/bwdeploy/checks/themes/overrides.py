"""Rules on `quantize.overrides`: patterns without effect, and patterns that match no layer of the model."""

from __future__ import annotations

import re
from fnmatch import translate
from typing import TYPE_CHECKING

from bwdeploy.checks.rule import Problem, Rule, Subject

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bwdeploy.model.shape import ModelShape, Weight

_SOME_EXPERTS = frozenset({0, 1, 10, 100})
"""Stand for all experts of a layer: their names differ in nothing but the number."""


def _with_recipe(subject: Subject) -> Iterator[Problem]:
    quantize = subject.recipe.quantize
    if quantize.recipe is not None and quantize.overrides:
        message = "overrides change a format, and this recipe hands that to a ModelOpt recipe"
        yield Problem(("quantize", "overrides"), message, "write the patterns into the ModelOpt recipe")


def _shadowed(subject: Subject) -> Iterator[Problem]:
    patterns = [override.modules for override in subject.recipe.quantize.overrides]
    for index, pattern in enumerate(patterns):
        if any(later in {pattern, "*"} for later in patterns[index + 1 :]):
            message = f"a later entry covers every module of {pattern!r}, so this one has no effect"
            yield Problem(
                ("quantize", "overrides", index), message, "remove it, or put it after the later one"
            )


def _everything(subject: Subject) -> Iterator[Problem]:
    for index, override in enumerate(subject.recipe.quantize.overrides):
        if override.format == "none" and not override.modules.strip("*"):
            message = "this leaves every module unquantized"
            yield Problem(
                ("quantize", "overrides", index), message, "name the modules, or set quantize.method: none"
            )


def _unmatched(subject: Subject) -> Iterator[Problem]:
    shape, overrides = subject.shape, subject.recipe.quantize.overrides
    if shape is None or not overrides:
        return
    for index, override in enumerate(overrides):
        matches = re.compile(translate(override.modules)).match
        names = _linear_modules(shape, override.modules)
        if any(matches(name) for name in names):
            continue
        message = f"{override.modules!r} matches no linear layer of the model ({shape.origin})"
        near = _near_names(override.modules, names)
        hint = (
            f"did you mean a pattern for {' or '.join(near)}"
            if near
            else _example(override.modules, shape, names)
        )
        yield Problem(("quantize", "overrides", index, "modules"), message, hint)


def _linear_modules(shape: ModelShape, pattern: str) -> list[str]:
    """Names of all linear layers; of the experts of a layer only some, and those that `pattern` numbers."""
    numbered = {int(number) for number in re.findall(r"\d{1,5}", pattern)} | _SOME_EXPERTS
    linear = [weight for weight in shape.weights if weight.is_linear]
    return [name for weight in linear for name in _names(weight, numbered)]


def _names(weight: Weight, numbered: Iterable[int]) -> Iterator[str]:
    experts = sorted({number for number in numbered if number < weight.copies} | {weight.copies - 1})
    for layer in weight.layers or (0,):
        in_layer = weight.module.replace("{layer}", str(layer))
        if "{expert}" in in_layer:
            yield from (in_layer.replace("{expert}", str(expert)) for expert in experts)
        else:
            yield in_layer


def _example(pattern: str, shape: ModelShape, names: list[str]) -> str:
    if "expert" in pattern:
        last = next((name for name in reversed(names) if "expert" in name), None)
        return f"the last expert is {last}" if last else "remove it: the model has no experts"
    if not names:
        return "remove it"
    return (
        f"a layer is named, for example, {names[0]}, and the last one has the number {len(shape.layers) - 1}"
    )


def _near_names(pattern: str, names: list[str]) -> list[str]:
    from difflib import get_close_matches  # noqa: PLC0415 - only on the way to a warning

    tails = {name.split(".", 3)[-1]: name for name in reversed(names)}
    wanted = pattern.strip("*.").split(".*.")[-1]
    return [tails[near] for near in get_close_matches(wanted, tails, n=2, cutoff=0.5)]


RULES = (
    Rule(
        id="quantize-overrides-with-recipe",
        severity="error",
        summary="overrides do not apply to a ModelOpt recipe",
        find=_with_recipe,
        why="Two places would decide the format of one layer, and which one wins would be a guess.",
    ),
    Rule(
        id="quantize-override-shadowed",
        severity="warning",
        summary="an override that a later one covers",
        find=_shadowed,
        why="The checkpoint would not have the mixed precision that the recipe seems to promise.",
    ),
    Rule(
        id="quantize-override-everything",
        severity="error",
        summary="an override that leaves nothing quantized",
        find=_everything,
        why="Calibration would take its hours and write an unquantized checkpoint.",
    ),
    Rule(
        id="quantize-override-unmatched",
        severity="warning",
        summary="an override whose pattern matches no layer of the model",
        find=_unmatched,
        source="https://github.com/vllm-project/compressed-tensors/pull/866",
        why="ModelOpt says nothing about a pattern without a match; the layers that you meant would be "
        "quantized like all others. bwdeploy's own quantize stage stops there, after loading the model.",
    ),
)
