"""Names for the objects of Triton's Python API, which comes without types and exists only inside the stub."""

from __future__ import annotations

from typing import Any

PbUtils = Any
"""The module triton_python_backend_utils."""
TritonRequest = Any
"""pb_utils.InferenceRequest"""
TritonResponse = Any
"""pb_utils.InferenceResponse"""
TritonTensor = Any
"""pb_utils.Tensor"""
Array = Any
"""numpy.ndarray"""
