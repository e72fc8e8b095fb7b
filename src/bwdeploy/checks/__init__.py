"""Rules that find problems of a recipe without running anything.

Each module is one theme and ends in its `RULES`; the tuple here is all of them. A rule is a pure function
from a `Subject` (the recipe and the facts that it names) to problems; `check` gives them their places.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.checks import engine, layout, quantize, security, serve, source
from bwdeploy.checks.rule import Rule, subject_of

if TYPE_CHECKING:
    from bwdeploy.errors import Finding
    from bwdeploy.recipe.load import LoadedRecipe

RULES: tuple[Rule, ...] = (
    *source.RULES,
    *quantize.RULES,
    *engine.RULES,
    *layout.RULES,
    *serve.RULES,
    *security.RULES,
)


def check(loaded: LoadedRecipe) -> tuple[Finding, ...]:
    """Everything that the rules find in one build, by line.

    Raises:
        HostError: an installed tensorrt_llm carries a schema file that cannot be read.
    """
    subject = subject_of(loaded.recipe)
    findings = [
        loaded.finding(
            rule=rule.id,
            path=problem.path,
            message=problem.message,
            hint=problem.hint,
            severity=problem.severity or rule.severity,
            source=rule.source,
        )
        for rule in RULES
        for problem in rule.find(subject)
    ]
    return tuple(sorted(findings, key=lambda one: (one.file, one.line, one.column, one.rule)))
