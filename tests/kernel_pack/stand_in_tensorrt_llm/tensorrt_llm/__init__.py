"""Stands in for TensorRT-LLM 1.2.1, which needs a GPU: the names that a kernel pack touches, and their rules.

Module paths, class names, parameters and what a forward takes and returns follow the public source (see
triton_repo/bwdeploy_kernels/tensorrt_llm); the models are tiny and attend to nothing. Worker processes are
real and get what upstream gives them: the task with MODEL_CLASS_MAPPING, pickled, and sys.path.
"""

from __future__ import annotations

from typing import Any

from tensorrt_llm.executor.proxy import GenerationExecutorProxy

__version__ = "1.2.1"
_LLM_ARGS = {"tensor_parallel_size", "max_seq_len", "backend"}


class LLM:
    """Unknown arguments are refused, and the workers load the model before the constructor returns."""

    def __init__(self, model: str, *, trust_remote_code: bool = False, **arguments: Any) -> None:
        unknown = set(arguments) - _LLM_ARGS
        if unknown:
            raise ValueError(f"LlmArgs: unknown arguments {sorted(unknown)}")
        del trust_remote_code
        self._executor = GenerationExecutorProxy(model, arguments.get("tensor_parallel_size", 1))

    def generate(self, rows: int) -> list[float]:
        """A number from every rank's answer for that many tokens."""
        answers: list[float] = self._executor.submit(rows)
        return answers

    def shutdown(self) -> None:
        self._executor.shutdown()
