"""What the stand-ins for containers share: run a command that sees, of a directory, only what is mounted.

Run by path (`python -IS isolation.py JSON`) inside `unshare --user --mount`: the directory is covered by an
empty file system, and every mount is bound back to its place in it. Standard library only.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from pathlib import Path
from typing import NamedTuple

MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC = 1, 32, 4096, 16384
LIBC = ctypes.CDLL(None, use_errno=True)


class Mount(NamedTuple):
    path: str
    writable: bool


def isolated(command: list[str], *, mounts: list[Mount], directory: str) -> list[str]:
    """The command line that runs `command` where $STAND_IN_HOST holds the mounts only."""
    task = {
        "command": command,
        "mounts": sorted(mounts),
        "directory": directory,
        "host": os.environ["STAND_IN_HOST"],
    }
    unshare = ["/usr/bin/unshare", "--user", "--map-root-user", "--mount"]
    return [*unshare, sys.executable, "-IS", __file__, json.dumps(task)]


def mount(source: str, target: str, kind: str, flags: int) -> None:
    words = [word.encode() for word in (source, target, kind)]
    if LIBC.mount(*words, flags, None) != 0:
        number = ctypes.get_errno()
        sys.exit(f"mount {source} {target}: {os.strerror(number)}")


def main() -> None:
    task = json.loads(sys.argv[1])
    kept = [
        (os.open(path, os.O_PATH), path, writable, Path(path).is_dir()) for path, writable in task["mounts"]
    ]
    mount("tmpfs", task["host"], "tmpfs", 0)
    for descriptor, path, writable, is_directory in kept:
        target = Path(path)
        if is_directory:
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
        mount(f"/proc/self/fd/{descriptor}", path, "none", MS_BIND | MS_REC)
        if not writable:
            locked = os.statvfs(path).f_flag & 0b1110  # nosuid, nodev, noexec cannot be taken back
            mount("none", path, "none", MS_REMOUNT | MS_BIND | MS_RDONLY | locked)
    os.chdir(task["directory"])
    os.execvp(task["command"][0], task["command"])  # noqa: S606 - a stand-in becomes the program


if __name__ == "__main__":
    main()
