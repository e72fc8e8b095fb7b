"""`speculative_config` of the LLM API, spelled as each TensorRT-LLM version spells it.

Up to 1.2 an EAGLE-3 draft is `decoding_type: Eagle` and MTP counts in `num_nextn_predict_layers`; from 1.3
they are `Eagle3` and `max_draft_len`; a draft_len_schedule counts from its keys on, then up to them. Source:
tensorrt_llm/llmapi/llm_args.py of both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bwdeploy.facts.versions import parse_version

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bwdeploy.facts.versions import Version
    from bwdeploy.recipe.schema import Speculative

NEW_SPELLING: Version = (1, 3, 0, 0)
"""The first version with Eagle3 and with MTP counted in max_draft_len."""
_SPECULATIVE_MODEL: Version = (1, 2, 0, 4)
"""Older candidates know the draft as speculative_model_dir only."""
_SCHEDULE: Version = (1, 2, 0, 0)
"""The first with draft_len_schedule and with eagle3_layers_to_capture."""

LENGTH_KEYS = ("max_draft_len", "num_nextn_predict_layers")
HEADS = frozenset({"eagle", "medusa"})
"""Methods whose heads are part of an engine; the LLM API on PyTorch has none of them."""
DRAFT_KEYS = ("speculative_model", "speculative_model_dir")
DRAFT_DIRECTORY = "draft"
"""Where a written deployment holds its draft, beside the file with the arguments, which names it so."""


def speculative_config(
    speculative: Speculative, tensorrt_llm: str, *, draft_directory: str | None
) -> dict[str, Any]:
    """The arguments that the recipe's section `speculative` stands for in TensorRT-LLM `tensorrt_llm`.

    `draft_directory` is where the server finds the EAGLE-3 draft; None leaves its key out. A length that is
    yet to be measured is left out, see `measured_length`. A version that is not known is spelled like the
    newest. Of heads inside an engine the LLM API knows nothing.
    """
    if speculative.method in HEADS:
        return {}
    old = _is_before(tensorrt_llm, NEW_SPELLING)
    is_mtp = speculative.method == "mtp"
    config: dict[str, Any] = {"decoding_type": "MTP" if is_mtp else "Eagle" if old else "Eagle3"}
    if speculative.draft_len != "auto":
        config[length_key(speculative.method, tensorrt_llm)] = speculative.draft_len
    if draft_directory is not None and not is_mtp:
        oldest = _is_before(tensorrt_llm, _SPECULATIVE_MODEL)
        config["speculative_model_dir" if oldest else "speculative_model"] = draft_directory
    return config


def length_key(method: str, tensorrt_llm: str) -> str:
    """The argument that holds the number of drafted tokens."""
    old = _is_before(tensorrt_llm, NEW_SPELLING)
    return "num_nextn_predict_layers" if method == "mtp" and old else "max_draft_len"


def measured_length(
    method: str, tensorrt_llm: str, schedule: Mapping[int, int], *, largest_batch: int
) -> dict[str, Any]:
    """The arguments for lengths that were measured: `schedule` is {batch size from which on: length}.

    It starts at batch size 1 with the longest. A schedule that stays the same up to `largest_batch`, and one
    for a version that has none, is only its first length.
    """
    arguments: dict[str, Any] = {length_key(method, tensorrt_llm): schedule[1]}
    spelled = schedule_for(tensorrt_llm, schedule, largest_batch=largest_batch)
    return arguments | ({"draft_len_schedule": spelled} if spelled else {})


def schedule_for(
    tensorrt_llm: str, schedule: Mapping[int, int], *, largest_batch: int
) -> dict[int, int] | None:
    """`draft_len_schedule` as the version reads it; None where one length serves all batches.

    `schedule` is {batch size from which on: length}, as 1.2 writes it. From 1.3 a key is the largest batch
    size of its length, and above the last key nothing is drafted.
    """
    steps = [(start, length) for start, length in sorted(schedule.items()) if start <= largest_batch]
    if len({length for _, length in steps}) < 2 or _is_before(tensorrt_llm, _SCHEDULE):  # noqa: PLR2004
        return None
    if _is_before(tensorrt_llm, NEW_SPELLING):
        return dict(steps)
    ends = [start - 1 for start, _ in steps[1:]] + [largest_batch]
    return {end: length for end, (_, length) in zip(ends, steps, strict=True) if length}


def captured_layers(tensorrt_llm: str, layers: Sequence[int]) -> dict[str, Any]:
    """The argument that names the target's layers that a draft reads.

    TensorRT-LLM does not look for them in the draft's files and takes a default when it is told nothing.
    """
    return {} if _is_before(tensorrt_llm, _SCHEDULE) else {"eagle3_layers_to_capture": list(layers)}


def completed_arguments(
    llm_args: dict[str, Any], speculative: Speculative | None, tensorrt_llm: str
) -> dict[str, Any]:
    """`llm_args` with the decoding type that the recipe's section decides, where it is not given.

    Without it nothing could be said about the other keys of `speculative_config`.
    """
    given = llm_args.get("speculative_config")
    if speculative is None or not isinstance(given, dict) or "decoding_type" in given:
        return llm_args
    derived = speculative_config(speculative, tensorrt_llm, draft_directory=None)
    if not derived:
        return llm_args
    return {**llm_args, "speculative_config": {"decoding_type": derived["decoding_type"], **given}}


def _is_before(tensorrt_llm: str, version: Version) -> bool:
    found = parse_version(tensorrt_llm)
    return found is not None and found < version
