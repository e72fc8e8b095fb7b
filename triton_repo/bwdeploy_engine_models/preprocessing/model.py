"""The Triton model `preprocessing`: prompts, stop words and bad words become tokens.

Lies as `1/model.py` with the package bwdeploy_engine_models and the tokenizer's files beside it. Keeps no
state; Triton may run any number of instances.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import triton_python_backend_utils as pb_utils

from bwdeploy_engine_models.answering import answer
from bwdeploy_engine_models.errors import SettingError
from bwdeploy_engine_models.parameters import Parameters
from bwdeploy_engine_models.preprocessing.prepare import Preparation, prepare
from bwdeploy_engine_models.tokenization import NO_TOKEN, load_tokenizer, special_ids

if TYPE_CHECKING:
    from bwdeploy_engine_models.triton_types import Array, TritonRequest, TritonResponse


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
        return [answer(pb_utils, "preprocessing", partial(self._outputs, request)) for request in requests]

    def _outputs(self, request: TritonRequest) -> dict[str, Array]:
        inputs = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
        return prepare(inputs, self._how)


def _require_text_only(parameters: Parameters) -> None:
    if parameters.text("multimodal_model_path"):
        raise SettingError("parameter multimodal_model_path is set, but this model takes text only.")
