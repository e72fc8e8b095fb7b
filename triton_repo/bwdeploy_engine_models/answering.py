"""The answer to one request of a batch: what goes wrong with it is told to its own client alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy_engine_models.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bwdeploy_engine_models.triton_types import Array, PbUtils, TritonResponse


def answer(api: PbUtils, model: str, outputs: Callable[[], Mapping[str, Array]]) -> TritonResponse:
    """The response with what `outputs` returns, or with the error that it raises."""
    try:
        tensors = [api.Tensor(name, array) for name, array in outputs().items()]
    except RequestError as error:
        return _refusal(api, f"{model}: {error}", api.TritonError.INVALID_ARG)
    except Exception as error:  # noqa: BLE001 - raised from execute it would fail the whole batch
        api.Logger.log_error(f"{model}: {error!r}")
        return _refusal(api, f"{model}: the tokenizer failed: {error!r}", api.TritonError.INTERNAL)
    return api.InferenceResponse(tensors)


def _refusal(api: PbUtils, message: str, code: int) -> TritonResponse:
    return api.InferenceResponse(output_tensors=[], error=api.TritonError(message, code))
