"""Asking the other models of the repository, through Triton's business logic scripting."""

from __future__ import annotations

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


class Steps:
    """One instance serves all requests; it keeps nothing."""

    def __init__(self, pb_utils: PbUtils, *, engine: str) -> None:
        self._pb_utils = pb_utils
        self._engine = engine

    def prepare(self, tensors: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
        """What `preprocessing` makes of a request.

        Raises:
            StepError: it refuses the request.
        """
        (response,) = self._ask(PREPROCESSING, tensors, outputs)
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
        (response,) = self._ask(POSTPROCESSING, tensors, ("OUTPUT",), parameters=parameters)
        return [item.decode("utf-8") for item in response["OUTPUT"].as_numpy().reshape(-1)]

    def _ask(
        self,
        model: str,
        tensors: Tensors,
        outputs: Sequence[str],
        *,
        request_id: str = "",
        parameters: dict[str, bool] | None = None,
    ) -> Iterator[Tensors]:
        request = self._pb_utils.InferenceRequest(
            model_name=model,
            inputs=list(tensors.values()),
            requested_output_names=list(outputs),
            request_id=request_id,
            parameters=parameters or {},
        )
        try:
            for response in request.exec(decoupled=True):
                if response.has_error():
                    raise StepError(response.error().message())
                found = {tensor.name(): tensor for tensor in response.output_tensors()}
                if found:  # a decoupled model may end with an empty response
                    yield found
        except self._pb_utils.TritonModelException as error:
            raise StepError(f"model {model} cannot be asked: {error}") from error
