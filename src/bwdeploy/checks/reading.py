"""The rules that reading a recipe applies, as `check --explain` and the rule table show them.

The checks themselves are part of loading (`recipe/`); only their descriptions stand here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from bwdeploy.errors import Severity


class DescribedRule(NamedTuple):
    """A rule in words."""

    id: str
    severity: Severity
    summary: str
    source: str
    why: str


_YAML = "https://yaml.org/spec/1.2.2/"


def _reading(name: str, summary: str, why: str, source: str = "bwdeploy") -> DescribedRule:
    return DescribedRule(f"recipe-{name}", "error", summary, source, why)


READING_RULES: tuple[DescribedRule, ...] = (
    _reading("file", "the file cannot be read", "There is nothing to build from."),
    _reading(
        "yaml-syntax",
        "not one YAML document of plain data",
        "Tags could construct objects, merge keys and second documents would be dropped in silence.",
        _YAML,
    ),
    _reading("yaml-limit", "aliases expand without end", "A few lines could fill the memory.", _YAML),
    _reading(
        "yaml-number",
        "a number that JSON cannot hold",
        "Infinity and NaN pass every comparison and reach the engine.",
        _YAML,
    ),
    _reading(
        "duplicate-key",
        "a key that stands twice",
        "Most YAML readers keep the last one in silence, so that an edit of the first has no effect.",
        _YAML,
    ),
    _reading("base", "a base that cannot be used", "The recipe would miss what the base says."),
    _reading("matrix", "a matrix that cannot be expanded", "Builds would be missing or overwrite others."),
    _reading("set", "a --set that cannot be applied", "The value would be lost without a word."),
    _reading(
        "unknown-key",
        "a key that no recipe has",
        "A misspelt key would be ignored, and the default used in its place.",
    ),
    _reading("missing-key", "a key that every recipe needs", "There is no sensible default for it."),
    _reading("wrong-type", "a value of the wrong type", "no, 1.10 and 0x10 are not what they look like."),
    _reading("not-a-choice", "a word that is not one of the choices", "There is no such setting."),
    _reading("wrong-form", "a value of the wrong form", "It could not be resolved later on."),
    _reading("out-of-bounds", "a number outside its bounds", "No deployment has such a size."),
    _reading("more-problems", "more problems than are listed", "The file is probably not a recipe."),
)
