"""A stand-in for `docker` and `podman`: holds its caller to their rules, then runs the command here.

A container is a process that sees only what was mounted (`isolation`), with a clean environment and the
programs of its image ($STAND_IN_STATE/image/bin). Images are names in images.json (here) and registry.json
(can be pulled). Every call is recorded. Standard library only.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

from tests.tools.executors.isolation import Mount, isolated

PROGRAM = Path(sys.argv[0]).name
STATE = Path(os.environ["STAND_IN_STATE"])
USAGE_ERROR = 125
NOT_FOUND = 127
DOCKER_GPUS = re.compile(r'all|[0-9]+|"device=[^",]+(,[^",]+)*"|device=[^",]+')
CDI_GPU = re.compile(r"nvidia\.com/gpu=(all|[0-9]+|GPU-[0-9a-f-]+)")


def refuse(message: str, status: int = USAGE_ERROR) -> NoReturn:
    sys.stderr.write(f"docker: {message}\n" if PROGRAM == "docker" else f"Error: {message}\n")
    raise SystemExit(status)


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        found = re.search(r"unrecognized arguments: (\S+)", message)
        refuse(f"unknown flag: {found.group(1)}" if found else message)


def run_options(words: list[str]) -> argparse.Namespace:
    parser = Parser(allow_abbrev=False, add_help=False)
    for flag in ("--rm", "--init", "--privileged", "--read-only"):
        parser.add_argument(flag, action="store_true")
    for once in ("--name", "--shm-size", "--user", "--network", "--workdir", "--ipc", "--entrypoint"):
        parser.add_argument(once)
    parser.add_argument("--pull", choices=("always", "missing", "never"), default="missing")
    for many in ("--mount", "--ulimit", "--cap-drop", "--cap-add", "--security-opt", "--env"):
        parser.add_argument(many, action="append", default=[])
    parser.add_argument("--device", action="append", default=[])
    if PROGRAM == "docker":
        parser.add_argument("--gpus")
    else:
        parser.add_argument("--userns")
    # As docker does: options end at the first word that is none; each takes its value after "=".
    first = next((number for number, word in enumerate(words) if not word.startswith("-")), len(words))
    options = parser.parse_args(words[:first])
    if first == len(words):
        refuse("'docker run' requires at least 1 argument")
    options.image, *options.command = words[first:]
    return options


def mount(entry: str) -> Mount:
    (fields,) = csv.reader([entry])
    found = dict(field.partition("=")[::2] for field in fields)
    unknown = found.keys() - {"type", "source", "src", "target", "dst", "destination", "readonly", "ro"}
    if unknown:
        refuse(f'invalid argument "{entry}" for "--mount" flag: unexpected key \'{unknown.pop()}\'')
    if found.get("type") != "bind" or not Path(found["source"]).is_absolute():
        refuse(f'invalid argument "{entry}" for "--mount" flag')
    if not Path(found["source"]).exists():
        refuse(f"Error response from daemon: bind source path does not exist: {found['source']}")
    if found["source"] != found["target"]:
        refuse("this stand-in mounts paths at their own place only")
    return Mount(found["target"], "readonly" not in found)


def check(options: argparse.Namespace) -> None:
    if options.user and not re.fullmatch(r"[0-9]+:[0-9]+", options.user):
        refuse(f"unable to find user {options.user}: no matching entries in passwd file")
    if PROGRAM == "docker" and options.gpus and not DOCKER_GPUS.fullmatch(options.gpus):
        refuse(f'invalid argument "{options.gpus}" for "--gpus" flag: unexpected key')
    for device in options.device:
        if PROGRAM == "podman" and not CDI_GPU.fullmatch(device):
            refuse(f"stat {device}: no such file or directory")
    if options.image not in images("images.json"):
        refuse(f"Error response from daemon: No such image: {options.image}")


def images(name: str) -> dict[str, list[str]]:
    try:
        found: dict[str, list[str]] = json.loads((STATE / name).read_text())
    except FileNotFoundError:
        return {}
    return found


def environment(options: argparse.Namespace) -> dict[str, str]:
    found = {"PATH": f"{STATE}/image/bin:/usr/bin:/bin", "STAND_IN_HOST": os.environ["STAND_IN_HOST"]}
    for entry in options.env:
        name, equals, value = entry.partition("=")
        if equals:
            found[name] = value
        elif name in os.environ:
            found[name] = os.environ[name]
    return found


def run(words: list[str]) -> int:
    options = run_options(words)
    check(options)
    mounts = [mount(entry) for entry in options.mount]
    inside = environment(options)
    program = shutil.which(options.command[0], path=inside["PATH"])
    if program is None:
        refuse(
            f'Error response from daemon: exec: "{options.command[0]}": executable file not found in $PATH'
            if PROGRAM == "docker"
            else f"crun: executable file `{options.command[0]}` not found in $PATH",
            NOT_FOUND,
        )
    command = isolated([program, *options.command[1:]], mounts=mounts, directory=options.workdir or "/")
    note = STATE / "containers" / options.name
    with subprocess.Popen(command, env=inside, start_new_session=True) as process:
        note.parent.mkdir(exist_ok=True)
        note.write_text(str(process.pid))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _frame: process.send_signal(number))
        status = process.wait()
    note.unlink(missing_ok=True)
    return 128 - status if status < 0 else status


def remove(name: str) -> int:
    note = STATE / "containers" / name
    if note.exists():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(int(note.read_text()), signal.SIGKILL)
        note.unlink(missing_ok=True)
    return 0


def inspect(words: list[str]) -> int:
    if words[0] != "--format={{json .RepoDigests}}":
        refuse(f"unknown flag: {words[0]}")
    found = images("images.json").get(words[1])
    if found is None:
        sys.stderr.write(f"Error response from daemon: No such image: {words[1]}\n")
        return 1 if PROGRAM == "docker" else USAGE_ERROR
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


def pull(image: str) -> int:
    found = images("registry.json").get(image)
    if found is None:
        sys.stderr.write(f"Error response from daemon: manifest for {image} not found: manifest unknown\n")
        return 1
    (STATE / "images.json").write_text(json.dumps({**images("images.json"), image: found}))
    return 0


def main() -> int:
    with (STATE / "calls.jsonl").open("a") as record:
        record.write(json.dumps([PROGRAM, *sys.argv[1:]]) + "\n")
    if (STATE / "daemon-down").exists():
        sys.stderr.write("Cannot connect to the Docker daemon at unix:///var/run/docker.sock.\n")
        return 1
    match sys.argv[1:]:
        case ["run", *words]:
            return run(words)
        case ["rm", "--force", name]:
            return remove(name)
        case ["image", "inspect", *words]:
            return inspect(words)
        case ["pull", image]:
            return pull(image)
        case _:
            sys.stderr.write(f"{PROGRAM}: '{sys.argv[1]}' is not a {PROGRAM} command.\n")
            return 1
