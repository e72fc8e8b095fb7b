"""A stand-in for the ensemble in front of an engine: its tensors, batching and manners, without an engine.

A token is a character of the prompt, from its start. As upstream, a whole answer repeats the prompt unless
`exclude_input_in_output` is set, and a stream brings one new token in each response.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


def first(request: Any, name: str, default: Any) -> Any:
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    if tensor is None:
        return default
    values = tensor.as_numpy()
    assert values.shape[0] == 1, values.shape  # the batch
    return values[0][0]


def send(sender: Any, text: str) -> None:
    tensor = pb_utils.Tensor("text_output", np.array([[text.encode()]], dtype=object))
    sender.send(pb_utils.InferenceResponse([tensor]))


class TritonPythonModel:
    def execute(self, requests: list[Any]) -> None:
        for request in requests:
            self.answer(request, request.get_response_sender())

    def answer(self, request: Any, sender: Any) -> None:
        prompt = first(request, "text_input", b"").decode()
        tokens = prompt[: first(request, "max_tokens", 0)]
        if first(request, "stream", False):
            for token in tokens:
                send(sender, token)
        else:
            excluded = first(request, "exclude_input_in_output", False)
            send(sender, tokens if excluded else prompt + tokens)
        sender.send(flags=FINAL)
