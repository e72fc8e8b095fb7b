"""The Triton model `postprocessing`: the engine's tokens become text.

Lies as `1/model.py` with the package bwdeploy_engine_models and the tokenizer's files beside it. Keeps no
state; Triton may run any number of instances.
"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import triton_python_backend_utils as pb_utils

from bwdeploy_engine_models.answering import answer
from bwdeploy_engine_models.errors import SettingError
from bwdeploy_engine_models.parameters import Parameters
from bwdeploy_engine_models.postprocessing.detokenize import KEEP_UNFINISHED, detokenize
from bwdeploy_engine_models.tokenization import load_tokenizer

if TYPE_CHECKING:
    from bwdeploy_engine_models.triton_types import Array, TritonRequest, TritonResponse


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
        return [answer(pb_utils, "postprocessing", partial(self._outputs, request)) for request in requests]

    def _outputs(self, request: TritonRequest) -> dict[str, Array]:
        inputs = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
        texts = detokenize(
            inputs["TOKENS_BATCH"],
            inputs["SEQUENCE_LENGTH"],
            self._tokenizer,
            skip_special=self._skip_special,
            keep_unfinished=bool(json.loads(request.parameters() or "{}").get(KEEP_UNFINISHED)),
        )
        # One dimension whatever the batch, as upstream: clients read the first item.
        return {"OUTPUT": np.array([text.encode("utf-8") for text in texts], dtype=np.object_)}
