"""A shell script, or text around one, that starts the LLM API: its command, its YAML, its environment.

Knows the forms that published guides use: lines continued with a backslash (or only indented), a YAML file
made with `cat > f <<EOF`, continued with `>>`, or made with `echo -e '…' > f`, variables set once to a plain
word, all of it inside `sh -c "…"`. Nothing is run.
"""

from __future__ import annotations

import re
import shlex
from itertools import islice
from typing import NamedTuple

from bwdeploy.facts.llm_api_options import PROGRAMS
from bwdeploy.migration.shell_text import filled, mended, settled_variables, version_named

_COMMAND = re.compile(rf"\b({'|'.join(PROGRAMS)})(?=\s)")
_HEREDOC = re.compile(r"<<-?\s*['\"]?(?P<end>\w+)")
_INTO = re.compile(r"(?P<sign>>>?|\btee\s+(?:-a\s+)?)\s*[\"']?(?P<file>[^\s<>|;&\"']+)")
_ECHO = re.compile(
    r"echo\s+-e\s+(?P<quote>['\"])(?P<body>(?:(?!(?P=quote)).)*)(?P=quote)\s*>\s*[\"']?(?P<file>[^\s;&|\"']+)",
    re.DOTALL,
)
_EXPANSION = re.compile(r"\$\{(\w+)[^{}\n]*\}", re.ASCII)
"""`${LIST%, }` and the like, which would end a YAML list early."""
_ENVIRONMENT = re.compile(r"\b(?P<name>(?:TRTLLM|TRT_LLM|TLLM)_[A-Z0-9_]+)=[\"']?(?P<value>[^\s\"'\\;&]+)")
_MAX_COMMANDS, _MAX_COMMAND = 100, 20_000
"""Commands that are looked at, and signs of each."""
_OTHER = "prepare-dataset"
"""A subcommand of trtllm-bench that starts nothing."""
_SUBCOMMANDS = frozenset({"throughput", "latency", "serve"})
_ENDS = frozenset({"&&", "||", ";", "|", "&", ">", ">>"})


class _Part(NamedTuple):
    """Text that goes into a file."""

    name: str
    text: str
    place: int
    """In the script without such texts."""
    appends: bool = False


class Launch(NamedTuple):
    """What a script starts."""

    program: str
    words: tuple[str, ...]
    """Of its command line, after the program."""
    files: dict[str, str]
    """Name → text of the files that the script writes."""
    appended: tuple[str, ...]
    """Those of them that it writes in several steps."""
    environment: dict[str, str]
    """Variables of TensorRT-LLM that it sets."""
    version: str
    """The TensorRT-LLM that it names; empty: it does not."""
    others: int
    """Further commands of the kind, which were not read."""


def starts_llm_api(text: str) -> bool:
    """Whether `text` holds a command that starts the LLM API."""
    return _COMMAND.search(text) is not None


def read_launch(text: str) -> Launch | None:
    """The first command of `text` that starts the LLM API with options, None when there is none."""
    plain = mended(text)
    parts, script = _taken_files(filled(plain, settled_variables(plain)))
    found = [
        (one.group(1), _words(script[one.end() : one.end() + _MAX_COMMAND]), one.start())
        for one in islice(_COMMAND.finditer(script), _MAX_COMMANDS)
    ]
    commands = [one for one in found if any(word.startswith("-") for word in one[1]) and _OTHER not in one[1]]
    if not commands:
        return None
    program, words, start = commands[0]
    files, appended = _whole_files([part for part in parts if part.place <= start] or parts)
    environment = {one["name"]: one["value"] for one in _ENVIRONMENT.finditer(script)}
    return Launch(program, words, files, appended, environment, version_named(text), others=len(commands) - 1)


def _whole_files(parts: list[_Part]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Name → text of the files that are written in `parts`, and the names of those with several."""
    files: dict[str, str] = {}
    appended: dict[str, None] = {}
    for part in parts:
        if part.appends and part.name in files:
            appended[part.name] = None
            files[part.name] += f"\n{part.text}"
        else:
            files[part.name] = part.text
    return {name: _EXPANSION.sub(r"$\1", text) for name, text in files.items()}, tuple(appended)


def file_named(launch: Launch, name: str) -> str | None:
    """The text of a file that the script writes, by its name with or without `./`."""
    plain = name.removeprefix("./")
    return next((text for key, text in launch.files.items() if key.removeprefix("./") == plain), None)


def _taken_files(text: str) -> tuple[list[_Part], str]:
    """The texts that are written into files, in order, and the script without them."""
    files: list[_Part] = []
    script: list[str] = []
    lines = text.split("\n")
    last = {line.strip(): number for number, line in enumerate(lines)}
    number = length = 0
    while number < len(lines):
        line, number = lines[number], number + 1
        found = _HEREDOC.search(line)
        if found is not None and last.get(found["end"], -1) >= number:
            start = number
            while lines[number].strip() != found["end"]:
                number += 1
            into = _INTO.search(line)
            if into is not None:
                appends = into["sign"].startswith(">>") or "-a" in into["sign"]
                files.append(_Part(into["file"], "\n".join(lines[start:number]), length, appends=appends))
            number += 1
            continue
        script.append(line)
        length += len(line) + 1
    rest = "\n".join(script)
    files.extend(
        _Part(one["file"], one["body"].replace("\\n", "\n"), one.start()) for one in _ECHO.finditer(rest)
    )
    return sorted(files, key=lambda part: part.place), rest


def _words(tail: str) -> tuple[str, ...]:
    """The words of the command that goes on with `tail`."""
    lines = tail.split("\n")
    taken = [lines[0]]
    for line in lines[1:]:
        ended = not taken[-1].rstrip().endswith("\\")
        word = line.strip().split(" ", 1)[0]
        if ended and not (line[:1].isspace() and (word.startswith("-") or word in _SUBCOMMANDS)):
            break
        taken.append(line)
    joined = " ".join(line.rstrip().removesuffix("\\") for line in taken)
    return _until_end(_split(joined))


def _split(text: str) -> list[str]:
    """The words of a command line; a quote that was opened before it is no reason to fail."""
    try:
        return shlex.split(text, comments=True)
    except ValueError:
        return [word.strip("\"'`") for word in text.split()]


def _until_end(words: list[str]) -> tuple[str, ...]:
    kept: list[str] = []
    for word in words:
        if word in _ENDS or not word:
            break
        kept.append(word.rstrip(";"))
        if word.endswith(";"):
            break
    return tuple(kept)
