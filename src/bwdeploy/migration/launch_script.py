"""A shell script, or text around one, that starts the LLM API: its command, its YAML, its environment.

Knows the forms that published guides use: lines continued with a backslash (or only indented), a YAML file
made with `cat > f <<EOF` or `echo -e '…' > f`, `export NAME=value`, all of it inside `sh -c "…"`. Nothing is
run.
"""

from __future__ import annotations

import re
import shlex
from itertools import islice
from typing import NamedTuple

from bwdeploy.facts.llm_api_options import PROGRAMS

_COMMAND = re.compile(rf"\b({'|'.join(PROGRAMS)})(?=\s)")
_HEREDOC = re.compile(r"<<-?\s*['\"]?(?P<end>\w+)")
_INTO = re.compile(r">\s*(?P<file>[^\s<>|;&\"']+)")
_ECHO = re.compile(r"echo\s+-e\s+'(?P<body>[^']*)'\s*>\s*(?P<file>[^\s;&|\"']+)")
_ENVIRONMENT = re.compile(r"\b(?P<name>(?:TRTLLM|TRT_LLM|TLLM)_[A-Z0-9_]+)=(?P<value>[^\s\"'\\;&]+)")
_MAX_COMMANDS, _MAX_COMMAND = 100, 20_000
"""Commands that are looked at, and signs of each."""
_OTHER = "prepare-dataset"
"""A subcommand of trtllm-bench that starts nothing."""
_SUBCOMMANDS = frozenset({"throughput", "latency", "serve"})
_ENDS = frozenset({"&&", "||", ";", "|", "&", ">", ">>"})


class Launch(NamedTuple):
    """What a script starts."""

    program: str
    words: tuple[str, ...]
    """Of its command line, after the program."""
    files: dict[str, str]
    """Name → text of the files that the script writes."""
    environment: dict[str, str]
    """Variables of TensorRT-LLM that it sets."""
    others: int
    """Further commands of the kind, which were not read."""


def starts_llm_api(text: str) -> bool:
    """Whether `text` holds a command that starts the LLM API."""
    return _COMMAND.search(text) is not None


def read_launch(text: str) -> Launch | None:
    """The first command of `text` that starts the LLM API with options, None when there is none."""
    plain = text.replace("\r\n", "\n")
    files, script = _taken_files(plain)
    found = [
        (one.group(1), _words(script[one.end() : one.end() + _MAX_COMMAND]), one.start())
        for one in islice(_COMMAND.finditer(script), _MAX_COMMANDS)
    ]
    commands = [one for one in found if any(word.startswith("-") for word in one[1]) and _OTHER not in one[1]]
    if not commands:
        return None
    program, words, start = commands[0]
    before = {name: body for name, body, place in files if place <= start} or {
        name: body for name, body, _ in files
    }
    environment = {one["name"]: one["value"] for one in _ENVIRONMENT.finditer(script)}
    return Launch(program, words, before, environment, len(commands) - 1)


def file_named(launch: Launch, name: str) -> str | None:
    """The text of a file that the script writes, by its name with or without `./`."""
    plain = name.removeprefix("./")
    return next((text for key, text in launch.files.items() if key.removeprefix("./") == plain), None)


def _taken_files(text: str) -> tuple[list[tuple[str, str, int]], str]:
    """The files that are written (name, text, place in the script), and the script without their text."""
    files: list[tuple[str, str, int]] = []
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
                files.append((into["file"], "\n".join(lines[start:number]), length))
            number += 1
            continue
        script.append(line)
        length += len(line) + 1
    rest = "\n".join(script)
    files.extend((one["file"], one["body"].replace("\\n", "\n"), one.start()) for one in _ECHO.finditer(rest))
    return files, rest


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
