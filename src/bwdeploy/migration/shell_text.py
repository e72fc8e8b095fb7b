"""What a shell script says before it starts something: its commands, its variables, the models it fetches.

Shell is not run: lines are joined, comments dropped, words split, and variables that the script itself sets
to a plain word are filled in. Text around a script (a guide in Markdown) is read as well, word by word.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from bwdeploy.facts.stacks import stack_of_image

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

VARIABLE = re.compile(
    r"\$(?:\{(?P<braced>[A-Za-z_]\w*)(?::-(?P<default>[^}\n]{0,200}))?\}|(?P<bare>[A-Za-z_]\w*))", re.ASCII
)
ENDS = frozenset({"&&", "||", "|", ";", "&", ">", ">>", "2>&1", "<"})
"""Words that end a command."""
_ASSIGNMENT = re.compile(r"(?:(?:export|readonly|local|declare)\s+)*([A-Za-z_]\w*)=(\S*)", re.ASCII)
_ASSIGNMENT_LINE = re.compile(
    r"^[ \t]*(?:export[ \t]+|local[ \t]+)?(?P<name>[A-Za-z_]\w*)=(?P<quote>[\"']?)(?P<value>[^\s\"'();&|`]*)"
    r"(?P=quote)(?:[ \t]*;)?[ \t]*$",
    re.MULTILINE | re.ASCII,
)
_ANY_ASSIGNMENT = re.compile(r"(?<![\w$-])(?P<name>[A-Za-z_]\w*)\+?=", re.ASCII)
_LOOSE_BACKSLASH = re.compile(r"\\(?:[ \t]+(?:#[^\n]*)?)\n")
"""A backslash with blanks or a comment behind it: no continuation to a shell, but meant as one."""
_COMMENT_BETWEEN = re.compile(r"\\\n(?:[ \t]*#[^\n]*\n)+")
_FENCE = re.compile(r"^[ \t]*(?:```|~~~)[^\n]*$", re.MULTILINE)
"""Where code starts and ends in Markdown; behind a last backslash it would count as a word."""
_LONGEST_LINE = 50_000
"""That is split as a shell would, which takes time with the square of a word's length."""
_HUB_URL = re.compile(r"https://(?:huggingface\.co|hf\.co)/(?P<id>[\w.-]+/[\w.-]+?)(?:\.git)?/?", re.ASCII)
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
_CLONERS = frozenset({"git", "git-lfs"})
_DOWNLOADERS = frozenset({"huggingface-cli", "hf"})
_VERSIONS = re.compile(
    r"\btensorrt[-_]llm==(?P<wheel>[0-9][0-9A-Za-z.]*[0-9A-Za-z])"
    r"|\btensorrt-llm/(?:release|devel):(?P<release>[0-9]+\.[0-9]+\.[0-9]+(?:rc[0-9]+)?)"
    r"|\btritonserver:(?P<image>[0-9]{2}\.[0-9]{2})-trtllm-python-py3",
    re.ASCII,
)


def mended(text: str) -> str:
    """`text` with continued lines as meant: comments between them and behind a backslash are dropped."""
    plain = _FENCE.sub("", text.replace("\r\n", "\n"))
    return _COMMENT_BETWEEN.sub("\\\\\n", _LOOSE_BACKSLASH.sub("\\\\\n", plain))


def commands(text: str) -> Iterator[list[str]]:
    """The commands of a script as words, with its own variables filled in."""
    variables: dict[str, str] = {}
    for line in mended(text).replace("\\\n", " ").splitlines():
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        words = _words(filled(stripped, variables))
        assigned = _ASSIGNMENT.fullmatch(" ".join(words)) if words else None
        if assigned:
            variables[assigned[1]] = assigned[2]
        yield from _split(words)


def command_of(words: Sequence[str], programs: Iterable[str]) -> list[str]:
    """The program and what follows it; what starts it (`mpirun -n 2`, `FOO=1`, `python3`) is cut off."""
    for at, word in enumerate(words):
        if PurePosixPath(word).name in programs:
            return list(words[at:])
    return []


def filled(text: str, variables: Mapping[str, str]) -> str:
    """`text` with `variables`, and with the defaults of `${name:-default}`, filled in."""

    def value(found: re.Match[str]) -> str:
        name = found["braced"] or found["bare"]
        return variables.get(name, found["default"] if found["default"] is not None else found[0])

    return VARIABLE.sub(value, text)


def settled_variables(text: str) -> dict[str, str]:
    """The variables that a script sets once, or always to the same plain word, with that word."""
    values: dict[str, set[str]] = {}
    plain: Counter[str] = Counter()
    for found in _ASSIGNMENT_LINE.finditer(text):
        plain[found["name"]] += 1
        values.setdefault(found["name"], set()).add(filled(found["value"], {}))
    every = Counter(found["name"] for found in _ANY_ASSIGNMENT.finditer(text))
    return {
        name: min(words)
        for name, words in values.items()
        if len(words) == 1 and "$" not in min(words) and plain[name] == every[name]
    }


def fetched_models(script: Iterable[Sequence[str]]) -> dict[str, str]:
    """Where the commands of a script put models of the hub: directory → `org/name`."""
    places: dict[str, str] = {}
    for words in script:
        urls = [found["id"] for word in words if (found := _HUB_URL.fullmatch(word))]
        if urls and (words[0] in _CLONERS or len(words) == 1):
            named = words[-1] if not _HUB_URL.fullmatch(words[-1]) else urls[0].rpartition("/")[2]
            places[_plain(named)] = urls[0]
        elif words and words[0] in _DOWNLOADERS and "--local-dir" in words[:-1]:
            model = next((word for word in words[2:] if _HUB_ID.fullmatch(word)), "")
            if model:
                places[_plain(words[words.index("--local-dir") + 1])] = model
    return places


def model_at(place: str, fetched: Mapping[str, str]) -> str:
    """The hub model in the directory `place`, or in one of the same name; empty when none was put there."""
    path = _plain(place)
    return fetched.get(path) or fetched.get(PurePosixPath(path).name, "")


def version_named(text: str) -> str:
    """The TensorRT-LLM that a script installs or whose container it starts; empty unless it is just one."""
    found = {version for one in _VERSIONS.finditer(text) if (version := _version_of(one))}
    return found.pop() if len(found) == 1 else ""


def _version_of(found: re.Match[str]) -> str:
    if found["image"]:
        stack = stack_of_image(found["image"])
        return stack.tensorrt_llm if stack else ""
    return found["wheel"] or found["release"]


def _plain(place: str) -> str:
    """A path without `./` and a last slash."""
    return str(PurePosixPath(place)) if place else ""


def _words(line: str) -> list[str]:
    if len(line) > _LONGEST_LINE:
        return line.split()
    try:
        return shlex.split(line, comments=True)
    except ValueError:  # a quotation mark without its other half
        return line.split()


def _split(words: Sequence[str]) -> Iterator[list[str]]:
    command: list[str] = []
    for word in words:
        if word in ENDS or word.endswith(";"):
            yield [*command, *([word.rstrip(";")] if word not in ENDS and word != ";" else [])]
            command = []
        else:
            command.append(word)
    yield command
