"""What the tests ask a real Triton server with: plain HTTP, and gRPC streams through tritonclient."""

from __future__ import annotations

import http.client
import json
import queue
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from tritonclient import grpc as triton_grpc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bwdeploy.tools.triton_server import RunningServer

WAIT_S = 20.0
_TYPES = {str: "BYTES", bool: "BOOL", int: "INT32", float: "FP32"}
_NUMPY = {"BYTES": np.object_, "BOOL": np.bool_, "INT32": np.int32, "FP32": np.float32}


@dataclass(frozen=True)
class Triton:
    """One running server."""

    server: RunningServer

    def post(self, route: str, model: str, **fields: Any) -> tuple[int, Any]:
        """Status and JSON body of one answer."""
        connection = http.client.HTTPConnection(self.server.http_url, timeout=WAIT_S)
        connection.request("POST", f"/v2/models/{model}/{route}", json.dumps(fields))
        response = connection.getresponse()
        return response.status, json.loads(response.read())

    def generate(self, model: str, text: str | None = None, **fields: Any) -> tuple[int, Any]:
        given = {"sampling_param_max_tokens": 200} | fields
        return self.post("generate", model, **given, **({} if text is None else {"text_input": text}))

    def stream(self, model: str, text: str, **fields: Any) -> Iterator[dict[str, Any]]:
        """Server-sent events; closing the generator closes the connection."""
        given = {"text_input": text, "streaming": True, "sampling_param_max_tokens": 4000} | fields
        connection = http.client.HTTPConnection(self.server.http_url, timeout=WAIT_S)
        try:
            connection.request("POST", f"/v2/models/{model}/generate_stream", json.dumps(given))
            response = connection.getresponse()
            for line in response:
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])
        finally:
            connection.close()

    def metric(self, name: str, model: str, **labels: str) -> float:
        """The value of a metric; 0 while it is not there."""
        connection = http.client.HTTPConnection(self.server.metrics_url, timeout=WAIT_S)
        connection.request("GET", "/metrics")
        wanted = [f'{key}="{value}"' for key, value in {"model": model, **labels}.items()]
        for line in connection.getresponse().read().decode().splitlines():
            if line.startswith(f"{name}{{") and all(label in line for label in wanted):
                return float(line.rpartition(" ")[2])
        return 0.0

    def is_idle(self, model: str) -> bool:
        gauges = ("bwdeploy_in_flight_requests", "bwdeploy_queued_requests")
        return sum(self.metric(name, model) for name in gauges) == 0


class GrpcStream:
    """One bidirectional gRPC stream; a context manager."""

    def __init__(self, server: RunningServer) -> None:
        self._client = triton_grpc.InferenceServerClient(server.grpc_url)
        self._responses: queue.Queue[tuple[Any, Any]] = queue.Queue()

    def __enter__(self) -> Self:
        self._client.start_stream(lambda result, error: self._responses.put((result, error)))
        return self

    def __exit__(self, *_exception: object) -> None:
        self._client.stop_stream(cancel_requests=True)
        self._client.close()

    def send(
        self, model: str, *, request_id: str = "", parameters: dict[str, Any] | None = None, **values: Any
    ) -> None:
        """Values become tensors of the type that Python gives them; a numpy array stays as it is."""
        self._client.async_stream_infer(
            model,
            [_tensor(name, value) for name, value in values.items()],
            request_id=request_id,
            parameters=parameters,
            enable_empty_final_response=True,
        )

    def next(self) -> Any:
        """The next response.

        Raises:
            InferenceServerException: it is an error.
        """
        result, error = self._responses.get(timeout=WAIT_S)
        if error is not None:
            raise error
        return result

    def answer(self) -> list[Any]:
        """Responses up to the one with the final flag."""
        responses = []
        while True:
            responses.append(self.next())
            if responses[-1].get_response().parameters["triton_final_response"].bool_param:
                return responses


def text_of(response: Any) -> str:
    """The text of one gRPC response."""
    return str(response.as_numpy("text_output")[0].decode())


def _tensor(name: str, value: Any) -> Any:
    array = value if isinstance(value, np.ndarray) else np.array([value], dtype=_NUMPY[_TYPES[type(value)]])
    kind = next(kind for kind, dtype in _NUMPY.items() if array.dtype == dtype)
    tensor = triton_grpc.InferInput(name, list(array.shape), kind)
    tensor.set_data_from_numpy(array)
    return tensor


def wait_until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline_s, "did not happen in time"
        time.sleep(0.02)
