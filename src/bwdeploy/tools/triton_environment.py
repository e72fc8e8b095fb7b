"""The private environment of the Triton server that ships inside the package nvidia-pytriton.

A virtual environment in the user's cache directory, made once and shared by all builds: the server, its
Python stub and a numpy that this stub can read (older than 2). It counts as made only when its marker file
is written, so a half one is made anew. Nothing of it is imported here; only its files are used.
This server (Triton 2.51) is old and has known remote holes: loopback only, never a production server.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from filelock import FileLock

from bwdeploy.errors import HostError, StoreError, ToolError
from bwdeploy.places import cache_directory

if TYPE_CHECKING:
    from collections.abc import Callable

SERVER_VERSION: Final = "2.51"
PINS: Final = ("nvidia-pytriton==0.7.0", "numpy==1.26.4", "tokenizers==0.22.2")
"""Version 2.51's stub crashes on strings with numpy 2: pybind11 2.10, cured one release later by
https://github.com/triton-inference-server/python_backend/pull/384. The models that serve an engine turn text
into tokens inside the stub, hence tokenizers."""

PYTHON_VERSIONS: Final = ((3, 11), (3, 12))
"""The server has a stub for each and numpy 1.26.4 a wheel; 3.13 has no such wheel."""

_MARKER: Final = "complete.json"
_NO_BYTECODE: Final = ("bwdeploy_no_bytecode.pth", "import sys; sys.dont_write_bytecode = True\n")
"""File and text. The stub ignores PYTHONDONTWRITEBYTECODE, and a repository's files must stay as they were
built. Every .pth file is read, of modules sitecustomize only the first, and Debian's Python has one."""

_STUB: Final = "triton_python_backend_stub"
_INSTALL_TIMEOUT_S: Final = 1800.0
_LAST_LINES: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class TritonEnvironment:
    """Where the parts of a made environment lie."""

    root: Path

    @property
    def binaries(self) -> Path:
        """The folder that must stand first in PATH: the stub finds its packages through python3 there."""
        return self.root / "venv" / "bin"

    @property
    def site_packages(self) -> Path:
        """The installed packages."""
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        return self.root / "venv" / "lib" / version / "site-packages"

    @property
    def server(self) -> Path:
        """The tritonserver executable."""
        return self.site_packages / "pytriton" / "tritonserver" / "bin" / "tritonserver"

    @property
    def cache_directory(self) -> Path:
        """The folder of response cache libraries that the server wants named."""
        return self.site_packages / "pytriton" / "tritonserver" / "caches"

    @property
    def backends(self) -> Path:
        """The private backend folder: the wheel keeps the stub apart from the Python backend."""
        return self.root / "backends"

    @property
    def library_path(self) -> tuple[Path, ...]:
        """The folders for LD_LIBRARY_PATH: libpython for the stub, then the wheel's own libraries."""
        return (Path(str(sysconfig.get_config_var("LIBDIR"))), self.site_packages / "nvidia_pytriton.libs")

    def is_usable(self) -> bool:
        """Whether it was made completely and its files (and the Python it was made with) are still there."""
        parts = (
            self.root / _MARKER,
            self.server,
            self.binaries / "python3",
            self.backends / "python" / _STUB,
        )
        return all(part.exists() for part in parts)


def bundled_environment(
    *, cache: Path | None = None, on_progress: Callable[[str], None] = lambda _text: None
) -> TritonEnvironment:
    """The environment of the bundled server, made now when it is not there yet.

    Raises:
        HostError: this Python cannot host the server's stub, or has no venv module.
        ToolError: pip failed (no network, no such package).
        StoreError: the cache directory cannot be written.
    """
    _require_fitting_python()
    cache = cache or cache_directory()
    environment = TritonEnvironment(root=cache / environment_name())
    if environment.is_usable():
        return environment
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f"{environment_name()}.lock"):
            if not environment.is_usable():  # another process may have made it while we waited
                on_progress(f"installing the bundled Triton server into {environment.root}")
                _make(environment)
    except OSError as error:
        raise StoreError(
            f"The Triton environment cannot be made in {cache}: {error.strerror or error}.",
            hint="Set BWDEPLOY_CACHE to a directory you may write, with 400 MB of free space.",
        ) from error
    return environment


def environment_name() -> str:
    """The folder name: server and Python version, and a digest of the pins and of this interpreter."""
    interpreter = (platform.machine(), sys.base_prefix, platform.python_version())
    identity = "\n".join((*PINS, *_NO_BYTECODE, *interpreter))
    digest = hashlib.sha256(identity.encode()).hexdigest()[:8]
    return f"triton-{SERVER_VERSION}-py{sys.version_info.major}.{sys.version_info.minor}-{digest}"


def fitting_python() -> bool:
    """Whether this Python can host the stub of the bundled server."""
    return _is_fitting_version() and _has_shared_library()


def _is_fitting_version() -> bool:
    return sys.version_info[:2] in PYTHON_VERSIONS and sys.implementation.name == "cpython"


def _has_shared_library() -> bool:
    return bool(sysconfig.get_config_var("Py_ENABLE_SHARED"))


def _require_fitting_python() -> None:
    if platform.system() != "Linux" or platform.machine() not in {"x86_64", "aarch64"}:
        raise HostError(
            f"The bundled Triton server exists for Linux on x86_64 and aarch64, not for {platform.system()} "
            f"on {platform.machine()}.",
            hint="Serve with a container: --server container.",
        )
    if not _is_fitting_version():
        raise HostError(
            f"The bundled Triton server needs CPython 3.11 or 3.12; this is {sys.implementation.name} "
            f"{platform.python_version()}.",
            hint="Install bwdeploy with python3.11 or python3.12.",
        )
    library = str(sysconfig.get_config_var("INSTSONAME"))
    if not _has_shared_library():
        raise HostError(
            f"The bundled Triton server needs a Python with a shared library (libpython); {sys.base_prefix} "
            f"was built without one ({library}).",
            hint="Use the system's python3.11 or 3.12, or build with --enable-shared "
            "(pyenv: PYTHON_CONFIGURE_OPTS=--enable-shared).",
        )


def _make(environment: TritonEnvironment) -> None:
    """Make it in a folder of its own and rename it: a killed build's pip may still be writing to the old one.

    Only the interpreter of the virtual environment is used, never its scripts, so it may be moved.
    """
    final = environment.root
    for leftover in final.parent.glob(f"{final.name}.*/"):
        shutil.rmtree(leftover, ignore_errors=True)
    making = TritonEnvironment(root=Path(tempfile.mkdtemp(prefix=f"{final.name}.", dir=final.parent)))
    log = final.parent / f"{final.name}.log"
    log.write_bytes(b"")
    _install(making, log=log)
    name, text = _NO_BYTECODE
    (making.site_packages / name).write_text(text, encoding="utf-8")
    _link_backend(making)
    marker = {"pins": PINS, "python": platform.python_version(), "base": sys.base_prefix}
    (making.root / _MARKER).write_text(json.dumps(marker), encoding="utf-8")
    if final.exists():
        shutil.rmtree(final)
    making.root.rename(final)


def _install(environment: TritonEnvironment, *, log: Path) -> None:
    venv = environment.root / "venv"
    _run([sys.executable, "-m", "venv", str(venv)], log=log, hint="Debian, Ubuntu: apt install python3-venv.")
    python = str(environment.binaries / "python3")
    install = [python, "-m", "pip", "install", "--no-deps", "--no-input", "--only-binary=:all:"]
    _run(
        [*install, "--disable-pip-version-check", *PINS],
        log=log,
        hint="Check the network and pip's index settings (pip config list), then run the command again.",
    )


def _run(command: list[str], *, log: Path, hint: str) -> None:
    """Run one installation step with its output in the log."""
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))
    }
    with log.open("ab") as output:
        try:
            code = subprocess.run(
                command,
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=clean,
                timeout=_INSTALL_TIMEOUT_S,
            ).returncode
        except subprocess.TimeoutExpired:
            code = -1
    if code != 0:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        raise ToolError(
            f"Installing the bundled Triton server failed (exit status {code}): {' '.join(command)}",
            hint=hint,
            log=log,
            last_lines=tuple(lines[-_LAST_LINES:]),
        )


def _link_backend(environment: TritonEnvironment) -> None:
    """Assemble the backend folder: relative links, through which the libraries still find their siblings."""
    bundle = environment.site_packages / "pytriton" / "tritonserver"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    parts = (
        bundle / "backends" / "python" / "libtriton_python.so",
        bundle / "backends" / "python" / "triton_python_backend_utils.py",
        bundle / "python_backend_stubs" / version / _STUB,
    )
    folder = environment.backends / "python"
    folder.mkdir(parents=True)
    for part in parts:
        if not part.exists():
            raise ToolError(
                f"The package {PINS[0]} lacks {part.relative_to(bundle)}.", hint="Clear the pip cache."
            )
        (folder / part.name).symlink_to(os.path.relpath(part, folder))
    for executable in (environment.server, parts[-1]):
        executable.chmod(0o755)
