"""As tensorrt_llm/executor/proxy.py: even one GPU has a worker process, which gets the registered models."""

from __future__ import annotations

import os
from typing import Any

from tensorrt_llm.executor.worker import worker_main
from tensorrt_llm.llmapi.mpi_session import MpiPoolSession
from tensorrt_llm.mapping import Mapping


class GenerationExecutorProxy:
    READY_SIGNAL = b"READY"

    def __init__(self, engine: str, model_world_size: int) -> None:
        from tensorrt_llm._torch.models.modeling_auto import MODEL_CLASS_MAPPING  # noqa: PLC0415 - as upstream

        ranks = [Mapping(model_world_size, rank, tp_size=1) for rank in range(model_world_size)]
        tasks = [
            {
                "engine": engine,
                "ready_signal": self.READY_SIGNAL,
                "mapping": rank,
                "_torch_model_class_mapping": MODEL_CLASS_MAPPING,
            }
            for rank in ranks
        ]
        self._local: Any = None
        if model_world_size == 1 and os.environ.get("TLLM_WORKER_USE_SINGLE_PROCESS") == "1":
            self._local = worker_main(**tasks[0])
            ready = [next(self._local)]
        else:
            self._session = MpiPoolSession(model_world_size)
            ready = self._session.submit_sync(worker_main, tasks)
        if any(signal != self.READY_SIGNAL for signal in ready):
            self.shutdown()
            raise RuntimeError("Executor worker returned error")

    def submit(self, rows: int) -> list[float]:
        return [self._local.send(rows)] if self._local else self._session.send(rows)

    def shutdown(self) -> None:
        if self._local is None:
            self._session.shutdown()
