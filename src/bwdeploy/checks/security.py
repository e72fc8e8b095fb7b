"""Rules on what a recipe lets others do on this machine."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bwdeploy.checks.rule import Problem, Rule, Subject

if TYPE_CHECKING:
    from collections.abc import Iterator

_PINNED = re.compile(r"@[0-9a-f]{40}$")


def _trusts_code(subject: Subject) -> Iterator[Problem]:
    if subject.recipe.model.trust_remote_code:
        message = "Python code that comes with the model will run on this machine and on the server"
        yield Problem(("model", "trust_remote_code"), message, "read that code first, or remove this key")


def _trusts_moving_code(subject: Subject) -> Iterator[Problem]:
    model = subject.recipe.model
    if model.trust_remote_code and model.source.startswith("hf://") and not _PINNED.search(model.source):
        message = "the model's code can change under this recipe, because its revision is not pinned"
        yield Problem(("model", "source"), message, "append the 40-hex commit that you have read")


RULES = (
    Rule(
        id="security-trust-remote-code",
        severity="warning",
        summary="the model's own code is run",
        find=_trusts_code,
    ),
    Rule(
        id="security-trust-unpinned-code",
        severity="error",
        summary="code of an unpinned revision is run",
        find=_trusts_moving_code,
    ),
)
