"""Rules that find problems of a recipe without running anything.

Each module of `themes` is one theme and ends in its `RULES`. A rule is a pure function from a `Subject` (the
recipe, the model's shape, its memory, and the facts that they name) to problems; `check` gives them their
places. A theme about a section that a recipe does not have is not even imported.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from bwdeploy.checks.rule import Rule, Subject, subject_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bwdeploy.errors import Finding
    from bwdeploy.recipe.load import LoadedRecipe
    from bwdeploy.recipe.schema import Recipe


class Theme(NamedTuple):
    """A module of `themes`."""

    name: str
    concerns: Callable[[Recipe], bool] = lambda _: True


THEMES = (
    Theme("source"),
    Theme("model"),
    Theme("quantize"),
    Theme(
        "training",
        lambda recipe: (
            recipe.quantize.method in {"qat", "qad", "auto"}
            or recipe.quantize.training is not None
            or recipe.quantize.search is not None
            or bool(recipe.speculative and recipe.speculative.train)
        ),
    ),
    Theme("gate", lambda recipe: bool(recipe.gate.model_fields_set)),
    Theme("formats"),
    Theme("kv_cache"),
    Theme("layout"),
    Theme("auto_layout", lambda recipe: recipe.layout.auto is not None),
    Theme("moe"),
    Theme("memory", lambda recipe: recipe.layout.gpu is not None),
    Theme(
        "memory_quantization",
        lambda recipe: recipe.layout.gpu is not None and recipe.quantize.quantizes,
    ),
    Theme("engine"),
    Theme(
        "build_flags",
        lambda recipe: (
            bool(recipe.engine.build_flags)
            or recipe.engine.backend == "tensorrt"
            or recipe.engine.converter != "modelopt"
        ),
    ),
    Theme("engine_checkpoint", lambda recipe: recipe.engine.backend == "tensorrt"),
    Theme(
        "speculative",
        lambda recipe: recipe.speculative is not None or "speculative_config" in recipe.engine.llm_args,
    ),
    Theme(
        "draft_making",
        lambda recipe: (
            recipe.speculative is not None
            or "speculative_config" in recipe.engine.llm_args
            or recipe.gate.min_acceptance_length is not None
        ),
    ),
    Theme("kernels", lambda recipe: bool(recipe.kernels)),
    Theme("kernels_in_tensorrt_llm", lambda recipe: bool(recipe.kernels)),
    Theme("versions"),
    Theme("serve"),
    Theme(
        "engine_parameters",
        lambda recipe: recipe.engine.backend == "tensorrt" or bool(recipe.serve.engine_parameters),
    ),
    Theme("security"),
    Theme("expect", lambda recipe: bool(recipe.expect)),
    Theme("buildable"),
)


def all_rules() -> tuple[Rule, ...]:
    """Every rule about recipes, theme by theme."""
    return _rules_of(THEMES)


def check(loaded: LoadedRecipe) -> tuple[Finding, ...]:
    """Everything that the rules find in one build, by line.

    Raises:
        HostError: an installed tensorrt_llm carries a schema file that cannot be read.
    """
    return findings_of(loaded, subject_of(loaded.recipe))


def findings_of(loaded: LoadedRecipe, subject: Subject) -> tuple[Finding, ...]:
    """What the rules find in `subject`, at its place in the recipe, by line."""
    findings = [
        loaded.finding(
            rule=rule.id,
            path=problem.path,
            message=problem.message,
            hint=problem.hint,
            severity=problem.severity or rule.severity,
            source=rule.source,
        )
        for rule in _rules_of(theme for theme in THEMES if theme.concerns(subject.recipe))
        for problem in rule.find(subject)
    ]
    return tuple(sorted(findings, key=lambda one: (one.file, one.line, one.column, one.rule)))


def _rules_of(themes: Iterable[Theme]) -> tuple[Rule, ...]:
    modules = (import_module(f"bwdeploy.checks.themes.{theme.name}") for theme in themes)
    return tuple(rule for module in modules for rule in module.RULES)
