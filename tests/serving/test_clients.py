from __future__ import annotations

import socket
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from bwdeploy.serving import grpc_client, http_client, metrics
from bwdeploy.serving.client import Endpoint, GenerationError, Sampling, collect, first_piece
from tests.serving.conftest import TEXT, endpoint_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.tools.triton_server import RunningServer

ROUTES = [grpc_client.stream, http_client.generate_stream, http_client.generate]
STREAMS = ROUTES[:2]


@pytest.fixture
def silent() -> Iterator[Endpoint]:
    """A server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        yield Endpoint(http=address, grpc=address, metrics=address, model="echo")


@pytest.mark.parametrize("route", ROUTES)
def test_every_route_gives_the_same_answer_and_the_reason_of_its_end(echo: Endpoint, route: Any) -> None:
    answer = collect(route(echo, TEXT, Sampling(max_tokens=60)))
    assert answer.text == TEXT.encode()[:60].decode()
    assert answer.finish_reason == "length"
    assert 0 < answer.first_piece_s <= answer.seconds


@pytest.mark.parametrize("route", STREAMS)
def test_streams_come_in_pieces_that_never_split_a_character(echo: Endpoint, route: Any) -> None:
    answer = collect(route(echo, "ä" * 40, Sampling(max_tokens=60)))
    assert len(answer.pieces) > 2
    assert answer.text == "ä" * 30


@pytest.mark.parametrize("route", STREAMS)
def test_cumulative_streams_repeat_the_text(shared_server: RunningServer, route: Any) -> None:
    answer = collect(
        route(endpoint_of(shared_server, "cumulative"), TEXT, Sampling(max_tokens=40)), cumulative=True
    )
    assert answer.text == TEXT.encode()[:40].decode()
    assert all(
        later.text.startswith(earlier.text)
        for earlier, later in zip(answer.pieces, answer.pieces[1:], strict=False)
    )


@pytest.mark.parametrize("route", STREAMS)
def test_leaving_a_stream_cancels_the_request(echo: Endpoint, route: Any) -> None:
    before = metrics.read_counts(echo)
    with closing(route(echo, TEXT, Sampling(max_tokens=800))) as pieces:
        first_piece(pieces)
    after = metrics.wait_for_finished(echo, before, timeout_s=3)  # whole it would take 4 s
    assert after.cancelled == before.cancelled + 1


@pytest.mark.parametrize("route", ROUTES)
def test_an_error_of_the_model_carries_its_text(echo: Endpoint, route: Any) -> None:
    with pytest.raises(GenerationError, match="max_tokens is 0, outside 1 to 4096"):
        collect(route(echo, TEXT, Sampling(max_tokens=0)))


@pytest.mark.parametrize("route", ROUTES)
def test_an_unknown_model_is_an_error(echo: Endpoint, route: Any) -> None:
    other = Endpoint(http=echo.http, grpc=echo.grpc, metrics=echo.metrics, model="nobody")
    with pytest.raises(GenerationError, match="nobody"):
        collect(route(other, TEXT, Sampling()))


@pytest.mark.parametrize("route", ROUTES)
def test_silence_ends_at_the_idle_deadline(silent: Endpoint, route: Any) -> None:
    with pytest.raises(GenerationError) as caught:
        collect(route(silent, TEXT, Sampling(), idle_s=0.3))
    assert caught.value.status == "no answer in time"


@pytest.mark.parametrize("route", ROUTES)
def test_nobody_listening_is_an_error(route: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(GenerationError):
        collect(route(Endpoint(http=address, grpc=address, metrics=address, model="echo"), TEXT, Sampling()))


@pytest.mark.parametrize(
    ("page", "wanted"),
    [
        (b'HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n{"error":"no way"}', "no way"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhm", "no JSON object"),
        (b'HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n{"a":1}', "no text_output"),
        (b"nonsense\r\n\r\n", "failed"),
        (b"", "failed"),
    ],
)
def test_what_is_no_answer_is_an_error_whatever_the_status(page: bytes, wanted: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            connection.recv(65536)
            connection.sendall(page)
            connection.close()

        server = threading.Thread(target=answer)
        server.start()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        endpoint = Endpoint(http=address, grpc=address, metrics=address, model="echo")
        with pytest.raises(GenerationError, match=wanted):
            collect(http_client.generate(endpoint, TEXT, Sampling(), idle_s=5))
        server.join()


@pytest.mark.parametrize("route", ROUTES)
def test_several_stop_strings_and_a_seed_travel_on_every_route(echo: Endpoint, route: Any) -> None:
    sampling = Sampling(max_tokens=60, stop=("fox", "brown"), seed=2**63, temperature=0.5, top_k=3, top_p=0.9)
    answer = collect(route(echo, TEXT, sampling))
    assert (answer.text, answer.finish_reason) == ("The quick ", "stop")
