"""The rules in words: one of them (`check --explain RULE`), or all as the table of docs/rules.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bwdeploy.checks import all_rules
from bwdeploy.checks.reading import READING_RULES, DescribedRule
from bwdeploy.errors import argument_error
from bwdeploy.recipe.words import nearest
from bwdeploy.serving.repository_check import REPOSITORY_RULES

if TYPE_CHECKING:
    from collections.abc import Iterable

_SECTIONS = (
    (
        "On a recipe",
        "`bwdeploy check RECIPE` applies them to the recipe, its model and the facts that it names.",
    ),
    ("While reading a recipe", "They come first: a file with one of these is not looked at further."),
    ("On a Triton model repository", "`bwdeploy check DIR` applies them to a repository, whoever wrote it."),
)


def rule_sections() -> tuple[tuple[DescribedRule, ...], ...]:
    """All rules, in the order of the table's sections."""
    on_recipes = tuple(DescribedRule(r.id, r.severity, r.summary, r.source, r.why) for r in all_rules())
    return on_recipes, READING_RULES, REPOSITORY_RULES


def find_rule(name: str) -> DescribedRule:
    """The rule with this id.

    Raises:
        RecipeError: there is none.
    """
    rules = {rule.id: rule for section in rule_sections() for rule in section}
    if name in rules:
        return rules[name]
    near = nearest(name, rules)
    hint = f"did you mean {near}" if near else "`bwdeploy check --explain all` lists them"
    raise argument_error(f"--explain: there is no rule {name!r}", hint)


def rule_json(rule: DescribedRule) -> dict[str, Any]:
    """One rule as `check --explain RULE --json` prints it."""
    return {
        "rule": rule.id,
        "severity": rule.severity,
        "summary": rule.summary,
        "why": rule.why,
        "sources": _sources(rule),
    }


def rule_text(rule: DescribedRule) -> str:
    """One rule for a person."""
    lines = [f"{rule.id} ({rule.severity}): {rule.summary}.", "", rule.why]
    sources = [source for source in _sources(rule) if source != "bwdeploy"]
    if sources:
        lines += ["", "Source:", *(f"  {source}" for source in sources)]
    return "\n".join(lines)


def rule_table() -> str:
    """Markdown of docs/rules.md."""
    sections = rule_sections()
    lines = ["# Rules", ""]
    lines.append(
        f"{sum(map(len, sections))} rules. An error forbids the build (exit code 2), a warning does not. "
        "`bwdeploy check --explain RULE` prints one row. This page is generated: `make rules`."
    )
    for (title, text), rules in zip(_SECTIONS, sections, strict=True):
        lines += ["", f"## {title}", "", text, "", "| rule | severity | finds | why | source |"]
        lines += ["| --- | --- | --- | --- | --- |", *_rows(rules)]
    return "\n".join(lines) + "\n"


def _rows(rules: Iterable[DescribedRule]) -> list[str]:
    return [
        f"| `{rule.id}` | {rule.severity} | {_cell(rule.summary)} | {_cell(rule.why)} |"
        f" {' · '.join(_link(source) for source in _sources(rule))} |"
        for rule in rules
    ]


def _sources(rule: DescribedRule) -> list[str]:
    return rule.source.split(" · ")


def _link(source: str) -> str:
    return f"<{source}>" if source.startswith("https://") else _cell(source)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
