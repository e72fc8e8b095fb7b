"""NVIDIA's CUDA compiler on this machine: where it is, what it can make, and with which host compiler.

Looked for in $CUDA_HOME, on PATH, then among the Python packages of this environment (extra `kernels`).
Nothing is compiled here; see `nvcc_compile`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bwdeploy.errors import HostError, ToolError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

NVCC: Final = "nvcc"
"""The program, as an executor is asked for it."""
OLDEST: Final = (12, 8)
"""The first nvcc that knows sm_100a and sm_120a; sm_103a came with 12.9."""
_OLDEST_GCC = (9,)
_EXTRA = "pip install 'bwdeploy[kernels]'"
_RELEASE = re.compile(r"\bV(\d+)\.(\d+)\.(\d+)")
_HOST_COMPILER = "NVCC_CCBIN"
_FLAG_VARIABLES = ("NVCC_PREPEND_FLAGS", "NVCC_APPEND_FLAGS")
_ANSWER_S = 60.0
_ABSENT = "absent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Nvcc:
    """A usable compiler."""

    path: Path
    version: str
    """For example `13.0.88`."""
    codes: frozenset[str]
    """Architectures that it names, for example `sm_90`."""
    host_compiler: str
    """Program and version."""
    libraries: tuple[Path, ...]
    """Directories that its own profile forgets: in Python packages the runtime lies in `lib`, not `lib64`."""

    @property
    def identity(self) -> tuple[str, ...]:
        """What of it decides on the bytes that it writes."""
        flags = (f"{name}={os.environ[name]}" for name in _FLAG_VARIABLES if name in os.environ)
        return (f"nvcc {self.version}", self.host_compiler, *flags)

    def require(self, sms: Iterable[str]) -> None:
        """Raise unless it can compile for these architectures.

        Raises:
            HostError: it is too old for one.
        """
        unknown = [sm for sm in sms if not {sm, sm.rstrip("a")} & self.codes]
        if unknown:
            raise HostError(
                f"{self.path} ({self.version}) does not know {', '.join(unknown)};"
                f" it knows {', '.join(sorted(self.codes))}",
                hint=f"Use a newer nvcc ({_EXTRA}), or leave the architecture out with --arch",
            )


def find_nvcc() -> Nvcc:
    """The compiler of this environment.

    Raises:
        HostError: there is none, it is too old, or its host compiler is missing or too old.
        ToolError: it does not answer as nvcc does.
    """
    path = _located()
    version = _version(path)
    if _numbers(version) < OLDEST:
        raise HostError(
            f"{path} is nvcc {version}; {'.'.join(map(str, OLDEST))} or newer is needed",
            hint=f"{_EXTRA}, or set CUDA_HOME to a newer CUDA toolkit",
        )
    return Nvcc(
        path=path,
        version=version,
        codes=frozenset(_answer([str(path), "--list-gpu-code"]).split()),
        host_compiler=_host_compiler(),
        libraries=tuple(_forgotten_libraries(path)),
    )


def installed_identity() -> tuple[str, ...]:
    """`Nvcc.identity` of the compiler here, `absent` when there is none that can be used; raises nothing."""
    try:
        return find_nvcc().identity
    except (HostError, ToolError):
        return (_ABSENT,)


def _located() -> Path:
    home = os.environ.get("CUDA_HOME")
    if home:
        named = Path(home, "bin", NVCC)
        if not os.access(named, os.X_OK):
            raise HostError(
                f"$CUDA_HOME is {home}, and {named} is no program",
                hint="Set CUDA_HOME to a CUDA toolkit with its compiler, or unset it",
            )
        return named
    found = shutil.which(NVCC)
    if found:
        return Path(found)
    for path in _in_packages():
        return path
    raise HostError(
        "There is no CUDA compiler: no $CUDA_HOME, no nvcc on PATH, none among the Python packages",
        hint=f"{_EXTRA}, or set CUDA_HOME to a CUDA toolkit {'.'.join(map(str, OLDEST))} or newer",
    )


def _in_packages() -> Iterator[Path]:
    """Compilers that pip installed, newest CUDA first."""
    spec = find_spec("nvidia")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        yield from sorted(Path(place).glob(f"cu[0-9][0-9]/bin/{NVCC}"), reverse=True)


def _version(path: Path) -> str:
    said = _answer([str(path), "--version"])
    found = _RELEASE.search(said)
    if found is None:
        raise ToolError(
            f"{path} --version does not answer as nvcc does",
            hint="Set CUDA_HOME to a CUDA toolkit",
            last_lines=tuple(said.splitlines()[-5:]),
        )
    return ".".join(found.groups())


def _host_compiler() -> str:
    """The C++ compiler that nvcc calls for host code, with its version."""
    named = os.environ.get(_HOST_COMPILER, "g++")
    program = shutil.which(Path(named, "g++") if Path(named).is_dir() else named)
    if program is None:
        raise HostError(
            f"There is no C++ compiler {named}, which nvcc needs for host code",
            hint=f"Install g++ 9 or newer, or name one with {_HOST_COMPILER}",
        )
    version = _answer([program, "-dumpfullversion", "-dumpversion"]).strip()
    if _numbers(version) < _OLDEST_GCC:
        raise HostError(
            f"{program} {version} is too old for torch's headers; {_OLDEST_GCC[0]} or newer is needed",
            hint=f"Install a newer g++, or name one with {_HOST_COMPILER}",
        )
    return f"{Path(program).name} {version}"


def _forgotten_libraries(nvcc: Path) -> Iterator[Path]:
    place = nvcc.resolve().parents[1] / "lib"
    if (place / "libcudart_static.a").is_file():
        yield place


def _answer(command: list[str]) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=_ANSWER_S, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or ""
        raise ToolError(
            f"{' '.join(command)} {_ending(error)}",
            hint="Set CUDA_HOME or NVCC_CCBIN to a program that is whole and made for this machine",
            last_lines=tuple(said.splitlines()[-5:]) if isinstance(said, str) else (),
        ) from error
    return done.stdout


def _ending(error: OSError | subprocess.SubprocessError) -> str:
    """How a program that gave no answer ended."""
    match error:
        case subprocess.CalledProcessError():
            return f"failed with status {error.returncode}"
        case subprocess.TimeoutExpired():
            return f"gave no answer in {error.timeout:.0f} s"
        case _:
            return f"failed: {error}"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))
