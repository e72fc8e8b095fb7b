"""A load test: N streams at once over HTTP `generate_stream`, and what the clients saw.

The client shares the machine with the server, so it does as little as it can: plain sockets under one
asyncio loop, responses counted in the raw bytes, no JSON read. Tokens are taken from the model's own
counter, never guessed from text; an engine behind an ensemble has none, and then they are unknown.
One process; its own CPU time is part of the result.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from statistics import quantiles
from typing import TYPE_CHECKING, Any, Final

from bwdeploy.serving import metrics
from bwdeploy.serving.client import GenerationError
from bwdeploy.serving.vocabulary import request_fields

if TYPE_CHECKING:
    from bwdeploy.serving.client import Endpoint, Sampling

_COUNT_DEADLINE_S: Final = 5.0
_TEXT: Final = b'"text_output":'
_ERROR: Final = re.compile(rb'"error":("(?:[^"\\]|\\.)*")')
_LAST_CHUNK: Final = b"0\r\n\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """What is sent."""

    prompts: tuple[str, ...]
    """Taken in turn."""
    sampling: Sampling
    concurrency: int
    requests: int
    """In all; never more than `concurrency` at a time."""
    idle_s: float = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentiles:
    """Of a list of times, in milliseconds."""

    p50_ms: float
    p90_ms: float
    p99_ms: float

    @classmethod
    def of(cls, seconds: list[float]) -> Percentiles:
        """The percentiles; zeros for an empty list."""
        if not seconds:
            return cls(p50_ms=0.0, p90_ms=0.0, p99_ms=0.0)
        cuts = quantiles(seconds, n=100, method="inclusive") if len(seconds) > 1 else seconds * 99
        return cls(p50_ms=cuts[49] * 1000, p90_ms=cuts[89] * 1000, p99_ms=cuts[98] * 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """What came back."""

    concurrency: int
    requests: int
    failures: tuple[str, ...]
    """Distinct messages."""
    seconds: float
    tokens: int | None
    """None when the model does not count them."""
    responses: int
    first_token: Percentiles
    """From sending a request to its first response."""
    response_gap: Percentiles
    """Between two responses of a stream."""
    inter_token: Percentiles | None
    """Per stream: first to last response, over the tokens of a mean answer less one."""
    client_cpu_s: float

    @property
    def tokens_per_s(self) -> float | None:
        """All tokens over the whole time."""
        return None if self.tokens is None else self.tokens / self.seconds

    @property
    def responses_per_s(self) -> float:
        """All responses over the whole time."""
        return self.responses / self.seconds

    def to_json(self) -> dict[str, Any]:
        """Plain data, with the rates."""
        return {
            **asdict(self),
            "tokens_per_s": self.tokens_per_s,
            "responses_per_s": self.responses_per_s,
        }


@dataclass(slots=True)
class _Stream:
    """What one request saw."""

    sent_s: float
    arrivals_s: list[float] = field(default_factory=list)
    """One for each response; those that one read brought have the same time."""
    failure: str = ""


def run_load(endpoint: Endpoint, plan: LoadPlan) -> LoadReport:
    """Send the whole load and wait for all answers.

    Raises:
        ToolError: the model's metrics cannot be read.
    """
    tally = metrics.Tally(endpoint)
    cpu_before_s, started_s = time.process_time(), time.perf_counter()
    streams = asyncio.run(_run(endpoint, plan))
    seconds, cpu_s = time.perf_counter() - started_s, time.process_time() - cpu_before_s
    tokens = tally.tokens(requests=len(streams), timeout_s=_COUNT_DEADLINE_S)
    return _report(plan, streams, seconds=seconds, tokens=tokens, client_cpu_s=cpu_s)


async def _run(endpoint: Endpoint, plan: LoadPlan) -> list[_Stream]:
    host, _, port = endpoint.http.partition(":")
    requests = [_request(endpoint, prompt, plan.sampling) for prompt in plan.prompts]
    waiting = iter([requests[number % len(requests)] for number in range(plan.requests)])
    streams: list[_Stream] = []

    async def client() -> None:
        for request in waiting:  # shared: each client takes the next one
            stream = await _stream(host, int(port), request, idle_s=plan.idle_s)
            streams.append(stream)

    async with asyncio.TaskGroup() as group:
        for _ in range(plan.concurrency):
            group.create_task(client())
    return streams


def _request(endpoint: Endpoint, prompt: str, sampling: Sampling) -> bytes:
    fields = request_fields(endpoint.vocabulary, prompt, sampling, streaming=True, reason=False)
    body = json.dumps({field.tensor.name: field.value for field in fields}).encode()
    head = (
        f"POST /v2/models/{endpoint.model}/generate_stream HTTP/1.1\r\nHost: {endpoint.http}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


async def _stream(host: str, port: int, request: bytes, *, idle_s: float) -> _Stream:
    loop = asyncio.get_running_loop()
    stream = _Stream(sent_s=time.perf_counter())
    done: asyncio.Future[None] = loop.create_future()
    try:
        transport, reader = await loop.create_connection(lambda: _Reader(stream, request, done), host, port)
    except OSError as error:
        stream.failure = f"connection failed: {error}"
        return stream
    try:
        while not done.done():
            seen = len(stream.arrivals_s)
            await asyncio.wait([done], timeout=idle_s)
            if not done.done() and len(stream.arrivals_s) == seen:
                stream.failure = f"nothing came for {idle_s:g} s"
                break
    finally:
        transport.close()
    if not stream.failure and not reader.whole:
        stream.failure = "the stream broke off"
    return stream


class _Reader(asyncio.Protocol):
    """Counts responses in the bytes of one connection."""

    def __init__(self, stream: _Stream, request: bytes, done: asyncio.Future[None]) -> None:
        self._stream = stream
        self._request = request
        self._done = done
        self._rest = b""
        self.whole = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._stream.sent_s = time.perf_counter()
        if isinstance(transport, asyncio.WriteTransport):
            transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        lines, newline, self._rest = (self._rest + data).rpartition(b"\n")
        self._take(lines)
        self.whole = (lines + newline).endswith(_LAST_CHUNK) and not self._rest

    def connection_lost(self, exc: Exception | None) -> None:
        del exc  # a stream that broke off is not whole; that says enough
        self._take(self._rest)
        if not self._done.done():
            self._done.set_result(None)

    def _take(self, lines: bytes) -> None:
        count = lines.count(_TEXT)
        self._stream.arrivals_s.extend([time.perf_counter()] * count)
        if not count and (error := _ERROR.search(lines)):
            self._stream.failure = str(json.loads(error[1]))


def _report(
    plan: LoadPlan, streams: list[_Stream], *, seconds: float, tokens: int | None, client_cpu_s: float
) -> LoadReport:
    answered = [stream for stream in streams if stream.arrivals_s]
    if not answered:
        reasons = sorted({stream.failure for stream in streams})
        raise GenerationError(f"No request was answered: {'; '.join(reasons[:3])}", status="load test")
    return LoadReport(
        concurrency=plan.concurrency,
        requests=len(streams),
        failures=tuple(sorted({stream.failure for stream in streams if stream.failure})),
        seconds=seconds,
        tokens=tokens,
        responses=sum(len(stream.arrivals_s) for stream in answered),
        first_token=Percentiles.of([stream.arrivals_s[0] - stream.sent_s for stream in answered]),
        response_gap=Percentiles.of([gap for stream in answered for gap in _gaps(stream)]),
        inter_token=None if tokens is None else _inter_token(answered, mean_tokens=tokens / len(answered)),
        client_cpu_s=client_cpu_s,
    )


def _inter_token(answered: list[_Stream], *, mean_tokens: float) -> Percentiles:
    spans = [stream.arrivals_s[-1] - stream.arrivals_s[0] for stream in answered]
    return Percentiles.of([span / max(1.0, mean_tokens - 1) for span in spans])


def _gaps(stream: _Stream) -> list[float]:
    return [later - earlier for earlier, later in pairwise(stream.arrivals_s)]
