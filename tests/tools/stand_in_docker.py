"""A stand-in for `docker`: holds its caller to the rules of `docker run`, then runs the command here.

Inside a container the repository is at the mount's target and the ports are the published ones, so those
words of the command are translated; everything else reaches the real server as it was given. It writes its
arguments to $STAND_IN_RECORD. It isolates nothing.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

USAGE_ERROR = 125  # docker's own


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        sys.stderr.write(f"docker: {message}\n")
        raise SystemExit(USAGE_ERROR)


def parse(words: list[str]) -> argparse.Namespace:
    parser = Parser(allow_abbrev=False, add_help=False)
    for flag in ("--rm", "--init"):
        parser.add_argument(flag, action="store_true")
    for once in ("--name", "--gpus", "--shm-size", "--network"):
        parser.add_argument(once)
    for many in ("--publish", "--mount", "--ulimit", "--cap-drop", "--cap-add", "--security-opt", "--env"):
        parser.add_argument(many, action="append", default=[])
    parser.add_argument("image")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args(words)
    if " " in options.image or options.image.startswith("-"):
        parser.error("invalid reference format")
    return options


def ports(published: list[str]) -> dict[str, str]:
    found = {}
    for entry in published:
        address, outside, inside = entry.split(":")
        if address != "127.0.0.1":
            sys.exit(f"published on {address}")
        found[inside] = outside
    return found


def mount(entry: str) -> dict[str, str]:
    fields = next(csv.reader([entry]))
    found = dict(field.partition("=")[::2] for field in fields)
    if not Path(found["source"]).is_dir():
        sys.stderr.write(f"docker: bind source path does not exist: {found['source']}\n")
        raise SystemExit(USAGE_ERROR)
    return found


def translated(options: argparse.Namespace) -> list[str]:
    (bind,) = map(mount, options.mount)
    outside = ports(options.publish)
    words = []
    for word in options.command[1:]:
        name, _, value = word.partition("=")
        if name.endswith("-port"):
            words.append(f"{name}={outside[value]}")
        elif name.endswith("-address"):
            words.append(f"{name}=127.0.0.1")
        else:
            words.append(word.replace(bind["target"], bind["source"]) if value == bind["target"] else word)
    return words


def main() -> int:
    with Path(os.environ["STAND_IN_RECORD"]).open("a") as record:
        record.write(json.dumps(sys.argv[1:]) + "\n")
    if sys.argv[1:3] == ["rm", "--force"]:
        return 0
    if sys.argv[1] != "run":
        sys.exit(f"docker: unknown command {sys.argv[1]}")
    server = json.loads(os.environ["STAND_IN_SERVER"])
    options = parse(sys.argv[2:])
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    with subprocess.Popen(
        [*server["command"], *translated(options)], env={**environment, **server["env"]}
    ) as process:
        signal.signal(signal.SIGTERM, lambda number, _frame: process.send_signal(number))
        return process.wait()


if __name__ == "__main__":
    raise SystemExit(main())
