"""The Triton model `postprocessing`: the engine's tokens become text.

Lies as `1/model.py` with the package bwdeploy_engine_models and the tokenizer's files beside it. Keeps no
state; Triton may run any number of instances.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import triton_python_backend_utils as pb_utils

from bwdeploy_engine_models.errors import RequestError, SettingError
from bwdeploy_engine_models.parameters import Parameters
from bwdeploy_engine_models.postprocessing.detokenize import KEEP_UNFINISHED, detokenize
from bwdeploy_engine_models.tokenization import load_tokenizer

if TYPE_CHECKING:
    from bwdeploy_engine_models.triton_types import TritonRequest, TritonResponse


class TritonPythonModel:
    """Triton calls initialize once and execute for each batch."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the tokenizer; an error is the reason of the failed load."""
        parameters = Parameters(args)
        try:
            self._tokenizer = load_tokenizer(parameters.folder("tokenizer_dir"))
            self._skip_special = parameters.switch("skip_special_tokens", default=True)
        except SettingError as error:
            raise pb_utils.TritonModelException(f"{args['model_name']}: {error}") from error

    def execute(self, requests: list[TritonRequest]) -> list[TritonResponse]:
        """One response for each request."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: TritonRequest) -> TritonResponse:
        inputs = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
        try:
            texts = detokenize(
                inputs["TOKENS_BATCH"],
                inputs["SEQUENCE_LENGTH"],
                self._tokenizer,
                skip_special=self._skip_special,
                keep_unfinished=bool(json.loads(request.parameters() or "{}").get(KEEP_UNFINISHED)),
            )
        except RequestError as error:
            return _refusal(str(error), pb_utils.TritonError.INVALID_ARG)
        except Exception as error:  # noqa: BLE001 - raised from execute it would fail the whole batch
            pb_utils.Logger.log_error(f"postprocessing: {error!r}")
            return _refusal(f"the tokenizer failed: {error!r}", pb_utils.TritonError.INTERNAL)
        # One dimension whatever the batch, as upstream: clients read the first item.
        array = np.array([text.encode("utf-8") for text in texts], dtype=np.object_)
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT", array)])


def _refusal(message: str, code: int) -> TritonResponse:
    error = pb_utils.TritonError(f"postprocessing: {message}", code)
    return pb_utils.InferenceResponse(output_tensors=[], error=error)
