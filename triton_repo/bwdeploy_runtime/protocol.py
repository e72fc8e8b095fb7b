"""What the Triton stub and the engine process say to each other: one JSON object a line.

Commands go to the engine, events come back. Everything is ASCII JSON, so a newline always ends a frame.
Reading and writing sockets, and deciding what to do, is left to `link` (stub) and `worker` (engine).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal, Union

from bwdeploy_runtime.errors import ProtocolError

ErrorCode = Literal["invalid", "internal"]


@dataclass(frozen=True)
class Generate:
    """Answer a prompt."""

    op = "generate"
    id: str
    prompt: str
    sampling: dict[str, Any]
    stream: bool
    """False: one delta, at the end."""
    arrival_ns: int
    """CLOCK_MONOTONIC when Triton handed the request over."""


@dataclass(frozen=True)
class Cancel:
    """Stop answering; the answer still ends with a delta whose finish is `cancelled`."""

    op = "cancel"
    id: str


@dataclass(frozen=True)
class Shutdown:
    """Leave."""

    op = "shutdown"


@dataclass(frozen=True)
class Ready:
    """The engine is loaded."""

    event = "ready"
    info: dict[str, Any]


@dataclass(frozen=True)
class Delta:
    """New text of one answer."""

    event = "delta"
    id: str
    text: str
    tokens: int
    """Tokens in `text`."""
    finish: str | None = None
    """None while more follows; then stop, length or cancelled."""
    stop_reason: str | None = None
    """The stop string or the id of the stop token; None for the model's own end."""
    logprob: float | None = None
    """Sum over the answer so far, natural logarithm, before temperature and penalties."""
    metrics: dict[str, float] = field(default_factory=dict)
    """With the last delta: names of tensors.PERFORMANCE_OUTPUTS and their values."""


@dataclass(frozen=True)
class RequestFailed:
    """One request cannot be answered; the others go on."""

    event = "error"
    id: str
    code: ErrorCode
    message: str


@dataclass(frozen=True)
class Heartbeat:
    """The process lives; `steps` moves when the engine makes progress."""

    event = "heartbeat"
    steps: int
    running: int
    kernel_calls: dict[str, int] = field(default_factory=dict)
    """Op of the kernel pack → how often it has run in this process."""


@dataclass(frozen=True)
class Fatal:
    """The engine cannot go on; the process ends after this."""

    event = "fatal"
    message: str


Command = Union[Generate, Cancel, Shutdown]  # noqa: UP007 - used at run time, Python 3.10
Event = Union[Ready, Delta, RequestFailed, Heartbeat, Fatal]  # noqa: UP007 - as above

_COMMANDS: dict[str, type[Any]] = {kind.op: kind for kind in (Generate, Cancel, Shutdown)}
_EVENTS: dict[str, type[Any]] = {kind.event: kind for kind in (Ready, Delta, RequestFailed, Heartbeat, Fatal)}


def encode(frame: Command | Event) -> bytes:
    """One line, newline included."""
    tag = {"op": frame.op} if isinstance(frame, Generate | Cancel | Shutdown) else {"event": frame.event}
    return json.dumps(tag | vars(frame), separators=(",", ":")).encode("ascii") + b"\n"


def decode_command(line: bytes) -> Command:
    """Read one line from the stub.

    Raises:
        ProtocolError: not a command.
    """
    command: Command = _decode(line, "op", _COMMANDS)
    return command


def decode_event(line: bytes) -> Event:
    """Read one line from the engine.

    Raises:
        ProtocolError: not an event.
    """
    event: Event = _decode(line, "event", _EVENTS)
    return event


def _decode(line: bytes, tag: str, kinds: dict[str, type[Any]]) -> Any:  # noqa: ANN401 - narrowed by the callers
    try:
        data = json.loads(line)
        return kinds[data.pop(tag)](**data)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ProtocolError(f"unreadable frame {line[:200]!r}: {error}") from error


class LineBuffer:
    """Cuts a stream of bytes into whole lines."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes, without their newline."""
        if b"\n" not in data:
            self._rest += data
            return []
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest
        return lines
