"""Ask the model over a gRPC stream, with the messages and the stub of NVIDIA's tritonclient.

Importing this costs half a second (grpc and what tritonclient brings); only the smoke test needs it.
"""

from __future__ import annotations

import queue
import struct
import threading
import time
from typing import TYPE_CHECKING, Any, Final

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from bwdeploy.serving.client import DEFAULT_IDLE_S, FieldValue, GenerationError, Piece
from bwdeploy.serving.vocabulary import request_fields

if TYPE_CHECKING:
    from collections.abc import Generator

    from bwdeploy.serving.client import Endpoint, Sampling
    from bwdeploy.serving.vocabulary import Field

_PACKED: Final = {"BOOL": "<?", "INT32": "<i", "UINT64": "<Q", "FP32": "<f"}
_END: Final = object()


def stream(
    endpoint: Endpoint,
    prompt: str,
    sampling: Sampling,
    *,
    streaming: bool = True,
    idle_s: float = DEFAULT_IDLE_S,
) -> Generator[Piece]:
    """The answer over ModelStreamInfer, in one response without `streaming`; closing the iterator cancels.

    Raises:
        GenerationError: refused, failed, or nothing came for `idle_s`.
    """
    fields = request_fields(endpoint.vocabulary, prompt, sampling, streaming=streaming)
    received: queue.SimpleQueue[Any] = queue.SimpleQueue()
    with grpc.insecure_channel(endpoint.grpc) as channel:
        started = time.perf_counter()
        request = _request(endpoint, fields)
        call = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer(iter([request]))
        # gRPC has a deadline for the whole call, none for the next message: hence the thread.
        reader = threading.Thread(target=_read, args=(call, received), daemon=True)
        reader.start()
        try:
            yield from _pieces(received, idle_s=idle_s, started=started)
        finally:
            call.cancel()
            reader.join()


def _read(call: Any, received: queue.SimpleQueue[Any]) -> None:  # noqa: ANN401 - grpc has no types
    try:
        for message in call:
            received.put(message)
        received.put(_END)
    except grpc.RpcError as error:
        received.put(error)


def _pieces(received: queue.SimpleQueue[Any], *, idle_s: float, started: float) -> Generator[Piece]:
    while True:
        try:
            message = received.get(timeout=idle_s)
        except queue.Empty as timeout:
            raise GenerationError(
                f"Nothing came over gRPC for {idle_s:g} s.",
                status="no answer in time",
                hint="Read the server's log.",
            ) from timeout
        if message is _END:
            return
        if isinstance(message, grpc.RpcError):
            raise GenerationError(str(message.details()), status=f"gRPC {message.code().name}")
        if message.error_message:
            raise GenerationError(message.error_message, status="gRPC error in the stream")
        texts = _texts(message.infer_response)
        if "text_output" in texts:
            at_s = time.perf_counter() - started
            yield Piece(
                text=texts["text_output"], finish_reason=texts.get("finish_reason") or None, at_s=at_s
            )


def _request(endpoint: Endpoint, fields: tuple[Field, ...]) -> Any:  # noqa: ANN401 - generated message
    request = service_pb2.ModelInferRequest(model_name=endpoint.model)
    batch = [1] if endpoint.vocabulary.batched else []
    for (name, data_type), value in fields:
        values = value if isinstance(value, list) else [value]
        request.inputs.add(name=name, datatype=data_type, shape=[*batch, len(values)])
        request.raw_input_contents.append(b"".join(_raw(data_type, item) for item in values))
    return request


def _raw(data_type: str, value: FieldValue) -> bytes:
    """One element in the protocol's binary form: little endian, strings behind their length."""
    if isinstance(value, str):
        text = value.encode()
        return struct.pack("<I", len(text)) + text
    return struct.pack(_PACKED[data_type], value)


def _texts(response: Any) -> dict[str, str]:  # noqa: ANN401 - generated message
    """The first element of each string output."""
    pairs = zip(response.outputs, response.raw_output_contents, strict=True)
    return {
        output.name: raw[4 : 4 + struct.unpack_from("<I", raw)[0]].decode(errors="replace")
        for output, raw in pairs
        if output.datatype == "BYTES" and raw
    }
