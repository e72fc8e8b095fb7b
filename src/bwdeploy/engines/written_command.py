"""A command line of trtllm-build that somebody wrote, read as its parser reads it.

Both spellings (`--a b`, `--a=b`), aliases, unambiguous abbreviations and the rule that the last one of two
counts are argparse's. Options of older versions are known with what became of them. Nothing is raised: what
does not come through is a problem beside the flags that do.
"""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from bwdeploy.engines.flag_values import misfit, wrong_words
from bwdeploy.facts.build_flags import BuildFlag, FormerFlag, aliases, build_flags, former_flags
from bwdeploy.recipe.words import nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Effect = Literal["invalid", "unknown", "renamed", "no-effect", "lost", "layout", "checkpoint"]
"""invalid, unknown: the parser of trtllm-build would refuse it. The others: see `facts.build_flags`."""
_PROGRAMS = frozenset({"trtllm-build", "tensorrt_llm.commands.build", "build.py"})
_NUMBER = re.compile(r"-\d+|-\d*\.\d+", re.ASCII)
"""What argparse takes for a negative number and not for an option."""


class CommandProblem(NamedTuple):
    """Something on a command line that does not come through as it was."""

    flag: str
    """Without its dashes; empty for a word that belongs to no option."""
    value: str | None
    """The words after it."""
    effect: Effect
    message: str
    hint: str = ""


class ParsedCommand(NamedTuple):
    """A command line as data."""

    flags: dict[str, Any]
    """By today's names, typed by the table: int, bool (switches), list of str, or str."""
    problems: tuple[CommandProblem, ...]


class _Given(NamedTuple):
    name: str
    words: tuple[str, ...]


def parse_build_command(words: Sequence[str]) -> ParsedCommand:
    """The options of a trtllm-build command line; the program, and what starts it, may stand before."""
    flags: dict[str, Any] = {}
    problems: list[CommandProblem] = []
    for given in _options(_after_program(words)):
        if given.name in flags:
            message = f"--{given.name} is given twice; trtllm-build takes the last one"
            problems.append(CommandProblem(given.name, str(flags[given.name]), "lost", message))
        _take(given, flags, problems)
    return ParsedCommand(flags, tuple(problems))


def _after_program(words: Sequence[str]) -> Sequence[str]:
    for at, word in enumerate(words):
        if PurePath(word).name in _PROGRAMS:
            return words[at + 1 :]
    return words


def _options(words: Sequence[str]) -> Iterator[_Given]:
    """Each option with the words up to the next one; words before the first belong to none."""
    name, values = "", list[str]()
    for word in words:
        if not word.startswith("-") or _NUMBER.fullmatch(word):
            values.append(word)
            continue
        if name or values:
            yield _Given(name, tuple(values))
        name, equals, value = word.lstrip("-").partition("=")
        name, values = name.replace("-", "_"), [value] if equals else []
    if name or values:
        yield _Given(name, tuple(values))


def _take(given: _Given, flags: dict[str, Any], problems: list[CommandProblem]) -> None:
    flag = _known(given.name)
    former = former_flags().get(given.name) if flag is None else None
    if flag is None and former is not None:
        problems.append(_former_problem(given, former))
        flag = build_flags().get(former.became)
    elif flag is None:
        problems.append(_unknown(given))
    if flag is None:
        return
    words = given.words
    if not words and {"enable", "disable"} <= set(flag.choices):
        words = ("enable",)
        if former is None:
            message = f"--{flag.name} was a bare switch once; it takes enable or disable now"
            problems.append(CommandProblem(flag.name, None, "renamed", message))
    value = _typed(flag, words)
    message = _refusal(flag, value, words)
    if message:
        problems.append(CommandProblem(flag.name, _shown(given), "invalid", message, _hint(flag, words)))
    else:
        flags[flag.name] = value


def _known(name: str) -> BuildFlag | None:
    known, names = build_flags(), aliases()
    exact = known.get(names.get(name, name))
    if exact is not None or not name or name in former_flags():
        return exact
    begun = {names.get(one, one) for one in (*known, *names) if one.startswith(name)}
    return known[begun.pop()] if len(begun) == 1 else None


def _former_problem(given: _Given, former: FormerFlag) -> CommandProblem:
    hints = {
        "renamed": "",
        "no-effect": "leave it out",
        "lost": "leave it out",
        "layout": "the section layout says it",
        "checkpoint": "the section quantize says it",
    }
    message = f"trtllm-build has no --{given.name} any more: {former.fate}"
    return CommandProblem(given.name, _shown(given), former.effect, message, hints[former.effect])


def _unknown(given: _Given) -> CommandProblem:
    if not given.name:
        message = f"{' '.join(given.words)!r} belongs to no option"
        return CommandProblem("", _shown(given), "unknown", message, "leave it out")
    near = nearest(given.name, (*build_flags(), *aliases()))
    hint = f"did you mean --{near}" if near else "leave it out"
    message = f"trtllm-build has no option --{given.name}"
    return CommandProblem(given.name, _shown(given), "unknown", message, hint)


def _typed(flag: BuildFlag, words: tuple[str, ...]) -> object:
    """The value as Python reads it; whatever does not fit stays text."""
    if flag.kind == "switch":
        return True if not words else " ".join(words)
    if flag.kind == "list":
        return list(words)
    text = " ".join(words)
    if flag.kind != "whole":
        return text
    try:
        return int(text)
    except ValueError:
        return text


def _refusal(flag: BuildFlag, value: object, words: tuple[str, ...]) -> str:
    if not words and flag.kind != "switch":
        return f"--{flag.name} needs a value"
    if len(words) > 1 and flag.kind != "list":
        return f"--{flag.name} takes one value, not {len(words)}"
    if expected := misfit(flag, value):
        what = "no value" if flag.kind == "switch" else expected
        return f"--{flag.name} takes {what}, not {' '.join(words)!r}"
    wrong = wrong_words(flag, value)
    return f"--{flag.name}: {wrong[0]!r} is not one of: {', '.join(flag.choices)}" if wrong else ""


def _hint(flag: BuildFlag, words: tuple[str, ...]) -> str:
    near = nearest(words[0], flag.choices) if words and flag.choices else ""
    return f"did you mean {near}" if near else ""


def _shown(given: _Given) -> str | None:
    return " ".join(given.words) or None
