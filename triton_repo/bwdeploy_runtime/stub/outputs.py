"""From a delta to a Triton response, with the tensors that the client asked for and no others.

Each tensor costs time on the way to the server, so a plain streaming response has exactly one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bwdeploy_runtime.tensors import PERFORMANCE_OUTPUTS

if TYPE_CHECKING:
    from bwdeploy_runtime.protocol import Delta
    from bwdeploy_runtime.stub.inputs import ClientRequest
    from bwdeploy_runtime.stub.triton_types import PbUtils, TritonResponse, TritonTensor

_NUMPY_TYPES = {"TYPE_INT32": np.int32, "TYPE_INT64": np.int64, "TYPE_FP32": np.float32}


def build_response(pb_utils: PbUtils, delta: Delta, *, text: str, request: ClientRequest) -> TritonResponse:
    """A response with `text`, which may differ from the delta's own (cumulative text, repeated prompt)."""
    tensors = [_strings(pb_utils, "text_output", text)]
    if request.return_finish_reason:
        tensors.append(_strings(pb_utils, "finish_reason", delta.finish or ""))
    if request.return_stop_reason:
        tensors.append(_strings(pb_utils, "stop_reason", delta.stop_reason or ""))
    if request.sampling.cumulative_logprob and delta.logprob is not None:
        values = np.array([delta.logprob], dtype=np.float32)
        tensors.append(pb_utils.Tensor("cumulative_logprob", values))
    if request.sampling.return_perf_metrics and delta.finish:
        tensors.extend(
            pb_utils.Tensor(
                tensor.name, np.array([delta.metrics[tensor.name]], dtype=_NUMPY_TYPES[tensor.data_type])
            )
            for tensor in PERFORMANCE_OUTPUTS
            if tensor.name in delta.metrics
        )
    return pb_utils.InferenceResponse(output_tensors=tensors)


def text_response(pb_utils: PbUtils, text: str) -> TritonResponse:
    """A response with text and nothing else."""
    return pb_utils.InferenceResponse(output_tensors=[_strings(pb_utils, "text_output", text)])


def error_response(pb_utils: PbUtils, code: str, message: str) -> TritonResponse:
    """A response that is an error; `code` is invalid, not_found, unavailable or internal."""
    codes = {
        "invalid": pb_utils.TritonError.INVALID_ARG,
        "not_found": pb_utils.TritonError.NOT_FOUND,
        "unavailable": pb_utils.TritonError.UNAVAILABLE,
        "internal": pb_utils.TritonError.INTERNAL,
    }
    return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(message, codes[code]))


def _strings(pb_utils: PbUtils, name: str, text: str) -> TritonTensor:
    return pb_utils.Tensor(name, np.array([text.encode("utf-8")], dtype=np.object_))
