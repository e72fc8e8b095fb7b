"""Entry of `KernelTest`: load a pack as a serving process does and compare every op with its reference.

On a GPU the kernels are compared. On the CPU the references themselves run as ops, so what is tested there
is that the pack loads, that schemas, shapes and references agree, and that references decode to the formula
in float64.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from bwdeploy.pipeline.jobs import Progress
from bwdeploy.pipeline.kernel_jobs import KernelCase, KernelTest, KernelTestResult
from bwdeploy.worker.kernels.cases import cases_of
from bwdeploy.worker.kernels.comparison import difference
from bwdeploy.worker.kernels.exactness import formula_difference
from bwdeploy.worker.kernels.inputs import make_call
from bwdeploy.worker.kernels.loading import load_for_job
from bwdeploy.worker.kernels.op_checks import CHECKS, Skipped, Subject
from bwdeploy.worker.kernels.outputs import OUTPUTS, compared_part, named_outputs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bwdeploy.pipeline.jobs import Device

_POISON_BYTES = 64 * 2**20
_POISON = 0xA5
_OF_SEVERAL_GPUS = "it runs in a process for each GPU: tests/gpu/kernels/ has its tests"


def run(request: KernelTest, report: Callable[[Progress], None]) -> KernelTestResult:
    """Compare; see the module.

    Raises:
        HostError: the pack does not fit this host.
    """
    began = time.perf_counter()
    pack = load_for_job(request.pack, device=request.device, ops=request.ops)
    found: list[KernelCase] = []
    with torch.no_grad():
        for done, op in enumerate(pack.ops):
            report(Progress(phase="test", done=done, total=len(pack.ops), detail=op))
            found += tested(op, pack, request.device)
    return KernelTestResult(
        device=torch.cuda.get_device_name() if request.device == "cuda" else "cpu",
        cases=tuple(found),
        calls=pack.calls(),
        seconds=round(time.perf_counter() - began, 2),
    )


def tested(op: str, pack: Any, device: Device) -> Iterator[KernelCase]:  # noqa: ANN401 - a Pack
    """Every comparison of one op of a loaded pack."""
    if op not in OUTPUTS:
        yield KernelCase(op=op, case="all", status="skipped", message=_OF_SEVERAL_GPUS)
        return
    cases = cases_of(op, small=device == "cpu")
    usual = Subject(pack=pack, case=next(case for case in cases if case.rows), device=device)
    for name, check in CHECKS.items():
        yield judged(op, name, partial(check, usual))
    for case in cases:
        yield judged(op, case.name, partial(_compare, Subject(pack=pack, case=case, device=device)))


def judged(op: str, name: str, check: Callable[[], str]) -> KernelCase:
    """What came of one comparison; `check` says what is wrong, or nothing."""
    try:
        message = check()
    except Skipped as skipped:
        return KernelCase(op=op, case=name, status="skipped", message=str(skipped))
    except Exception as error:  # noqa: BLE001 - a call that raises is a case that failed; the others go on
        message = f"{type(error).__name__}: {error}".strip()
    return KernelCase(op=op, case=name, status="failed" if message else "passed", message=message)


def _compare(subject: Subject) -> str:
    case = subject.case
    call = make_call(case, subject.device)
    _poison_free_memory(subject.device)
    got = compared_part(case, call, named_outputs(case.op, subject.call(call.copy())))
    reference = subject.pack.reference(case.op)
    wanted = compared_part(
        case, call, named_outputs(case.op, reference(*call.copy().arguments, **call.options))
    )
    differences = (
        difference(name, got[name], wanted[name], eager_rounding=case.eager_rounding) for name in wanted
    )
    return next(filter(None, differences), "") or formula_difference(case, call, got)


def _poison_free_memory(device: Device) -> None:
    """Fill memory that the op's outputs then lie in, so that an element nobody wrote is seen."""
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.full((_POISON_BYTES,), _POISON, dtype=torch.uint8, device=device)
