"""Every error that bwdeploy raises on purpose, and the exit code of each.

    BwdeployError
    ├── RecipeError          2   the recipe (or a command line value) is wrong; carries all findings
    ├── HostError            3   this machine cannot do it: something is missing or does not fit
    ├── ToolError            4   an outside tool failed; carries command, exit status, log and last lines
    ├── StoreError           5   the store or the output directory could not be read or written
    ├── GateError            6   a gate, smoke test or verification says no
    └── InterruptedBuild   130   the user pressed Ctrl-C

Anything else that reaches the top is a bug of ours: exit code 70, traceback shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

BUG_EXIT_CODE = 70

Severity = Literal["error", "warning", "info"]


class BwdeployError(Exception):
    """One clear sentence of what is wrong and, apart from it, what to do next."""

    exit_code: ClassVar[int]

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Finding(NamedTuple):
    """One problem of a recipe, with its place; the unit of `check --json`."""

    rule: str
    """Stable id of the rule, for example `recipe-unknown-key`."""
    severity: Severity
    path: str
    """Dotted path inside the recipe, for example `quantize.format`; empty for the whole file."""
    message: str
    """What is wrong with the value."""
    hint: str = ""
    """What to do next."""
    file: str = ""
    line: int = 0
    """1-based; 0 when the value stands in no file (for example a `--set`)."""
    column: int = 0
    """1-based."""
    source: str = ""
    """Where the rule comes from: a thread, a document or a file upstream."""

    def __str__(self) -> str:
        position = f":{self.line}:{self.column}" if self.line else ""
        place = f"{self.file}{position}: " if self.file else ""
        path = f"{self.path}: " if self.path else ""
        message = self.message.rstrip(".")
        hint = f" {self.hint[:1].upper()}{self.hint[1:].rstrip('.')}." if self.hint else ""
        return _printable(f"{place}{path}{message}.{hint}")


def _printable(text: str) -> str:
    """What a terminal could take for a command or for another order of the text is written as an escape."""
    return (
        text
        if text.isprintable()
        else "".join(sign if sign.isprintable() else f"\\u{ord(sign):04x}" for sign in text)
    )


class RecipeError(BwdeployError):
    """The recipe cannot be used; every problem found is in `findings`."""

    exit_code = 2

    def __init__(self, findings: tuple[Finding, ...]) -> None:
        super().__init__("\n".join(str(finding) for finding in findings))
        self.findings = findings


class HostError(BwdeployError):
    """This machine or environment lacks something, or two versions do not fit."""

    exit_code = 3


class ToolError(BwdeployError):
    """An outside tool (worker, pip, tritonserver, …) failed."""

    exit_code = 4

    def __init__(
        self, message: str, *, hint: str = "", log: Path | None = None, last_lines: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message, hint=hint)
        self.log = log
        self.last_lines = last_lines


class StoreError(BwdeployError):
    """The store or the output directory could not be read or written."""

    exit_code = 5


class GateError(BwdeployError):
    """A gate, a smoke test or a verification failed."""

    exit_code = 6


class InterruptedBuild(BwdeployError):  # noqa: N818 - an interruption is not an error of anybody
    """The user interrupted; what was finished stays in the store."""

    exit_code = 130


def argument_error(message: str, hint: str) -> RecipeError:
    """The error for a wrong value of the command line."""
    return RecipeError((Finding(rule="command-line", severity="error", path="", message=message, hint=hint),))
