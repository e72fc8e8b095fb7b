"""The engines behind the Triton model, chosen by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bwdeploy_runtime.engines.base import Engine


def create_engine(runtime: str) -> Engine:
    """The engine that `EngineConfig.runtime` names; its heavy imports happen here and in `load`."""
    if runtime == "tensorrt_llm":
        from bwdeploy_runtime.engines.tensorrt_llm import TensorRtLlmEngine  # noqa: PLC0415

        return TensorRtLlmEngine()
    if runtime == "reference":
        from bwdeploy_runtime.engines.reference import ReferenceEngine  # noqa: PLC0415

        return ReferenceEngine()
    from bwdeploy_runtime.engines.echo import EchoEngine  # noqa: PLC0415

    return EchoEngine()
