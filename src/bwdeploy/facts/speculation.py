"""`speculative_config` of the LLM API, spelled as each TensorRT-LLM version spells it.

Up to 1.2 an EAGLE-3 draft is `decoding_type: Eagle` and MTP counts in `num_nextn_predict_layers`; from 1.3
they are `Eagle3` and `max_draft_len`. Source: tensorrt_llm/llmapi/llm_args.py of both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bwdeploy.facts.versions import parse_version

if TYPE_CHECKING:
    from bwdeploy.facts.versions import Version
    from bwdeploy.recipe.schema import Speculative

NEW_SPELLING: Version = (1, 3, 0, 0)
"""The first version with Eagle3 and with MTP counted in max_draft_len."""
_SPECULATIVE_MODEL: Version = (1, 2, 0, 4)
"""Older candidates know the draft as speculative_model_dir only."""

LENGTH_KEYS = ("max_draft_len", "num_nextn_predict_layers")
HEADS = frozenset({"eagle", "medusa"})
"""Methods whose heads are part of an engine; the LLM API on PyTorch has none of them."""
DRAFT_KEYS = ("speculative_model", "speculative_model_dir")


def speculative_config(
    speculative: Speculative, tensorrt_llm: str, *, draft_directory: str | None
) -> dict[str, Any]:
    """The arguments that the recipe's section `speculative` stands for in TensorRT-LLM `tensorrt_llm`.

    `draft_directory` is where the server finds the EAGLE-3 draft; None leaves its key out. A version that is
    not known is spelled like the newest. Of heads inside an engine the LLM API knows nothing.
    """
    if speculative.method in HEADS:
        return {}
    version = parse_version(tensorrt_llm)
    old = version is not None and version < NEW_SPELLING
    if speculative.method == "mtp":
        length = "num_nextn_predict_layers" if old else "max_draft_len"
        return {"decoding_type": "MTP", length: speculative.draft_len}
    config = {"decoding_type": "Eagle" if old else "Eagle3", "max_draft_len": speculative.draft_len}
    if draft_directory is not None:
        oldest = version is not None and version < _SPECULATIVE_MODEL
        config["speculative_model_dir" if oldest else "speculative_model"] = draft_directory
    return config


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
