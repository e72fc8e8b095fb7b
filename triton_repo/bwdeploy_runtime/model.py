"""The Triton model: takes requests, hands them to the engine process, sends responses.

Lies as `1/model.py` in the repository, with the package bwdeploy_runtime and engine.json beside it. It
runs inside Triton's Python stub, whose environment has numpy and nothing else; the engine runs in a
process of its own (see `link`). Works decoupled (streaming) and not.
"""

from __future__ import annotations

import itertools
import json
import logging
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import triton_python_backend_utils as pb_utils

from bwdeploy_runtime.config import EngineConfig
from bwdeploy_runtime.errors import InvalidRequestError, RuntimeFault, UnavailableError
from bwdeploy_runtime.protocol import Generate
from bwdeploy_runtime.stub.exchange import Exchange
from bwdeploy_runtime.stub.inputs import asks_to_stop, read_request
from bwdeploy_runtime.stub.link import EngineLink
from bwdeploy_runtime.stub.live import LiveRequests
from bwdeploy_runtime.stub.metrics import Metrics
from bwdeploy_runtime.stub.outputs import error_response, text_response
from bwdeploy_runtime.stub.triton_log import forward_logging

if TYPE_CHECKING:
    from bwdeploy_runtime.stub.triton_types import ResponseSender, TritonRequest

_LOG = logging.getLogger("bwdeploy_runtime.model")


class TritonPythonModel:
    """Triton calls initialize, execute and finalize, each from its own main thread."""

    def initialize(self, args: dict[str, str]) -> None:
        """Start the engine and wait until it is loaded; an error is the reason of the failed load."""
        forward_logging(pb_utils)
        directory = Path(args["model_repository"], args["model_version"])
        try:
            self._config = EngineConfig.from_json((directory / "engine.json").read_text(encoding="utf-8"))
            self._link = EngineLink(self._config, directory)
            info = self._link.start()
        except (RuntimeFault, OSError) as error:
            raise pb_utils.TritonModelException(str(error)) from error
        self._decoupled = pb_utils.using_decoupled_model_transaction_policy(json.loads(args["model_config"]))
        self._metrics = Metrics(
            pb_utils,
            model=args["model_name"],
            version=args["model_version"],
            device="cpu" if info["device"] == "cpu" else "cuda",
            kernel_ops=self._config.kernel_ops,
        )
        self._live = LiveRequests()
        self._ids = itertools.count(1)
        self._leaving = threading.Event()
        self._housekeeper = threading.Thread(target=self._keep_house, name="housekeeping", daemon=True)
        self._housekeeper.start()

    def execute(self, requests: list[TritonRequest]) -> None:
        """Take requests in; responses follow from other threads."""
        for request in requests:
            arrival_ns = time.monotonic_ns()
            sender = request.get_response_sender()
            try:
                if asks_to_stop(request):
                    self._stop(request.request_id(), sender)
                else:
                    self._begin(request, sender, arrival_ns)
            except InvalidRequestError as error:
                self._refuse(sender, "invalid", str(error))
            except UnavailableError as error:
                self._refuse(sender, "unavailable", str(error))
            except Exception as error:  # noqa: BLE001 - see below
                # Without an answer the client would wait for ever.
                _LOG.exception("a request could not be taken")
                self._refuse(sender, "internal", f"bug in bwdeploy_runtime: {error!r}")

    def finalize(self) -> None:
        """End the engine process."""
        self._leaving.set()
        self._housekeeper.join()
        self._link.close()

    def _begin(self, request: TritonRequest, sender: ResponseSender, arrival_ns: int) -> None:
        wanted = read_request(request, max_tokens_limit=self._config.max_output_tokens)
        if wanted.streaming and not self._decoupled:
            raise InvalidRequestError(
                "streaming is true, but this model was built with serve.streaming: false. Leave it out, "
                "or set serve.streaming: true and build again."
            )
        request_id = str(next(self._ids))
        exchange = Exchange(
            pb_utils,
            sender,
            wanted,
            cumulative_text=self._config.cumulative_text,
            on_end=partial(self._ended, request_id, wanted.client_id),
        )
        command = Generate(
            id=request_id,
            prompt=wanted.prompt,
            sampling=wanted.sampling.to_dict(),
            stream=wanted.streaming,
            arrival_ns=arrival_ns,
        )
        self._live.add(request_id, wanted.client_id, exchange)
        try:
            self._link.submit(command, exchange)
        except UnavailableError:
            self._live.remove(request_id, wanted.client_id)
            raise

    def _stop(self, client_id: str, sender: ResponseSender) -> None:
        running = self._live.of_client(client_id)
        if not client_id or not running:
            what = f"no running request has the id {client_id!r}" if client_id else "stop needs a request id"
            self._refuse(sender, "not_found" if client_id else "invalid", f"{what}: nothing was stopped.")
            return
        for request_id in running:
            self._link.cancel(request_id)
        # HTTP `generate` wants exactly one response, also for this.
        sender.send(text_response(pb_utils, ""), flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def _refuse(self, sender: ResponseSender, code: str, message: str) -> None:
        self._metrics.finished(code, tokens=0, times={})
        sender.send(
            error_response(pb_utils, code, message), flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
        )

    def _ended(
        self, request_id: str, client_id: str, reason: str, tokens: int, times: dict[str, float]
    ) -> None:
        self._live.remove(request_id, client_id)
        self._metrics.finished(reason, tokens=tokens, times=times)

    def _keep_house(self) -> None:
        while not self._leaving.wait(self._config.cancellation_check_period_ms / 1000):
            for request_id in self._live.cancelled_by_client():
                self._link.cancel(request_id)
            self._metrics.update(
                in_flight=self._link.running,
                queued=self._link.queued,
                restarts=self._link.restarts,
                kernel_calls=self._link.kernel_calls,
            )
