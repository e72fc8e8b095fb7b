"""One question to aiconfigurator's python: a JSON file in, a JSON file out, all else into a bounded log.

The child runs in a session of its own and is ended with all it started when it takes too long or bwdeploy is
interrupted; when bwdeploy is killed, the closing pipe ends it. A log remains only after a failure.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from bwdeploy.errors import ToolError
from bwdeploy.places import cache_directory
from bwdeploy.tools import aiconfigurator_points
from bwdeploy.tools.aiconfigurator_environment import install_hint

if TYPE_CHECKING:
    from collections.abc import Mapping

_LAST_LINES = 12
_KEPT_BYTES = 1_000_000
"""Of what the tool prints; the rest is read and dropped, but for the end."""
_END_BYTES = 16_384
_RESULT_BYTES = 16_000_000


def ask(python: Path, task: Mapping[str, Any], *, timeout_s: float) -> dict[str, Any]:
    """The tool's answer to one task.

    Raises:
        ToolError: the tool failed, took too long or wrote no result.
    """
    with tempfile.TemporaryDirectory(prefix="bwdeploy-aic-") as folder:
        request, result = Path(folder, "request.json"), Path(folder, "result.json")
        request.write_text(json.dumps(task), encoding="utf-8")
        script = str(Path(aiconfigurator_points.__file__).resolve())
        talk, problem = _run([str(python), "-I", script, str(request), str(result)], folder, timeout_s)
        answer = None if problem else _read(result)
    if problem:
        raise failure(problem, talk)
    if not isinstance(answer, dict) or "version" not in answer:
        raise failure(
            "aiconfigurator wrote no result" if answer is None else "aiconfigurator answered in another form",
            talk,
        )
    return answer


def failure(message: str, talk: bytes = b"") -> ToolError:
    """The error that tells it, with what the tool printed in a log."""
    lines = talk[-_END_BYTES:].decode("utf-8", errors="replace").splitlines()
    return ToolError(
        message,
        hint=f"Use --method roofline; or {install_hint()}",
        log=_write_log(talk),
        last_lines=tuple(_printable(line[:500]) for line in lines[-_LAST_LINES:]),
    )


def _printable(line: str) -> str:
    return "".join(one if one.isprintable() else "�" for one in line)


def _run(command: list[str], folder: str, timeout_s: float) -> tuple[bytes, str]:
    """What was printed, and what went wrong, empty when nothing did."""
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
            start_new_session=True,
        )
    except OSError as error:
        return b"", f"aiconfigurator could not be started: {error}"
    talk = _Talk(child.stdout)
    talk.start()
    try:
        status = child.wait(timeout=timeout_s)
        problem = f"aiconfigurator ended with exit status {status}" if status else ""
    except subprocess.TimeoutExpired:
        problem = f"aiconfigurator did not answer within {timeout_s:g} s"
    finally:
        if child.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        if child.stdin is not None:
            child.stdin.close()
        talk.join(timeout=1.0)  # a grandchild may hold the pipe open
    return talk.kept(), problem


class _Talk(threading.Thread):
    """Reads a pipe to its end and keeps the beginning and the end of it."""

    def __init__(self, pipe: IO[bytes] | None) -> None:
        super().__init__(daemon=True)
        self._pipe = pipe
        self._begin = bytearray()
        self._end = bytearray()
        self._dropped = 0

    def run(self) -> None:
        """Read."""
        if self._pipe is None:
            return
        with self._pipe as pipe:
            while chunk := os.read(pipe.fileno(), 65_536):
                room = _KEPT_BYTES - len(self._begin)
                self._begin += chunk[:room]
                self._end += chunk[room:]
                if len(self._end) > 2 * _END_BYTES:
                    self._dropped += len(self._end) - _END_BYTES
                    del self._end[:-_END_BYTES]

    def kept(self) -> bytes:
        """What is kept."""
        gap = f"\n… {self._dropped:,} bytes left out …\n".encode() if self._dropped else b""
        return bytes(self._begin) + gap + bytes(self._end)


def _read(result: Path) -> Any:  # noqa: ANN401 - any JSON value
    try:
        if result.stat().st_size > _RESULT_BYTES:
            return None
        return json.loads(result.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def _write_log(talk: bytes) -> Path | None:
    """`last.log` in the cache, else a file for temporary ones; None where nothing can be written."""
    for folder in (cache_directory() / "aiconfigurator", Path(tempfile.gettempdir())):
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(prefix="bwdeploy-aiconfigurator-", suffix=".log", dir=folder)
            with os.fdopen(descriptor, "wb") as file:
                file.write(talk)
            if folder.name != "aiconfigurator":
                return Path(name)
            return Path(name).replace(folder / "last.log")
    return None
