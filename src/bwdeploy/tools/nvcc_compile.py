"""Run nvcc: units side by side, from the cache of objects where they are in it, then one link for each op.

The first unit that fails ends the others. Whatever ends the build, no compiler of it runs on.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bwdeploy.errors import HostError, ToolError
from bwdeploy.kernels.compile_plan import EXPORTS
from bwdeploy.tools.nvcc_objects import CompiledObject, object_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from bwdeploy.kernels.compile_plan import CompileUnit
    from bwdeploy.tools.nvcc import Nvcc
    from bwdeploy.tools.nvcc_objects import ObjectCache

_SHOWN_LINES = 15
_ERROR = re.compile(r"\berror\s*[:#]|\bfatal\b|undefined reference", re.IGNORECASE)
_NO_SPACE = "No space left on device"
_NO_SPACE_HINT = "Free some space where the pack is written; what was compiled so far is kept"
_KILLED = re.compile(r"died due to signal 9|Killed")
_WRONG_HOST_COMPILER = "unsupported GNU version"
_OUT_OF_MEMORY_HINT = "This is often the kernel's out-of-memory killer: use a machine with more memory"
_LOG_HINT = "The log has the command and all that it said"
_TOO_NEW_GCC = re.compile(r"gcc versions later than (\d+) are not supported")


@dataclass(frozen=True, slots=True, kw_only=True)
class CompileResult:
    """The object of one unit."""

    unit: CompileUnit
    file: Path
    output: str
    """What the compiler said."""
    cached: bool


@dataclass(slots=True)
class Workshop:
    """One build: its compiler, its directories, and the compilers that run for it now."""

    nvcc: Nvcc
    plugins: Path
    scratch: Path
    """Objects and the compilers' own temporary files."""
    jobs: int
    """Compilers side by side."""
    _running: set[subprocess.Popen[str]] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _ended: bool = False

    def compile_all(
        self,
        units: Sequence[CompileUnit],
        *,
        cache: ObjectCache,
        on_done: Callable[[CompileResult], None],
    ) -> list[CompileResult]:
        """Compile every unit or take its object from the cache; results in the order of `units`.

        Raises:
            ToolError: a unit does not compile.
            HostError: nvcc refuses the host compiler.
            OSError: a file cannot be written.
        """
        found: dict[CompileUnit, CompileResult] = {}
        missing: dict[CompileUnit, str] = {}
        for unit in units:
            key = self._key(unit)
            kept = cache.find(key)
            if kept is None:
                missing[unit] = key
            else:
                self._object_of(unit).write_bytes(kept.content)
                found[unit] = CompileResult(
                    unit=unit, file=self._object_of(unit), output=kept.output, cached=True
                )
                on_done(found[unit])
        for result in self._compile(missing, cache=cache, on_done=on_done):
            found[result.unit] = result
        return [found[unit] for unit in units]

    def link(self, objects: Iterable[Path], target: Path, *, arguments: Iterable[str]) -> None:
        """Link a library that shows its entry points for C and nothing else.

        Raises:
            ToolError: the linker refuses.
        """
        exports = self.scratch / "exports.map"
        exports.write_text(EXPORTS, encoding="ascii")
        self.link_plain(objects, target, arguments=(*arguments, f"-Xlinker=--version-script={exports}"))

    def link_plain(self, objects: Iterable[Path], target: Path, *, arguments: Iterable[str]) -> None:
        """Link a library that shows all it has.

        Raises:
            ToolError: the linker refuses.
        """
        libraries = (f"-L{place}" for place in self.nvcc.libraries)
        command = (*sorted(map(str, objects)), *arguments, *libraries, "-o", str(target))
        self._run(command, what=f"link {target.name}")

    def _compile(
        self,
        missing: dict[CompileUnit, str],
        *,
        cache: ObjectCache,
        on_done: Callable[[CompileResult], None],
    ) -> list[CompileResult]:
        """Compile units side by side and add them to the cache under their keys."""
        threads = max(1, self.jobs // max(1, len(missing)))

        def compile_one(unit: CompileUnit) -> CompileResult:
            target = self._object_of(unit)
            command = (*unit.flags, f"--threads={threads}", unit.source, "-o", str(target))
            output = self._run(command, what=f"{unit.op}/{unit.name}")
            if self._key(unit) == missing[unit]:  # no source was changed meanwhile
                cache.keep(missing[unit], CompiledObject(target.read_bytes(), output))
            return CompileResult(unit=unit, file=target, output=output, cached=False)

        results = []
        with ThreadPoolExecutor(max_workers=self.jobs) as pool:
            waiting = [pool.submit(compile_one, unit) for unit in missing]
            try:
                for done in as_completed(waiting):
                    results.append(done.result())
                    on_done(results[-1])
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                self._end()
                raise
        return results

    def _key(self, unit: CompileUnit) -> str:
        return object_key(unit, plugins=self.plugins, compiler=self.nvcc.identity)

    def _object_of(self, unit: CompileUnit) -> Path:
        return self.scratch / f"{unit.op}.{unit.name}.o"

    def _run(self, arguments: Sequence[str], *, what: str) -> str:
        """Run nvcc in the directory of the plugins; what it said."""
        process = self._start([str(self.nvcc.path), *arguments])
        try:
            output, _ = process.communicate()
        finally:
            with self._lock:
                self._running.discard(process)
        sys.stderr.write(f"{what}: {' '.join(process.args)}\n{output}")  # type: ignore[arg-type]
        if process.returncode:
            raise _failure(what, process.returncode, output.splitlines())
        return output

    def _start(self, command: list[str]) -> subprocess.Popen[str]:
        with self._lock:
            if self._ended:
                raise ToolError("The compilation was ended")
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                cwd=self.plugins,
                env={**os.environ, "TMPDIR": str(self.scratch), "LC_ALL": "C"},
                process_group=0,
            )
            self._running.add(process)
        return process

    def _end(self) -> None:
        """Kill every running compiler with what it started; none starts after it."""
        with self._lock:
            self._ended = True
            for process in self._running:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


def _failure(what: str, status: int, lines: list[str]) -> ToolError | HostError:
    told = next((line for line in lines if _WRONG_HOST_COMPILER in line), "")
    if told:
        newest = _TOO_NEW_GCC.search(told)
        wanted = f"g++ {newest[1]} or older" if newest else "another g++"
        return HostError(
            f"nvcc refuses the host compiler: {told.partition('error')[2].strip(' :-')}",
            hint=f"Install {wanted} and name it with NVCC_CCBIN",
        )
    full = next((line.strip() for line in lines if _NO_SPACE in line), "")
    cause = full or next((line.strip() for line in lines if _ERROR.search(line)), "")
    ended = f"was killed by signal {-status}" if status < 0 else f"failed with status {status}"
    killed = any(_KILLED.search(line) for line in lines) or status == -signal.SIGKILL
    return ToolError(
        f"nvcc {ended} ({what})" + (f": {cause}" if cause else ""),
        hint=_NO_SPACE_HINT if full else _OUT_OF_MEMORY_HINT if killed else _LOG_HINT,
        last_lines=tuple(line for line in lines if line.strip())[-_SHOWN_LINES:],
    )
