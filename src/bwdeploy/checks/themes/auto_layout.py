"""Rules on `layout.auto`: which layout was chosen, or why none could be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.checks.rule import Problem, Rule, Subject
from bwdeploy.model.describe import way_to_know

if TYPE_CHECKING:
    from collections.abc import Iterator

_PATH = ("layout", "auto")


def _chosen(subject: Subject) -> Iterator[Problem]:
    if subject.suggestion is None or subject.suggestion.chosen is None:
        return
    layout = subject.suggestion.chosen
    words = f"tp {layout.tp}, pp {layout.pp}, ep {layout.ep}, attention_dp {str(layout.attention_dp).lower()}"
    gpus = layout.nodes * layout.gpus_per_node
    assumed = "".join(f"; {one}" for one in subject.suggestion.assumptions)
    message = f"chosen for {layout.auto}: {words} on {gpus} {subject.suggestion.gpu}{assumed}"
    yield Problem(_PATH, message, f"`bwdeploy plan --suggest {layout.auto}` shows the others and why")


def _impossible(subject: Subject) -> Iterator[Problem]:
    if subject.suggestion is not None and subject.suggestion.chosen is None:
        message = f"no layout can be chosen: {subject.suggestion.problem}"
        hint = (
            f"`bwdeploy plan --suggest {subject.suggestion.goal}` says why; or write tp, pp and ep yourself"
        )
        if subject.shape is None and subject.model.problem is None:
            hint = f"{way_to_know(subject.recipe.model.source)}; or write tp, pp and ep yourself"
        yield Problem(_PATH, message, hint)


RULES = (
    Rule(
        id="layout-auto-chosen",
        severity="info",
        summary="the layout that was chosen",
        find=_chosen,
        why="The choice is a prediction with a wide band: measure the first two before you rely on one.",
    ),
    Rule(
        id="layout-auto-impossible",
        severity="error",
        summary="no layout can be chosen",
        find=_impossible,
        why="Without a layout there are no engine arguments to write.",
    ),
)
