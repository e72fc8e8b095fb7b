"""Which TensorRT-LLM the recipe names, and what serves it: the deployment's own, else one that can.

A version can serve when something carries it: a Triton image, or from 1.3 on trtllm-serve; for the PyTorch
backend its arguments must be known as well. Engines are loaded by the version that built them, so a new
version means building them anew.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from bwdeploy.facts.llm_args import llm_args_schema
from bwdeploy.facts.stacks import known_versions, last_with_engines, may_exist, triton_image
from bwdeploy.facts.versions import parse_version
from bwdeploy.migration.found import Note

if TYPE_CHECKING:
    from bwdeploy.migration.draft import RecipeDraft
    from bwdeploy.migration.found import Backend, Wanted

DEFAULT = "1.2.1"
"""The last stable release with engines, and in a Triton image."""
_MOST_RUNNING = 65_536
"""In a recipe."""
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


def target_version(found: str, wanted: Wanted, *, backend: Backend, at_least: str = "") -> Target:
    """The version for a deployment of version `found` (empty: it does not say) on `backend`.

    `at_least` is the oldest that has all of its arguments, for one that does not say its version.
    """
    if wanted.tensorrt_llm:
        return Target(wanted.tensorrt_llm, f"as asked for{_instead_of(found, wanted.tensorrt_llm)}")
    if not found and _is_newer(at_least) and _serves(at_least, backend):
        why = "the deployment does not say its version; no older one has all of its arguments"
        note = Note("assumed", "engine.tensorrt_llm", at_least, why, "set it with --tensorrt-llm")
        return Target(at_least, "assumed: the oldest with these arguments", (note,))
    if not found:
        why = f"the deployment does not say its version; {DEFAULT} is the last stable one with engines"
        note = Note("assumed", "engine.tensorrt_llm", DEFAULT, why, "set it with --tensorrt-llm")
        return Target(DEFAULT, "assumed: the deployment does not say", (note,))
    number = _NUMBER.match(found)
    plain = number.group() if number else ""
    if _serves(plain, backend):
        return Target(plain, "the deployment's own")
    return Target(DEFAULT, f"was {found}", (_replaced(found, plain, backend),))


def put_target(draft: RecipeDraft, target: Target, *, backend: Backend) -> None:
    """Write the version and, for the PyTorch backend, the server that carries it."""
    draft.put(("engine", "tensorrt_llm"), target.version, target.comment)
    draft.note(*target.notes)
    if backend == "pytorch" and target.server != "triton":
        draft.put(("serve", "server"), target.server, f"no Triton image carries {target.version}")


def put_max_running(draft: RecipeDraft) -> None:
    """Let Triton's model hand on as many requests as the engine takes, on every rank with attention_dp."""
    batch, tp = draft.get(("engine", "max_batch_size")), draft.get(("layout", "tp"))
    if not isinstance(batch, int) or draft.get(("serve", "server")) is not None:
        return
    ranks = tp if draft.get(("layout", "attention_dp")) and isinstance(tp, int) else 1
    comment = f"{batch} on each of {ranks} ranks" if ranks > 1 else "as many as the engine takes"
    draft.put(("serve", "max_running"), min(batch * ranks, _MOST_RUNNING), comment)


def _replaced(found: str, plain: str, backend: Backend) -> Note:
    if not _is_old(plain) and not may_exist(plain):
        why = f"there is no such TensorRT-LLM, as far as is known; the recipe names {DEFAULT}"
        return Note("assumed", "version", found, why, "set another one with --tensorrt-llm")
    carried = backend == "pytorch" and triton_image(plain) is not None
    reason = "its arguments are not known here" if carried else "no Triton image that can be used carries it"
    again = "; the engine is built anew, since a server loads engines of its own version only"
    message = f"{reason}, so the recipe names {DEFAULT}{again if backend == 'tensorrt' else ''}"
    return Note("changed", "version", found, message, "name another one with --tensorrt-llm", _SAME)


def _is_newer(version: str) -> bool:
    parsed, default = parse_version(version), parse_version(DEFAULT)
    return parsed is not None and default is not None and parsed > default


def _is_old(version: str) -> bool:
    """Whether a version is older than every one that is known here."""
    parsed = parse_version(version)
    return parsed is not None and parsed < min(filter(None, map(parse_version, known_versions())))


def _serves(version: str, backend: Backend) -> bool:
    parsed, last = parse_version(version), parse_version(last_with_engines())
    if parsed is None or last is None or not may_exist(version):
        return False
    image = triton_image(version)
    if backend == "tensorrt":
        return image is not None and parsed <= last
    return llm_args_schema(version) is not None and (image is not None or parsed >= (1, 3, 0, 0))


def _instead_of(found: str, wanted: str) -> str:
    return f", was {found}" if found and found != wanted else ""
