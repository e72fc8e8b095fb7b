from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bwdeploy_runtime.errors import ProtocolError
from bwdeploy_runtime.protocol import (
    Cancel,
    Command,
    Delta,
    Event,
    Fatal,
    Generate,
    Heartbeat,
    LineBuffer,
    Ready,
    RequestFailed,
    Shutdown,
    decode_command,
    decode_event,
    encode,
)

COMMANDS = [
    Generate("1", "line\nline 🌍", {"stop": ["\u2028"]}, stream=True, arrival_ns=5),
    Cancel("1"),
    Shutdown(),
]
EVENTS = [
    Ready({"engine": "echo"}),
    Delta("1", "wörld\r\n", 2, "stop", "é", -0.5, {"arrival_time_ns": 1}),
    RequestFailed("1", "invalid", "no"),
    Heartbeat(steps=3, running=1),
    Heartbeat(steps=3, running=1, kernel_calls={"add_rmsnorm_quant_fp8": 2**40}),
    Fatal("gone"),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_reads_back(command: Command) -> None:
    line = encode(command)
    assert line.count(b"\n") == 1
    assert decode_command(line) == command


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_reads_back(event: Event) -> None:
    line = encode(event)
    assert line.count(b"\n") == 1
    assert decode_event(line) == event


@pytest.mark.parametrize(
    "line", [b"", b"{}", b"[]", b"null", b'{"event":"x"}', b'{"event":"fatal"}', b"\xff"]
)
def test_what_is_no_event_is_refused(line: bytes) -> None:
    with pytest.raises(ProtocolError, match="unreadable frame"):
        decode_event(line)


@given(st.lists(st.binary(max_size=20).map(lambda data: data.replace(b"\n", b""))), st.integers(1, 7))
def test_lines_come_out_whole_however_they_are_cut(lines: list[bytes], size: int) -> None:
    data = b"".join(line + b"\n" for line in lines)
    buffer = LineBuffer()
    found = [line for at in range(0, len(data), size) for line in buffer.feed(data[at : at + size])]
    assert found == lines
