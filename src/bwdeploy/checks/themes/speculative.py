"""Rules on the settings of speculative decoding, in the section `speculative` and in the arguments.

Rules on draft and target model stand in `draft_models`, those on lengths by batch size in `draft_schedule`,
those on heads inside an engine in `draft_heads`, those on training and measuring a draft in `draft_making`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.checks.drafting import ARGUMENT, drafting, kind_of, whole
from bwdeploy.checks.rule import Problem, Rule, Subject
from bwdeploy.checks.themes import draft_heads, draft_models, draft_schedule
from bwdeploy.facts.speculation import DRAFT_KEYS, LENGTH_KEYS
from bwdeploy.facts.versions import parse_version

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.errors import Severity
    from bwdeploy.recipe.schema import Gate

_LLM_ARGS = "tensorrt_llm/llmapi/llm_args.py"
_ONE_MODEL_REMOVED = parse_version("1.3.0rc27")
_MAX_NGRAM = 64


def _contradiction(subject: Subject) -> Iterator[Problem]:
    found = drafting(subject)
    if found is None or found.section is None:
        return
    section, given = found.section, found.given
    word = given.get("decoding_type")
    if isinstance(word, str) and kind_of(word) != found.kind:
        message = f"decoding_type {word} contradicts speculative.method: {section.method}"
        yield Problem((*ARGUMENT, "decoding_type"), message, "remove it; speculative.method decides")
    for key in LENGTH_KEYS:
        length = whole(given.get(key))
        if length is not None and length != section.draft_len:
            message = f"{key} {length} contradicts speculative.draft_len: {section.draft_len}"
            yield Problem((*ARGUMENT, key), message, "remove it; speculative.draft_len decides")
    for key in DRAFT_KEYS:
        if given.get(key) and section.draft:
            message = f"{key} names another draft than speculative.draft"
            yield Problem((*ARGUMENT, key), message, "remove it; speculative.draft decides")


def _draft_length(subject: Subject) -> Iterator[Problem]:
    found = drafting(subject)
    if found is None or found.section is not None or found.kind != "eagle":
        return
    given = found.given.get("max_draft_len")
    if given is None:
        message = f"{found.type_word} needs max_draft_len, and none is given"
        yield Problem(ARGUMENT, message, "add max_draft_len: 3")
    elif (length := whole(given)) is not None and length < 1:
        message = f"{found.type_word} cannot draft {length} tokens"
        yield Problem((*ARGUMENT, "max_draft_len"), message, "write max_draft_len: 3, or remove the section")


def _unused(subject: Subject) -> Iterator[Problem]:
    found = drafting(subject)
    if found is None:
        return
    if found.section is not None and found.kind == "mtp" and found.section.draft:
        message = "MTP drafts with the model's own layers, so that this draft is not used"
        yield Problem(("speculative", "draft"), message, "remove it, or set speculative.method: eagle3")
    for switch, keys in (
        ("use_relaxed_acceptance_for_thinking", ("relaxed_topk", "relaxed_delta")),
        ("use_dynamic_tree", ("dynamic_tree_max_topK",)),
    ):
        for key in keys:
            if found.given.get(key) is not None and found.given.get(switch) is not True:
                message = f"{key} has no effect without {switch}"
                yield Problem((*ARGUMENT, key), message, f"add {switch}: true, or remove it")


def _dynamic_tree(subject: Subject) -> Iterator[Problem]:
    found = drafting(subject)
    if found is None or found.given.get("use_dynamic_tree") is not True:
        return
    path = (*ARGUMENT, "use_dynamic_tree")
    top, total, length = (
        found.number("dynamic_tree_max_topK"), found.number("max_total_draft_tokens"), found.draft_len,
    )  # fmt: skip
    if top is None or top < 1:
        message = "a dynamic tree needs to know how many candidates each step keeps"
        enough = max(10, -(-total // length)) if total and length and length > 0 else 10
        yield Problem(path, message, f"add dynamic_tree_max_topK: {enough}")
    elif length is not None and total is not None and not length <= total <= top * length:
        message = (
            f"max_total_draft_tokens {total} is outside {length} (the draft length) to {top * length} "
            f"(dynamic_tree_max_topK {top} times the draft length)"
        )
        hint = f"write max_total_draft_tokens from {length} to {top * length}"
        severity: Severity | None = "warning" if found.is_old else None  # 1.2 does not check it
        yield Problem((*ARGUMENT, "max_total_draft_tokens"), message, hint, severity)


def _two_models(subject: Subject) -> Iterator[Problem]:
    found = drafting(subject)
    if found is None:
        return
    for key in ("eagle3_one_model", "mtp_eagle_one_model"):
        gone = key == "eagle3_one_model" and _ONE_MODEL_REMOVED and found.version >= _ONE_MODEL_REMOVED
        if found.given.get(key) is False and not gone:
            message = "drafting with two separate models is deprecated and leaves in 1.4"
            yield Problem((*ARGUMENT, key), message, "remove it; one model is the default")


def _relaxed(subject: Subject) -> Iterator[Problem]:
    found = drafting(subject)
    if found is None or found.given.get("use_relaxed_acceptance_for_thinking") is not True:
        return
    message = (
        "tokens are accepted that the model would not have chosen: "
        "MMLU-Pro of DeepSeek-R1 fell from 84.0 to 81.2"
    )
    hint = "measure the served answers before release and set a limit in gate, or remove it"
    severity: Severity = "info" if _has_limit(subject.recipe.gate) else "warning"
    yield Problem((*ARGUMENT, "use_relaxed_acceptance_for_thinking"), message, hint, severity)


def _has_limit(gate: Gate) -> bool:
    limits = (
        gate.max_perplexity_increase, gate.max_kl_divergence, gate.min_top1_agreement, gate.max_weight_error,
        gate.max_bits_per_weight,
    )  # fmt: skip
    return bool(gate.tasks) or any(limit is not None for limit in limits)


def _ngram_size(subject: Subject) -> Iterator[Problem]:
    found = drafting(subject)
    if found is None:
        return
    if found.kind == "ngram" and found.is_old and found.given.get("max_matching_ngram_size") is None:
        message = f"the default of max_matching_ngram_size in {found.tensorrt_llm} is 0, which it refuses"
        yield Problem(ARGUMENT, message, "add max_matching_ngram_size: 2")
    size = found.number("max_matching_ngram_size")
    if found.kind == "sa" and size is not None and size != -1 and not 1 <= size <= _MAX_NGRAM:
        message = f"an n-gram of {size} tokens does not exist"
        hint = f"write -1 (any length) or a number from 1 to {_MAX_NGRAM}"
        yield Problem((*ARGUMENT, "max_matching_ngram_size"), message, hint)


def _pool(subject: Subject) -> Iterator[Problem]:
    found, batch = drafting(subject), subject.recipe.engine.max_batch_size
    size = found.number("global_pool_size") if found is not None else None
    if found is not None and found.kind == "sa" and size is not None and size < batch:
        message = f"a pool of {size} for {batch} requests (engine.max_batch_size)"
        yield Problem((*ARGUMENT, "global_pool_size"), message, f"raise it to {batch} or more")


def _other_text(subject: Subject) -> Iterator[Problem]:
    found, expect = drafting(subject), subject.recipe.expect
    published = [name for name, one in expect.items() if one.status == "published"]
    if found is not None and published:
        names = ", ".join(published)
        message = f"how many drafted tokens are accepted depends on the text; {names} of expect had its own"
        yield Problem(
            found.place(), message, "measure acceptance on your own prompts before you promise a speed"
        )


RULES = (
    Rule(
        id="speculative-contradiction",
        severity="error",
        summary="section and arguments speak of different drafts",
        find=_contradiction,
        why="One of the two would be dropped, and the build would not be what half of the recipe says.",
    ),
    Rule(
        id="speculative-draft-length",
        severity="error",
        summary="a draft without a length",
        find=_draft_length,
        source=f"https://github.com/NVIDIA/TensorRT-LLM/issues/6827 · {_LLM_ARGS}",
        why="TensorRT-LLM asserts that max_draft_len is above 0, after the weights have been loaded.",
    ),
    Rule(
        id="speculative-setting-unused",
        severity="error",
        summary="a speculation setting that would have no effect",
        find=_unused,
        source="https://github.com/NVIDIA/TensorRT-LLM/pull/18671",
        why="The setting loads without a word and changes nothing, so that the speed asked for never comes.",
    ),
    *draft_models.RULES,
    *draft_schedule.RULES,
    Rule(
        id="speculative-dynamic-tree",
        severity="error",
        summary="a dynamic draft tree of impossible size",
        find=_dynamic_tree,
        source=_LLM_ARGS,
        why="TensorRT-LLM wants max_draft_len <= max_total_draft_tokens <= topK x max_draft_len and refuses "
        "anything else.",
    ),
    Rule(
        id="speculative-two-models",
        severity="warning",
        summary="two-model drafting is deprecated",
        find=_two_models,
        source=_LLM_ARGS,
        why="A later version refuses the key, and the recipe does not survive the upgrade.",
    ),
    Rule(
        id="speculative-relaxed-acceptance",
        severity="warning",
        summary="relaxed acceptance changes answers",
        find=_relaxed,
        source="NVIDIA/TensorRT-LLM docs/source/blogs/tech_blog/blog1",
        why="The speed is paid with accuracy, and no step of the build measures served answers unless "
        "asked to.",
    ),
    Rule(
        id="speculative-ngram-size",
        severity="error",
        summary="an impossible n-gram size",
        find=_ngram_size,
        source=_LLM_ARGS,
        why="TensorRT-LLM refuses the arguments when the server starts.",
    ),
    Rule(
        id="speculative-pool-size",
        severity="error",
        summary="a suffix automaton pool smaller than the batch",
        find=_pool,
        source=_LLM_ARGS,
        why="TensorRT-LLM wants a place in the pool for each running request and refuses less.",
    ),
    Rule(
        id="speculative-other-text",
        severity="info",
        summary="published speed with drafts of another text",
        find=_other_text,
        source="NVIDIA/TensorRT-LLM docs/source/blogs/tech_blog/blog1",
        why="Drafts are accepted more often in some texts than in others, and the speed follows "
        "acceptance: the same "
        "deployment can miss a published figure without anything being wrong.",
    ),
    *draft_heads.RULES,
)
