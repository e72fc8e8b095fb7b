"""The Triton model `preprocessing`: prompts, stop words and bad words become tokens.

Lies as `1/model.py` with the package bwdeploy_engine_models and the tokenizer's files beside it. Keeps no
state; Triton may run any number of instances.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton_python_backend_utils as pb_utils

from bwdeploy_engine_models.errors import RequestError, SettingError
from bwdeploy_engine_models.parameters import Parameters
from bwdeploy_engine_models.preprocessing.prepare import Preparation, prepare
from bwdeploy_engine_models.tokenization import NO_TOKEN, load_tokenizer, special_ids

if TYPE_CHECKING:
    from bwdeploy_engine_models.triton_types import TritonRequest, TritonResponse


class TritonPythonModel:
    """Triton calls initialize once and execute for each batch."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the tokenizer; an error is the reason of the failed load."""
        parameters = Parameters(args)
        try:
            _require_text_only(parameters)
            folder = parameters.folder("tokenizer_dir")
            tokenizer = load_tokenizer(folder)
            self._how = Preparation(
                tokenizer=tokenizer,
                special=special_ids(folder, tokenizer),
                add_special_tokens=parameters.switch("add_special_tokens", default=True),
                vocab_size=parameters.whole("vocab_size") or tokenizer.vocab_size,
                max_seq_len=parameters.whole("max_seq_len"),
            )
        except SettingError as error:
            raise pb_utils.TritonModelException(f"{args['model_name']}: {error}") from error
        if self._how.special.end == NO_TOKEN:
            pb_utils.Logger.log_warn(
                f"{args['model_name']}: no end token is known; requests must give end_id"
            )

    def execute(self, requests: list[TritonRequest]) -> list[TritonResponse]:
        """One response for each request."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: TritonRequest) -> TritonResponse:
        try:
            inputs = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
            outputs = prepare(inputs, self._how)
        except RequestError as error:
            return _refusal(str(error), pb_utils.TritonError.INVALID_ARG)
        except Exception as error:  # noqa: BLE001 - raised from execute it would fail the whole batch
            pb_utils.Logger.log_error(f"preprocessing: {error!r}")
            return _refusal(f"the tokenizer failed: {error!r}", pb_utils.TritonError.INTERNAL)
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, array) for name, array in outputs.items()])


def _refusal(message: str, code: int) -> TritonResponse:
    return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(message, code))


def _require_text_only(parameters: Parameters) -> None:
    if parameters.text("multimodal_model_path"):
        raise SettingError("parameter multimodal_model_path is set, but this model takes text only.")
