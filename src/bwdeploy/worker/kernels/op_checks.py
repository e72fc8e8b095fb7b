"""What must hold for a loaded op beyond its values: schema, shapes without data, aliasing, counter, launches.

Each check takes a subject and says what is wrong, or nothing; `Skipped` says why it cannot be made here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from bwdeploy.worker.kernels.inputs import Call, make_call
from bwdeploy.worker.kernels.outputs import OUTPUTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from bwdeploy.pipeline.jobs import Device
    from bwdeploy.worker.kernels.cases import Case

_REPLAYS = 3
_CPU_HAS_NONE = "the references launch nothing"


class Skipped(Exception):  # noqa: N818 - not an error
    """Why a check cannot be made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """An op of a loaded pack and a case to call it with."""

    pack: Any
    case: Case
    device: Device

    def call(self, call: Call, *, suffix: str = "", **options: Any) -> tuple[Any, ...]:  # noqa: ANN401
        """What the torch op returns."""
        op = getattr(torch.ops.bwdeploy, f"{self.case.op}{suffix}")
        returned: tuple[Any, ...] = op(*call.arguments, **call.options, **options)
        return returned

    def counted(self) -> int:
        """How often the op ran so far; waits for the launches that are on their way."""
        if self.device == "cuda":
            torch.cuda.synchronize()
        return int(self.pack.calls()[self.case.op])


def check_schemas(subject: Subject) -> str:
    """What torch registered is what the manifest says, aliasing included."""
    (op,) = (one for one in subject.pack.manifest.ops if one.name == subject.case.op)
    for schema in op.schemas:
        wanted = str(torch._C.parse_schema(f"bwdeploy::{schema}"))  # noqa: SLF001 - torch's own parser
        got = str(getattr(torch.ops.bwdeploy, schema.partition("(")[0]).default._schema)  # noqa: SLF001
        if got != wanted:
            return f"schema: got {got}, wanted {wanted}"
    return ""


def check_fake(subject: Subject) -> str:
    """Shapes and types without data (torch.compile, export) are those with data."""
    call = make_call(subject.case, subject.device)
    real = subject.call(call.copy())
    with FakeTensorMode() as mode:
        copied = [mode.from_tensor(one) if isinstance(one, torch.Tensor) else one for one in call.arguments]
        fake = subject.call(Call(tuple(copied), call.options))
    for name, got, wanted in zip(OUTPUTS[subject.case.op], fake, real, strict=True):
        described = [(tuple(one.shape), one.dtype, one.stride()) for one in (got, wanted)]
        if described[0] != described[1]:
            return f"{name}: without data got {described[0]}, wanted {described[1]} as with data"
    return ""


def check_in_place(subject: Subject) -> str:
    """The op that updates the residual in place gives the same bytes, and touches no other input."""
    if "residual_out" not in OUTPUTS[subject.case.op]:
        raise Skipped("it has no residual")
    call = make_call(subject.case, subject.device)
    wanted = dict(zip(OUTPUTS[subject.case.op], subject.call(call), strict=True))
    given = call.copy()
    got = list(subject.call(given, suffix="_"))
    got.insert(OUTPUTS[subject.case.op].index("residual_out"), given.arguments[1])
    for name, tensor in zip(wanted, got, strict=True):
        if not _same_bytes(tensor, wanted[name]):
            return f"{name}: in place and not in place differ"
    untouched = [0, 2, 3]
    if not all(_same_bytes(given.arguments[i], call.arguments[i]) for i in untouched):
        return "an input other than the residual was changed"
    return ""


def check_counter(subject: Subject) -> str:
    """Each call is counted once."""
    call = make_call(subject.case, subject.device)
    before = subject.counted()
    for _ in range(_REPLAYS):
        subject.call(call)
    counted = subject.counted() - before
    return "" if counted == _REPLAYS else f"counter: got {counted} after {_REPLAYS} calls"


def check_pdl(subject: Subject) -> str:
    """With and without programmatic dependent launch the bytes are the same."""
    if subject.device == "cpu":
        raise Skipped(_CPU_HAS_NONE)
    call = make_call(subject.case, subject.device)
    pairs = zip(subject.call(call, pdl=True), subject.call(call, pdl=False), strict=True)
    return "" if all(_same_bytes(*pair) for pair in pairs) else "with and without PDL differ"


def check_graph(subject: Subject) -> str:
    """Replays of a CUDA graph give what the eager call gives, and are counted."""
    if subject.device == "cpu":
        raise Skipped(_CPU_HAS_NONE)
    call = make_call(subject.case, subject.device)
    wanted = subject.call(call)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        got = subject.call(call)
    before = subject.counted()
    for _ in range(_REPLAYS):
        graph.replay()
    counted = subject.counted() - before
    if counted != _REPLAYS:
        return f"counter: got {counted} after {_REPLAYS} replays of a CUDA graph"
    same = all(_same_bytes(*pair) for pair in zip(got, wanted, strict=True))
    return "" if same else "a replayed CUDA graph and the eager call differ"


def check_refusals(subject: Subject) -> str:
    """Wrong type, shape and stride are refused with name, got and wanted."""
    if subject.device == "cpu":
        raise Skipped("the references take what torch takes")
    for what, call in _wrong_calls(make_call(subject.case, subject.device)).items():
        try:
            subject.call(call)
        except RuntimeError as error:
            if not all(word in str(error) for word in ("got", "wanted")):
                return f"{what}: refused without name, got and wanted: {str(error)[:200]}"
        else:
            return f"{what}: taken, wanted a refusal"
    return ""


def _wrong_calls(call: Call) -> dict[str, Call]:
    first, *rest = call.arguments
    changed = {
        "float32 activations": first.float(),
        "three dimensions": first[None],
        "columns apart": first.repeat_interleave(2, 1)[:, ::2],
        "a width that is no multiple of 8": first[:, :-4],
        "a tensor of the host": first.cpu(),
    }
    return {what: Call((tensor, *rest), call.options) for what, tensor in changed.items()}


CHECKS: dict[str, Callable[[Subject], str]] = {
    "schemas": check_schemas,
    "shapes without data": check_fake,
    "in place": check_in_place,
    "counter": check_counter,
    "with and without PDL": check_pdl,
    "CUDA graph": check_graph,
    "refusals": check_refusals,
}


def _same_bytes(first: Any, second: Any) -> bool:  # noqa: ANN401 - tensors
    shapes = first.shape == second.shape and first.dtype == second.dtype
    return shapes and bool(torch.equal(*(one.contiguous().view(torch.uint8) for one in (first, second))))
