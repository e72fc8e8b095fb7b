"""The Triton model `tensorrt_llm_bls`: text to text, by asking preprocessing, the engine and postprocessing.

Lies as `1/model.py` with the package bwdeploy_engine_models beside it. Unlike the ensemble it streams whole
characters only, ends at stop words whatever their tokens are, hands a cancellation on to the engine and can
draft with a second engine. Each request has a thread of its own, so that a long stream blocks nobody.
"""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

import triton_python_backend_utils as pb_utils

from bwdeploy_engine_models.errors import RequestError, SettingError, StepError
from bwdeploy_engine_models.parameters import Parameters
from bwdeploy_engine_models.tensorrt_llm_bls.answering import Answering, Settings
from bwdeploy_engine_models.tensorrt_llm_bls.names import TEXT
from bwdeploy_engine_models.tensorrt_llm_bls.request import read_request
from bwdeploy_engine_models.tensorrt_llm_bls.steps import Steps
from bwdeploy_engine_models.tensorrt_llm_bls.watch import CancellationWatch

if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any

    from bwdeploy_engine_models.triton_types import TritonRequest, TritonResponse

_LEAST_THREADS = 4


class TritonPythonModel:
    """Triton calls initialize once, execute with requests, and finalize."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the parameters; the models that it asks may load later."""
        parameters = Parameters(args)
        self._decoupled = pb_utils.using_decoupled_model_transaction_policy(parameters.config)
        try:
            self._settings = Settings(
                outputs=tuple(one["name"] for one in parameters.config["output"] if one["name"] != TEXT),
                accumulate=parameters.switch("accumulate_tokens", default=False),
                excludes_prompt=parameters.switch("exclude_input_in_output", default=False),
                draft_model=parameters.text("tensorrt_llm_draft_model_name"),
            )
        except SettingError as error:
            raise pb_utils.TritonModelException(f"{args['model_name']}: {error}") from error
        self._steps = Steps(pb_utils, engine=parameters.text("tensorrt_llm_model_name") or "tensorrt_llm")
        self._watch = CancellationWatch(self._stop)
        threads = max(_LEAST_THREADS, int(parameters.config["max_batch_size"]))
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="request")

    def execute(self, requests: list[TritonRequest]) -> list[TritonResponse] | None:
        """Answer the requests, side by side."""
        if not self._decoupled:
            return list(self._threads.map(self._answer, requests))
        for request in requests:
            self._threads.submit(self._send, request, request.get_response_sender())
        return None

    def finalize(self) -> None:
        """Let running requests end."""
        self._threads.shutdown(wait=True)
        self._watch.close()

    def _send(self, request: TritonRequest, sender: Any) -> None:  # noqa: ANN401 - Triton's object
        try:
            with closing(self._responses(request)) as responses:
                for response in responses:
                    sender.send(response)
        finally:
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def _answer(self, request: TritonRequest) -> TritonResponse:
        """The one response of a model that is not decoupled."""
        responses = list(self._responses(request))
        return responses[-1] if responses else _refusal("the engine sent no response", "INTERNAL")

    def _responses(self, request: TritonRequest) -> Generator[TritonResponse]:
        request_id = uuid.uuid4().hex
        self._watch.add(request_id, request)
        try:
            wanted = read_request(
                request, decoupled=self._decoupled, can_draft=bool(self._settings.draft_model)
            )
            for tensors in Answering(self._steps, wanted, request_id, self._settings).responses():
                yield pb_utils.InferenceResponse(output_tensors=tensors)
        except RequestError as error:
            yield _refusal(str(error), "INVALID_ARG")
        except StepError as error:
            yield _refusal(str(error), "INTERNAL")
        except Exception as error:  # noqa: BLE001 - without an answer the client would wait for ever
            pb_utils.Logger.log_error(f"tensorrt_llm_bls: {error!r}")
            yield _refusal(f"bug in bwdeploy_engine_models: {error!r}", "INTERNAL")
        finally:
            self._watch.remove(request_id)

    def _stop(self, request_id: str) -> None:
        try:
            self._steps.stop(request_id)
        except StepError as error:
            pb_utils.Logger.log_warn(f"tensorrt_llm_bls: the engine did not stop a request: {error}")


def _refusal(message: str, code: str) -> TritonResponse:
    error = pb_utils.TritonError(message, getattr(pb_utils.TritonError, code))
    return pb_utils.InferenceResponse(output_tensors=[], error=error)
