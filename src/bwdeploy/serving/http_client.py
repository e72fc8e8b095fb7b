"""Ask the model over Triton's HTTP routes `generate` and `generate_stream`, with the standard library only.

Triton answers 200 with an `error` field in some cases, so the body decides, not the status. Leaving the
stream early closes the connection, which the server hands to the model as a cancellation.
"""

from __future__ import annotations

import http.client
import json
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from bwdeploy.serving.client import DEFAULT_IDLE_S, FieldValue, GenerationError, Piece
from bwdeploy.serving.vocabulary import request_fields

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    from bwdeploy.serving.client import Endpoint, Sampling

_EVENT: Final = b"data:"


def generate(
    endpoint: Endpoint,
    prompt: str,
    sampling: Sampling,
    *,
    idle_s: float = DEFAULT_IDLE_S,
    extra: Mapping[str, FieldValue] | None = None,
) -> Generator[Piece]:
    """One response with the whole answer; `extra` are further JSON fields.

    Raises:
        GenerationError: refused, failed, or nothing came for `idle_s`.
    """
    body = {**_body(endpoint, prompt, sampling, streaming=False), **(extra or {})}
    started = time.perf_counter()
    with _posted(endpoint, "generate", body, idle_s=idle_s) as response:
        yield _piece(response.read(), status=f"HTTP {response.status}", started=started)


def generate_stream(
    endpoint: Endpoint,
    prompt: str,
    sampling: Sampling,
    *,
    streaming: bool = True,
    idle_s: float = DEFAULT_IDLE_S,
) -> Generator[Piece]:
    """The answer as server-sent events; in one event without `streaming`.

    Raises:
        GenerationError: refused, failed, or nothing came for `idle_s`.
    """
    body = _body(endpoint, prompt, sampling, streaming=streaming)
    started = time.perf_counter()
    with _posted(endpoint, "generate_stream", body, idle_s=idle_s) as response:
        status = f"HTTP {response.status}"
        if response.status != http.client.OK:
            _piece(response.read(), status=status, started=started)
        while line := response.readline():
            if line.startswith(_EVENT):
                yield _piece(line[len(_EVENT) :], status=status, started=started)


def _body(endpoint: Endpoint, prompt: str, sampling: Sampling, *, streaming: bool) -> dict[str, FieldValue]:
    fields = request_fields(endpoint.vocabulary, prompt, sampling, streaming=streaming)
    return {field.tensor.name: field.value for field in fields}


@contextmanager
def _posted(
    endpoint: Endpoint, route: str, body: Mapping[str, Any], *, idle_s: float
) -> Iterator[http.client.HTTPResponse]:
    """Send the request; the connection is closed at the end, whatever was read."""
    connection = http.client.HTTPConnection(endpoint.http, timeout=idle_s)
    headers = {"Content-Type": "application/json"}
    try:
        connection.request(
            "POST", f"/v2/models/{quote(endpoint.model)}/{route}", json.dumps(body).encode(), headers
        )
        yield connection.getresponse()
    except TimeoutError as error:
        raise GenerationError(
            f"Nothing came from {route} for {idle_s:g} s.",
            status="no answer in time",
            hint="Read the server's log.",
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise GenerationError(
            f"The connection to {endpoint.http} failed: {error}.", status="connection failed"
        ) from error
    finally:
        connection.close()


def _piece(raw: bytes, *, status: str, started: float) -> Piece:
    try:
        answer = json.loads(raw)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        shown = raw[:200].decode(errors="replace")
        raise GenerationError(f"The server answered {status} and no JSON object: {shown!r}.", status=status)
    if "error" in answer:
        raise GenerationError(str(answer["error"]), status=status)
    if "text_output" not in answer:
        raise GenerationError(f"The response has no text_output; it has {sorted(answer)}.", status=status)
    return Piece(
        text=str(answer["text_output"]),
        finish_reason=str(answer["finish_reason"]) if answer.get("finish_reason") else None,
        at_s=time.perf_counter() - started,
    )
