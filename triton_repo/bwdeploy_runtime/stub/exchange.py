"""One Triton request from its arrival to its last response: the sink that the link writes to."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from bwdeploy_runtime.stub.outputs import build_response, error_response

if TYPE_CHECKING:
    from collections.abc import Callable

    from bwdeploy_runtime.protocol import Delta
    from bwdeploy_runtime.stub.inputs import ClientRequest
    from bwdeploy_runtime.stub.triton_types import PbUtils, ResponseSender, TritonResponse


class Exchange:
    """Called from the supervisor thread (results) and the housekeeping thread (`client_left`)."""

    def __init__(
        self,
        pb_utils: PbUtils,
        sender: ResponseSender,
        request: ClientRequest,
        *,
        cumulative_text: bool,
        on_end: Callable[[str, int, dict[str, float]], None],
    ) -> None:
        """`on_end` gets the reason of the end, the tokens sent and the times, before the last response."""
        self._pb_utils = pb_utils
        self._sender = sender
        self._request = request
        self._cumulative = cumulative_text and request.streaming
        self._on_end = on_end
        self._text = request.prompt if request.repeat_prompt else ""
        self._tokens = 0
        self._lock = threading.Lock()
        self._ended = False

    def on_delta(self, delta: Delta) -> None:
        """Send new text; the last response carries Triton's final flag."""
        text = self._text + delta.text
        self._text = text if self._cumulative else ""
        self._tokens += delta.tokens
        response = build_response(self._pb_utils, delta, text=text, request=self._request)
        if delta.finish is None:
            self._sender.send(response)
            return
        self._end(delta.finish, delta.metrics, response)

    def on_error(self, code: str, message: str) -> None:
        """Send an error as the last response."""
        self._end(code, {}, error_response(self._pb_utils, code, message))

    def client_left(self) -> bool:
        """Whether the client has cancelled or disconnected. Asks the server: about 0.1 ms."""
        with self._lock:
            # The server frees its side with the last response and must not be asked after that.
            return not self._ended and bool(self._sender.is_cancelled())

    def _end(self, reason: str, times: dict[str, float], response: TritonResponse) -> None:
        try:
            self._on_end(reason, self._tokens, times)
        finally:  # whatever happens to the books, the client must not wait for ever
            with self._lock:
                self._ended = True
                self._sender.send(response, flags=self._pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
