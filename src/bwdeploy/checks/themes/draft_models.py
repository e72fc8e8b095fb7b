"""Rules on the two models of speculative decoding: that there is a draft, and that it fits its target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bwdeploy.checks.drafting import ARGUMENT, draft_configuration, drafting, whole
from bwdeploy.checks.rule import Problem, Rule, Subject
from bwdeploy.facts.versions import parse_version

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.recipe.places import KeyPath

_LLM_ARGS = "tensorrt_llm/llmapi/llm_args.py"
_WITH_DRAFT_MODEL = frozenset({"eagle", "drafttarget", "pard", "dflash"})
_LAST_OVERSIZED = parse_version("1.3.0rc18")
_HYBRID_KEYS = ("mamba_num_heads", "mamba_d_state", "hybrid_override_pattern", "linear_num_value_heads")


def _draft_missing(subject: Subject) -> Iterator[Problem]:
    found = drafting(subject)
    if found is None or found.kind not in _WITH_DRAFT_MODEL or found.names_draft:
        return
    if any("speculative_config" in one.path and _names_model(one.path) for one in subject.arg_problems):
        return  # a draft under a key that is wrong itself
    if found.section is not None:
        message = "EAGLE-3 needs a draft model, and none is named"
        hint = "add draft: hf://org/draft@<40-hex revision> or file://DIR, or train: {} to make one"
        yield Problem(("speculative",), message, hint)
    else:
        message = f"{found.type_word} needs a draft model, and none is named"
        hint = "add speculative_model" if found.kind != "eagle" else (
            "write the section speculative: {method: eagle3, draft: hf://org/draft@<40-hex revision>}"
        )  # fmt: skip
        yield Problem(ARGUMENT, message, hint)


def _names_model(path: KeyPath) -> bool:
    return any(word in str(path[-1]) for word in ("model", "weights", "draft_dir"))


def _mtp_missing(subject: Subject) -> Iterator[Problem]:
    found, shape = drafting(subject), subject.shape
    if found is None or found.kind != "mtp" or shape is None or shape.kind != "decoder":
        return
    if shape.mtp_layers or not shape.known or _mentions_mtp(subject.model.config or {}):
        return
    message = f"{shape.architecture} has no multi-token prediction layers (by its {shape.origin})"
    hint = "use method: eagle3 with a draft trained for this model, or do not draft"
    yield Problem(found.place("decoding_type"), message, hint)


def _mentions_mtp(config: dict[str, Any]) -> bool:
    """Whether the configuration speaks of such layers in words that the shape does not count."""
    return any(
        value and ("mtp" in key.lower() or "nextn" in key.lower()) for key, value in _flat(config).items()
    )


def _flat(config: dict[str, Any]) -> dict[str, Any]:
    """With the keys of a multimodal model's text part beside the others."""
    text = config.get("text_config")
    return {**config, **(text if isinstance(text, dict) else {})}


def _hybrid(subject: Subject) -> Iterator[Problem]:
    found, config = drafting(subject), subject.model.config
    if found is None or found.kind != "eagle" or config is None or subject.recipe.layout.attention_dp:
        return
    if not _is_hybrid(config):
        return
    message = (
        "an EAGLE-3 draft on a hybrid model (Mamba or linear attention layers): "
        "sizing the KV cache fails at start, seen with 1.3.0rc24"
    )
    hint = (
        "use method: mtp if the model has such layers, or llm_args.speculative_config: {decoding_type: NGram}"
    )
    yield Problem(found.place("decoding_type"), message, hint)


def _is_hybrid(config: dict[str, Any]) -> bool:
    return any(_flat(config).get(key) for key in _HYBRID_KEYS)


def _draft_cache(subject: Subject) -> Iterator[Problem]:
    found = drafting(subject)
    if found is None or found.kind != "eagle" or found.given.get("eagle3_one_model") is False:
        return
    length, section = found.longest_draft, found.section
    if _LAST_OVERSIZED is None or found.version > _LAST_OVERSIZED or length is None:
        return
    known = whole(draft_configuration(section).get("num_hidden_layers"))
    if section is not None and section.train is not None:
        known = section.train.layers
    if length > (known or 1):
        has = f"the draft has {known}" if known else "such a draft usually has 1"
        message = (
            f"TensorRT-LLM {found.tensorrt_llm} sizes the draft's KV cache for {length} layers, "
            f"one for each drafted token, where {has}"
        )
        hint = "leave room for it, or set engine.tensorrt_llm: 1.3.0rc19 or later"
        yield Problem(found.place("max_draft_len"), message, hint)


def _vocabulary(subject: Subject) -> Iterator[Problem]:
    found, shape = drafting(subject), subject.shape
    if found is None or found.kind != "eagle" or shape is None or not shape.vocab:
        return
    size = whole(draft_configuration(found.section).get("vocab_size"))
    if size is not None and size != shape.vocab:
        message = f"the draft's vocabulary has {size} tokens, the model's {shape.vocab}"
        yield Problem(("speculative", "draft"), message, "name a draft that was trained for this model")


RULES = (
    Rule(
        id="speculative-draft-missing",
        severity="error",
        summary="a draft model is needed and none is named",
        find=_draft_missing,
        source=f"https://github.com/NVIDIA/TensorRT-LLM/issues/6827 · {_LLM_ARGS}",
        why="The server fails on an assertion, or late with an error that does not name the key.",
    ),
    Rule(
        id="speculative-mtp-missing",
        severity="error",
        summary="MTP on a model without such layers",
        find=_mtp_missing,
        source=_LLM_ARGS,
        why="There is nothing to draft with: loading fails, or only noise is drafted.",
    ),
    Rule(
        id="speculative-hybrid-model",
        severity="error",
        summary="EAGLE-3 on a hybrid model",
        find=_hybrid,
        source="https://github.com/NVIDIA/TensorRT-LLM/issues/18449",
        why="The KV cache estimate takes the draft's configuration for a hybrid one and the executor dies.",
    ),
    Rule(
        id="speculative-draft-cache",
        severity="warning",
        summary="the draft's KV cache is oversized",
        find=_draft_cache,
        source="https://github.com/NVIDIA/TensorRT-LLM/pull/15017",
        why="Memory for requests is lost to layers that the draft does not have.",
    ),
    Rule(
        id="speculative-vocabulary",
        severity="error",
        summary="draft and model have different vocabularies",
        find=_vocabulary,
        source="https://github.com/SafeAILab/EAGLE/issues/227",
        why="Drafted tokens mean something else to the model, so that next to none is accepted (1.04 for "
        "each "
        "step was seen) and drafting only costs.",
    ),
)
