#!/usr/bin/env python3
"""A stand-in for `nvcc`: its options one by one, its includes, its errors; objects hold no code.

It compiles one source for each call and knows nothing of bwdeploy. What it prints of registers has the form
of ptxas. Linking copies the file that STAND_IN_LIBRARY names.

STAND_IN_VERSION and STAND_IN_CODES say what it is; STAND_IN_RECORD is a file that gets one line for each
compile and link; STAND_IN_SLEEP_S waits before an object is written; STAND_IN_PIDS is a directory for files
named after running compilers.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path

PLAIN = {
    "-c", "-shared", "-O2", "-O3", "-std=c++17", "-lineinfo", "--resource-usage", "--no-device-link",
    "-cudart=static", "-cudart=none", "-x=c++", "--compress-mode=size",
}  # fmt: skip
WITH_VALUE = ("-I", "-D", "-L", "-l", "-isystem=", "-Xcompiler=", "-Xlinker=", "--threads=")
GENCODE = re.compile(r"-gencode=arch=compute_(\w+),code=sm_(\w+)")
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*"([^"]+)"', re.MULTILINE)
UNDECLARED = re.compile(r"\bundeclared\b")
ERROR = re.compile(r"^[ \t]*#[ \t]*error (.*)", re.MULTILINE)


def fail(message: str, status: int = 1) -> None:
    sys.stderr.write(message + "\n")
    raise SystemExit(status)


def version() -> str:
    return os.environ.get("STAND_IN_VERSION", "13.0.88")


def codes() -> list[str]:
    return os.environ.get("STAND_IN_CODES", "sm_75 sm_90 sm_100 sm_103 sm_120").split()


def main(words: list[str]) -> None:
    if words == ["--version"]:
        release = version().rpartition(".")[0]
        print("nvcc: NVIDIA (R) Cuda compiler driver")  # noqa: T201
        print(f"Cuda compilation tools, release {release}, V{version()}")  # noqa: T201
    elif words == ["--list-gpu-code"]:
        print("\n".join(codes()))  # noqa: T201
    else:
        run(words)


def run(words: list[str]) -> None:
    if "-o" not in words:
        fail("nvcc fatal   : no output")
    place = words.index("-o")
    target, rest = Path(words[place + 1]), words[:place] + words[place + 2 :]
    files = [word for word in rest if not word.startswith("-")]
    options = [word for word in rest if word.startswith("-")]
    for option in options:
        if option not in PLAIN and not GENCODE.fullmatch(option) and not option.startswith(WITH_VALUE):
            fail(f"nvcc fatal   : Unknown option '{option}'")
    note({"files": files, "options": options, "cwd": str(Path.cwd())})
    if "-shared" in options:
        link(files, target)
    elif "-c" not in options or len(files) != 1:
        fail("nvcc fatal   : A single input file is required for a non-link phase")
    else:
        with running():
            compile_one(Path(files[0]), options, target)


def link(objects: list[str], target: Path) -> None:
    for name in objects:
        if not Path(name).is_file() or not Path(name).read_bytes().startswith(b"object of "):
            fail(f"/usr/bin/ld: cannot find {name}: No such file or directory")
    target.write_bytes(Path(os.environ["STAND_IN_LIBRARY"]).read_bytes())


def compile_one(source: Path, options: list[str], target: Path) -> None:
    if not source.is_file():
        fail(f"nvcc fatal   : Could not open input file '{source}'")
    asked = [found.groups() for option in options if (found := GENCODE.fullmatch(option))]
    for virtual, real in asked:
        if virtual != real or f"sm_{real.rstrip('a')}" not in codes():
            fail(f"nvcc fatal   : Unsupported gpu architecture 'compute_{virtual}'")
    places = [option.removeprefix("-I") for option in options if option.startswith("-I")]
    text = preprocessed(source, places)
    time.sleep(float(os.environ.get("STAND_IN_SLEEP_S", "0")))
    for _, real in asked:
        name = f"_Z{len(source.parent.name)}{source.parent.name}v"
        sys.stderr.write(
            f"ptxas info    : Compiling entry function '{name}' for 'sm_{real}'\n"
            f"ptxas info    : Function properties for {name}\n"
            "    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n"
            "ptxas info    : Used 16 registers, used 1 barriers, 64 bytes smem\n"
        )
    target.write_bytes(f"object of {source} {sorted(options)}\n{text}".encode())


def line_of(found: re.Match[str]) -> int:
    return found.string[: found.start()].count("\n") + 1


def preprocessed(source: Path, places: list[str]) -> str:
    text = source.read_text()
    if found := ERROR.search(text):
        fail(f"{source}:{line_of(found)}:2: error: #error {found[1]}")
    if source.suffix == ".cu" and (found := UNDECLARED.search(text)):
        fail(
            f'{source}({line_of(found)}): error: identifier "undeclared" is undefined\n\n'
            f'1 error detected in the compilation of "{source}".',
            status=2,
        )
    for name in INCLUDE.findall(text):
        candidates = [source.parent / name, *(Path(place, name) for place in places)]
        file = next((one for one in candidates if one.is_file()), None)
        if file is None:
            fail(f"{source}:1:10: fatal error: {name}: No such file or directory\ncompilation terminated.")
        else:
            text += preprocessed(file, places)
    return text


class running:  # noqa: N801 - reads as a with statement
    """Notes that this compiler runs, for as long as it does."""

    def __init__(self) -> None:
        pids = os.environ.get("STAND_IN_PIDS")
        self.file = Path(pids, str(os.getpid())) if pids else None

    def __enter__(self) -> None:
        if self.file:
            self.file.touch()

    def __exit__(self, *_: object) -> None:
        if self.file:
            self.file.unlink()


def note(call: dict[str, object]) -> None:
    if "STAND_IN_RECORD" in os.environ:
        descriptor = os.open(os.environ["STAND_IN_RECORD"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, json.dumps(call).encode() + b"\n")
        os.close(descriptor)


if __name__ == "__main__":
    main(sys.argv[1:])
