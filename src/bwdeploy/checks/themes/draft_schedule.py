"""Rules on `speculative_config.draft_len_schedule`: draft lengths by batch size.

Up to 1.2 a key is the smallest batch size of its length, from 1.3 the largest; keys may be numbers or text.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from bwdeploy.checks.drafting import ARGUMENT, Drafting, drafting, whole
from bwdeploy.checks.rule import Problem, Rule, Subject

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.recipe.places import KeyPath

_LLM_ARGS = "tensorrt_llm/llmapi/llm_args.py"
_PR_10860 = "https://github.com/NVIDIA/TensorRT-LLM/pull/10860"
_PATH: KeyPath = (*ARGUMENT, "draft_len_schedule")


def _keys(subject: Subject) -> Iterator[Problem]:
    found = drafting(subject)
    if found is None:
        return
    raw = found.config.get("draft_len_schedule")
    for key in raw if isinstance(raw, dict) else {}:
        size = _batch_size(key)
        if size is None or size < 1:
            message = f"{key!r} is not a batch size"
            yield Problem(
                (*_PATH, key), message, "use whole numbers from 1 as keys, for example {1: 3, 8: 1}"
            )


def _start(subject: Subject) -> Iterator[Problem]:
    found = drafting(subject)
    schedule = _schedule(found) if found else {}
    if not found or not schedule or found.draft_len is None:
        return
    first, length = min(schedule), found.draft_len
    if found.is_old and first != 1:
        meaning = f"in TensorRT-LLM {found.tensorrt_llm} a key is the smallest batch size of its draft length"
        fixed = _as_yaml({1: length, **{size: min(one, length) for size, one in schedule.items()}})
        yield Problem(_PATH, f"key 1 is missing: {meaning}", f"write draft_len_schedule: {fixed}")
    elif schedule[first] != length:
        meaning = "smallest" if found.is_old else "largest"
        message = (
            f"the first length, {schedule[first]}, is not the draft length {length} (in TensorRT-LLM "
            f"{found.tensorrt_llm} a key is the {meaning} batch size of its draft length)"
        )
        hint = f"write draft_len_schedule: {_as_yaml({**schedule, first: length})}"
        yield Problem(_PATH, message, hint)


def _too_long(subject: Subject) -> Iterator[Problem]:
    found = drafting(subject)
    schedule = _schedule(found) if found else {}
    if not found or not schedule or found.draft_len is None:
        return
    for size, length in schedule.items():
        if size != min(schedule) and not 0 <= length <= found.draft_len:
            message = f"draft length {length} at batch size {size} is outside 0 to {found.draft_len}"
            yield Problem(_PATH, message, f"write a length from 0 to {found.draft_len}")


def _rises(subject: Subject) -> Iterator[Problem]:
    found = drafting(subject)
    rows = sorted((_schedule(found) if found else {}).items())
    for (_, length), (next_size, next_length) in pairwise(rows):
        if next_length > length:
            message = f"the draft grows from {length} to {next_length} tokens at batch size {next_size}"
            yield Problem(_PATH, message, "let lengths fall as batches grow, for example {1: 3, 8: 1}")


def _with_concurrency(subject: Subject) -> Iterator[Problem]:
    found = drafting(subject)
    if not found or found.is_old or not _schedule(found):
        return
    limit = found.number("max_concurrency")
    if limit is not None:
        message = f"max_concurrency {limit} and draft_len_schedule both decide when drafting stops"
        hint = f"keep one: max_concurrency {limit} means draft_len_schedule: {{{limit}: {found.draft_len}}}"
        yield Problem((*ARGUMENT, "max_concurrency"), message, hint)


def _schedule(found: Drafting) -> dict[int, int]:
    """The readable part: batch size → draft length."""
    raw = found.config.get("draft_len_schedule")
    if not isinstance(raw, dict):
        return {}
    rows = ((_batch_size(key), whole(value)) for key, value in raw.items())
    return {size: length for size, length in rows if size is not None and size > 0 and length is not None}


def _batch_size(key: object) -> int | None:
    if isinstance(key, str) and key.isdecimal() and len(key) < 10:  # noqa: PLR2004 - more digits is no size
        return int(key)
    return whole(key)


def _as_yaml(schedule: dict[int, int]) -> str:
    return "{" + ", ".join(f"{size}: {schedule[size]}" for size in sorted(schedule)) + "}"


RULES = (
    Rule(
        id="speculative-schedule-key",
        severity="error",
        summary="a draft length schedule with a key that is no batch size",
        find=_keys,
        source=_LLM_ARGS,
        why="TensorRT-LLM refuses the arguments when the server starts, after the image has been pulled.",
    ),
    Rule(
        id="speculative-schedule-start",
        severity="error",
        summary="a draft length schedule that does not start at the draft length",
        find=_start,
        source=f"{_PR_10860} · {_LLM_ARGS}",
        why="1.2 reads keys as lower bounds and wants key 1, 1.3 reads them as upper bounds; a schedule "
        "carried "
        "over is refused, or drafts another number of tokens than before.",
    ),
    Rule(
        id="speculative-schedule-length",
        severity="error",
        summary="a draft length schedule beyond the draft length",
        find=_too_long,
        source=_LLM_ARGS,
        why="TensorRT-LLM refuses the arguments: buffers are sized for the draft length.",
    ),
    Rule(
        id="speculative-schedule-rises",
        severity="warning",
        summary="a draft that grows with the batch",
        find=_rises,
        source="NVIDIA/TensorRT-LLM docs/source/blogs/tech_blog/blog1",
        why="Drafting spends idle compute; the larger the batch, the less is idle, so that long drafts "
        "at large "
        "batches cost throughput.",
    ),
    Rule(
        id="speculative-schedule-and-concurrency",
        severity="error",
        summary="draft_len_schedule together with max_concurrency",
        find=_with_concurrency,
        source=_LLM_ARGS,
        why="From 1.3 max_concurrency is itself turned into a schedule, so that both together are refused.",
    ),
)
