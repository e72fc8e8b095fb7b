"""A stand-in for the C++ backend `tensorrtllm`: its tensors and manners, with an echo in place of an engine.

As the backend does, it refuses batches and streams unless it is decoupled, answers each prompt of a batch in
responses of its own, sends new tokens only while streaming, repeats the prompt in whole answers unless told
not to, and ends a request that a second one with the same id and `stop` names. What it was asked is written
to the file that behaviour.json names.
"""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        version = Path(args["model_repository"], args["model_version"])
        config = json.loads(args["model_config"])
        self.name = args["model_name"]
        self.behaviour = json.loads((version / "behaviour.json").read_text())
        self.decoupled = pb_utils.using_decoupled_model_transaction_policy(config)
        excluded = config["parameters"]["exclude_input_in_output"]["string_value"]
        self.exclude_prompt = excluded == "true"
        self.running: set[str] = set()
        self.lock = threading.Lock()

    def execute(self, requests: list[Any]) -> list[Any] | None:
        if not self.decoupled:
            return [self.whole(request) for request in requests]
        for request in requests:
            threading.Thread(target=self.serve, args=(request, request.get_response_sender())).start()
        return None

    def whole(self, request: Any) -> Any:
        inputs = self.read(request)
        if inputs.get("stop") is not None and inputs["stop"].any():
            with self.lock:
                self.running.discard(request.request_id())
            return pb_utils.InferenceResponse([])
        rows = len(inputs["input_ids"])
        if rows > 1:
            return refusal("Batch size > 1 requires the tensorrt_llm backend to be decoupled")
        if self.flag(inputs, "streaming", False):
            return refusal("Streaming is only supported in decoupled mode")
        prompt, answer = self.answer(inputs, 0)
        return self.response(request, inputs, answer if self.excludes(inputs) else prompt + answer, 0)

    def serve(self, request: Any, sender: Any) -> None:
        inputs = self.read(request)
        identity = request.request_id()
        if inputs.get("stop") is not None and inputs["stop"].any():
            with self.lock:
                self.running.discard(identity)
            sender.send(flags=FINAL)
            return
        with self.lock:
            self.running.add(identity)
        try:
            for row in range(len(inputs["input_ids"])):
                self.serve_row(request, inputs, row, sender)
        except Exception as error:  # noqa: BLE001 - a test shall see it, not wait
            sender.send(refusal(repr(error)))
        sender.send(flags=FINAL)

    def serve_row(self, request: Any, inputs: dict[str, Any], row: int, sender: Any) -> None:
        prompt, answer = self.answer(inputs, row)
        if not self.flag(inputs, "streaming", False):
            tokens = answer if self.excludes(inputs) else prompt + answer
            sender.send(self.response(request, inputs, tokens, row))
            return
        for sent, token in enumerate(answer):
            with self.lock:
                stopped = request.request_id() not in self.running
            if stopped:
                self.note({"stopped_after": sent})
                return
            time.sleep(self.behaviour.get("token_delay_s", 0))
            sender.send(self.response(request, inputs, [token], row))
        self.note({"finished": len(answer)})

    def answer(self, inputs: dict[str, Any], row: int) -> tuple[list[int], list[int]]:
        length = int(inputs["input_lengths"].reshape(-1)[row])
        prompt = inputs["input_ids"][row][:length].tolist()
        limit = int(inputs["request_output_len"].reshape(-1)[row])
        if self.behaviour["mode"] == "echo":
            answer = prompt[:limit]
        else:
            answer = chain(prompt, limit, wrong_every=self.behaviour.get("wrong_every", 0))
        end = int(inputs["end_id"].reshape(-1)[row])
        return prompt, answer[: answer.index(end)] if end in answer else answer

    def response(self, request: Any, inputs: dict[str, Any], tokens: list[int], row: int) -> Any:
        wanted = request.requested_output_names()
        arrays = {
            "output_ids": np.array([[tokens]], dtype=np.int32),
            "sequence_length": np.array([[len(tokens)]], dtype=np.int32),
            "batch_index": np.array([[row]], dtype=np.int32),
            "sequence_index": np.array([[0]], dtype=np.int32),
        }
        if self.flag(inputs, "return_log_probs", False):
            arrays["cum_log_probs"] = np.array([[-0.5]], dtype=np.float32)
            arrays["output_log_probs"] = np.full((1, 1, len(tokens)), -0.25, dtype=np.float32)
        if self.flag(inputs, "return_generation_logits", False):
            arrays["generation_logits"] = np.zeros((1, 1, len(tokens), 4), dtype=np.float32)
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor(name, array) for name, array in arrays.items() if name in wanted]
        )

    def read(self, request: Any) -> dict[str, Any]:
        inputs = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
        self.note({name: array.tolist() for name, array in inputs.items() if array.dtype != object})
        return inputs

    def note(self, what: dict[str, Any]) -> None:
        with self.lock, Path(self.behaviour["notes"]).open("a") as file:
            file.write(json.dumps({"model": self.name, **what}) + "\n")

    def excludes(self, inputs: dict[str, Any]) -> bool:
        return self.flag(inputs, "exclude_input_in_output", self.exclude_prompt)

    def flag(self, inputs: dict[str, Any], name: str, default: bool) -> bool:  # noqa: FBT001
        return bool(inputs[name].any()) if name in inputs else default


def chain(prompt: list[int], limit: int, *, wrong_every: int = 0) -> list[int]:
    """Each token follows from the one before it; with `wrong_every` some do not."""
    tokens = list(prompt)
    for place in range(limit):
        following = 33 + ((tokens[-1] - 33) * 7 + 3) % 61
        tokens.append(following + 1 if wrong_every and place % wrong_every == wrong_every - 1 else following)
    return tokens[len(prompt) :]


def refusal(message: str) -> Any:
    return pb_utils.InferenceResponse([], error=pb_utils.TritonError(message))
