"""Asking the other models of the repository, through Triton's business logic scripting.

Iterators of responses are kept for a while after their end. Triton's stub drops its own hold on them in a
thread without Python's lock; were that the last one, arrays would be freed beside running Python, and the
process dies of a broken heap sooner or later (python_backend src/pb_stub.cc, SendCleanupId, as of 26.07).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np

from bwdeploy_engine_models.errors import StepError
from bwdeploy_engine_models.postprocessing.detokenize import KEEP_UNFINISHED
from bwdeploy_engine_models.tensorrt_llm_bls.names import POSTPROCESSING, PREPROCESSING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bwdeploy_engine_models.triton_types import Array, PbUtils, TritonTensor

Tensors = dict[str, Any]
"""Name → pb_utils.Tensor"""

_KEEP_S = 2.0
"""Triton's thread needs less than a millisecond, unless the machine is overrun."""


class EndedIterators:
    """Holds what is given to it for some seconds; used by many threads."""

    def __init__(self, *, keep_s: float = _KEEP_S) -> None:
        self._keep_s = keep_s
        self._kept: deque[tuple[float, object]] = deque()
        self._lock = threading.Lock()

    def keep(self, iterator: object) -> None:
        """Hold it, and let go of what was held long enough."""
        now = time.monotonic()
        with self._lock:
            self._kept.append((now, iterator))
            while self._kept[0][0] < now - self._keep_s:
                self._kept.popleft()

    def __len__(self) -> int:
        return len(self._kept)


class Steps:
    """One instance serves all requests."""

    def __init__(self, pb_utils: PbUtils, *, engine: str) -> None:
        self._pb_utils = pb_utils
        self._engine = engine
        self._ended = EndedIterators()

    def prepare(self, tensors: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
        """What `preprocessing` makes of a request.

        Raises:
            StepError: it refuses the request.
        """
        response = self._ask_once(PREPROCESSING, tensors, outputs)
        return {name: tensor.as_numpy() for name, tensor in response.items()}

    def generate(
        self, tensors: Tensors, outputs: Sequence[str], *, request_id: str = "", model: str = ""
    ) -> Iterator[Tensors]:
        """The engine's responses, or those of another `model`, as they come.

        Raises:
            StepError: the model fails or refuses the request.
        """
        return self._ask(model or self._engine, tensors, outputs, request_id=request_id)

    def texts(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """Rows of tokens decoded by `postprocessing`; an unfinished character at the end shows as U+FFFD.

        Raises:
            StepError: it fails.
        """
        tokens: Array = np.zeros((1, len(rows), max(1, *map(len, rows))), dtype=np.int32)
        for place, row in zip(tokens[0], rows, strict=True):
            place[: len(row)] = row
        lengths = np.array([[len(row) for row in rows]], dtype=np.int32)
        return self._decoded(tokens, lengths, {KEEP_UNFINISHED: True})

    def whole_texts(self, tokens: Array, lengths: Array) -> list[str]:
        """Finished answers [batch, beams, n] decoded by `postprocessing`.

        Raises:
            StepError: it fails.
        """
        return self._decoded(tokens, lengths, {})

    def stop(self, request_id: str) -> None:
        """Tell the engine to end a request; one that ended already is no error.

        Raises:
            StepError: the engine does not take it.
        """
        one: Array = np.ones((1, 1), dtype=np.int32)
        tensors = self.tensors({"input_ids": one, "input_lengths": one, "request_output_len": one})
        tensors |= self.tensors({"stop": np.array([[True]])})
        for _ in self._ask(self._engine, tensors, ("output_ids", "sequence_length"), request_id=request_id):
            pass

    def tensors(self, arrays: Mapping[str, Array]) -> Tensors:
        """Arrays as tensors of these names."""
        return {name: self._pb_utils.Tensor(name, array) for name, array in arrays.items()}

    def renamed(self, tensor: TritonTensor, name: str, *, batch: int) -> TritonTensor:
        """The tensor under another name; a number for each request gets its second dimension back."""
        try:
            array = tensor.as_numpy()
        except self._pb_utils.TritonModelException:  # numpy has no bfloat16
            return self._pb_utils.Tensor.from_dlpack(name, tensor.to_dlpack())
        return self._pb_utils.Tensor(name, array.reshape(batch, 1) if array.ndim == 1 else array)

    def _decoded(self, tokens: Array, lengths: Array, parameters: dict[str, bool]) -> list[str]:
        tensors = self.tensors({"TOKENS_BATCH": tokens, "SEQUENCE_LENGTH": lengths})
        response = self._ask_once(POSTPROCESSING, tensors, ("OUTPUT",), parameters=parameters)
        return [item.decode("utf-8") for item in response["OUTPUT"].as_numpy().reshape(-1)]

    def _ask_once(
        self,
        model: str,
        tensors: Tensors,
        outputs: Sequence[str],
        *,
        parameters: dict[str, bool] | None = None,
    ) -> Tensors:
        """The response of a model that sends one."""
        try:
            return _checked(self._request(model, tensors, outputs, parameters=parameters or {}).exec())
        except self._pb_utils.TritonModelException as error:
            raise StepError(f"model {model} cannot be asked: {error}") from error

    def _ask(
        self, model: str, tensors: Tensors, outputs: Sequence[str], *, request_id: str
    ) -> Iterator[Tensors]:
        """The responses of a model that may send several, or of one that does not."""
        try:
            responses = self._request(model, tensors, outputs, request_id=request_id).exec(decoupled=True)
            try:
                for response in responses:
                    found = _checked(response)
                    if found:  # a decoupled model may end with an empty response
                        yield found
            finally:
                self._ended.keep(responses)
        except self._pb_utils.TritonModelException as error:
            raise StepError(f"model {model} cannot be asked: {error}") from error

    def _request(self, model: str, tensors: Tensors, outputs: Sequence[str], **more: Any) -> Any:  # noqa: ANN401
        return self._pb_utils.InferenceRequest(
            model_name=model, inputs=list(tensors.values()), requested_output_names=list(outputs), **more
        )


def _checked(response: Any) -> Tensors:  # noqa: ANN401 - pb_utils.InferenceResponse
    if response.has_error():
        raise StepError(response.error().message())
    return {tensor.name(): tensor for tensor in response.output_tensors()}
