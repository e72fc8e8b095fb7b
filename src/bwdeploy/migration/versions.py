"""Which TensorRT-LLM the recipe names: the deployment's own where it can still serve, else one that can.

A version can serve when its arguments are known and something carries it: a Triton image, or from 1.3 on
trtllm-serve. Engines are loaded by the version that built them, so a new version means building them anew.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from bwdeploy.facts.llm_args import bundled_schema, llm_args_schema
from bwdeploy.facts.stacks import last_with_engines, may_exist, stack_of_image, triton_image
from bwdeploy.facts.versions import parse_version
from bwdeploy.migration.found import Note

if TYPE_CHECKING:
    from bwdeploy.migration.found import Backend, Wanted

DEFAULT = "1.2.1"
"""The last stable release with engines, and in a Triton image."""
_NUMBER = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+((rc|a|b)[0-9]+)?", re.ASCII)
"""Of `0.17.0.post1` and `1.2.1+cu130` what the tables know."""
_SAME = "https://github.com/triton-inference-server/server/issues/8462"


class Target(NamedTuple):
    """The version of the recipe and the server that carries it."""

    version: str
    comment: str
    notes: tuple[Note, ...] = ()

    @property
    def server(self) -> str:
        """`triton`, or `trtllm-serve` where no Triton image carries the version."""
        newest = parse_version(self.version)
        triton = triton_image(self.version) is not None or newest is None or newest < (1, 3, 0, 0)
        return "triton" if triton else "trtllm-serve"


def target_version(found: str, wanted: Wanted, *, backend: Backend) -> Target:
    """The version for a deployment of version `found` (empty: it does not say) on `backend`."""
    if wanted.tensorrt_llm:
        return Target(wanted.tensorrt_llm, f"as asked for{_instead_of(found, wanted.tensorrt_llm)}")
    if not found:
        why = f"the deployment does not say its version; {DEFAULT} is the last stable one with engines"
        note = Note("assumed", "engine.tensorrt_llm", DEFAULT, why, "set it with --tensorrt-llm")
        return Target(DEFAULT, "assumed: the deployment does not say", (note,))
    number = _NUMBER.match(found)
    plain = number.group() if number else ""
    if _serves(plain, backend):
        return Target(plain, "the deployment's own")
    return Target(DEFAULT, f"was {found}", (_replaced(found, plain, backend),))


def _replaced(found: str, plain: str, backend: Backend) -> Note:
    if not may_exist(plain):
        why = f"there is no such TensorRT-LLM, as far as is known; the recipe names {DEFAULT}"
        return Note("assumed", "version", found, why, "set another one with --tensorrt-llm")
    known = bundled_schema(plain) is not None
    reason = "no Triton image with engines carries it" if known else "its arguments are not known here"
    again = "; the engine is built anew, since a server loads engines of its own version only"
    message = f"{reason}, so the recipe names {DEFAULT}{again if backend == 'tensorrt' else ''}"
    return Note("changed", "version", found, message, "name another one with --tensorrt-llm", _SAME)


def _serves(version: str, backend: Backend) -> bool:
    parsed, last = parse_version(version), parse_version(last_with_engines())
    if parsed is None or last is None or llm_args_schema(version) is None or not may_exist(version):
        return False
    image = triton_image(version)
    if backend == "tensorrt":
        return image is not None and parsed <= last and not _broken(image)
    return image is not None or parsed >= (1, 3, 0, 0)


def _broken(image: str) -> bool:
    stack = stack_of_image(image)
    return stack is not None and bool(stack.broken_openai)


def _instead_of(found: str, wanted: str) -> str:
    return f", was {found}" if found and found != wanted else ""
