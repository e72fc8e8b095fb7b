"""`python -m bwdeploy.worker.kernels.warm`: fill the caches of the compilers that the baselines need.

Run several times at once, each with its share of the formulas, before anything is timed: compiling a hundred
formulas one after another takes minutes, in which a GPU would idle.

    warm formulas PART PARTS OP,OP,…      warm flashinfer
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import torch

from bwdeploy.worker.kernels.baselines import (
    compiled_formula,
    compiled_quantizer,
    formula_inputs,
    load_flashinfer,
)
from bwdeploy.worker.kernels.own_ops import make_buffers
from bwdeploy.worker.kernels.points import Size, sizes

if TYPE_CHECKING:
    from collections.abc import Callable


def main(arguments: list[str]) -> int:
    """Compile one share; 0 when all of it could be compiled."""
    if arguments == ["flashinfer"]:
        return _flashinfer()
    _, part, parts, ops = arguments
    with torch.no_grad():
        for size, variant in shares(tuple(ops.split(",")))[int(part) :: int(parts)]:
            _compile(size, variant)
    torch.cuda.synchronize()
    return 0


def shares(ops: tuple[str, ...]) -> list[tuple[Size, str]]:
    """Everything to compile, once each: both layouts of NVFP4 use the same functions."""
    found = {
        (size, variant.replace("swizzled", "linear"))
        for size in sizes(ops, quick=False)
        for _, variant in size.variants
    }
    return sorted(found, key=lambda pair: (pair[0].family, pair[0].width, pair[0].rows, pair[1]))


def _compile(size: Size, variant: str) -> None:
    buffers = make_buffers(size, sets=1)[0]
    compiled_formula(size.family, variant)(*formula_inputs(size, buffers))
    quantizer: Callable[..., Any] | None = compiled_quantizer(variant)
    if quantizer is not None:
        quantizer(buffers.x if size.family == "norm" else buffers.activated, buffers.scale)


def _flashinfer() -> int:
    flashinfer, reason = load_flashinfer()
    if flashinfer is None:
        sys.stderr.write(f"{reason}\n")
        return 1
    flashinfer.norm.get_norm_module()
    flashinfer.activation.get_act_and_mul_module("silu")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
