"""A stand-in for `enroot`: its grammar as in its own script, its images squashfs by their first bytes.

As the real one it prints its usage and ends well when it does not know an option, gives the command none of
the caller's environment, and starts it in the root directory. Standard library only.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import NoReturn

from tests.tools.executors.isolation import Mount, isolated

STATE = Path(os.environ["STAND_IN_STATE"])
ROOTS = STATE / "enroot"
VALUED = {
    "create": {"-n": "name", "--name": "name"},
    "start": {"-c": "conf", "--conf": "conf", "-m": "mount", "--mount": "mount", "-e": "env", "--env": "env",
              "--rc": "rc"},
    "remove": {},
}  # fmt: skip
FLAGS = {"create": set(), "start": {"-r", "--root", "-w", "--rw"}, "remove": {"-f", "--force"}}
MAGIC = b"hsqs"


def error(message: str) -> NoReturn:
    sys.stderr.write(f"[ERROR] {message}\n")
    raise SystemExit(1)


def usage(command: str) -> NoReturn:
    sys.stdout.write(f"Usage: enroot {command} [options]\n")
    raise SystemExit(0)


def parse(command: str, words: list[str]) -> tuple[dict[str, list[str]], list[str]]:
    options: dict[str, list[str]] = {}
    while words and words[0].startswith("-") and len(words[0]) > 1:
        word = words.pop(0)
        if word == "--":
            break
        name, equals, value = word.partition("=")
        if word in FLAGS[command]:
            options[word] = []
        elif name in VALUED[command] and (value or (not equals and words)):
            options.setdefault(VALUED[command][name], []).append(value if equals else words.pop(0))
        else:
            usage(command)
    if not words:
        usage(command)
    return options, words


def create(options: dict[str, list[str]], words: list[str]) -> int:
    image = Path(words[0])
    if not image.is_file():
        error(f"No such file or directory: {image}")
    if image.read_bytes()[:4] != MAGIC:
        error(f"Invalid image format: {image}")
    root = ROOTS / (options.get("name") or [image.stem])[-1]
    if root.exists():
        error(f"File already exists: {root}")
    root.mkdir(parents=True)
    sys.stderr.write("[INFO] Extracting squashfs filesystem...\n")
    if (STATE / "no-space").exists():
        error("write: No space left on device")
    return 0


def start(options: dict[str, list[str]], words: list[str]) -> int:
    name, *command = words
    if not (ROOTS / name).is_dir():
        error(f"No such file or directory: {ROOTS / name}")
    mounts = [mount(entry) for entry in options.get("mount", [])]
    inside = {"PATH": f"{STATE}/image/bin:/usr/bin:/bin", "STAND_IN_HOST": os.environ["STAND_IN_HOST"]}
    for entry in options.get("env", []):
        if not re.match(r"^[A-Za-z_][A-Za-z0-9_]*(=|$)", entry):
            error(f"Invalid argument: {entry}")
        key, equals, value = entry.partition("=")
        inside[key] = value if equals else os.environ.get(key, "")
    words = isolated(command, mounts=mounts, directory="/")
    os.execvpe(words[0], words, inside)  # noqa: S606 - as the real one does


def mount(entry: str) -> Mount:
    if not re.fullmatch(r"[^\s]+:[^\s]+", entry):
        error(f"Invalid argument: {entry}")
    source, target, kind, options = (*entry.split(":"), "", "")[:4]
    flags = set(options.split(","))
    if entry.count(":") != 3 or kind != "none" or source != target or not flags & {"bind", "rbind"}:
        error(f"enroot-mount: failed to mount: {entry}")
    return Mount(target, "ro" not in flags)


def main() -> int:
    with (STATE / "calls.jsonl").open("a") as record:
        record.write(json.dumps(["enroot", *sys.argv[1:]]) + "\n")
    command = sys.argv[1] if len(sys.argv) > 1 else ""
    if command not in VALUED:
        usage("COMMAND")
    options, words = parse(command, sys.argv[2:])
    if command == "create":
        return create(options, words)
    if command == "start":
        return start(options, words)
    if "--force" not in options:
        error("stdin is not a terminal")
    shutil.rmtree(ROOTS / words[0])
    return 0
