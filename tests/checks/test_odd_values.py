"""Rules on raw values keep their calm whatever stands there."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bwdeploy.checks.rule import subject_of
from bwdeploy.checks.themes import build_flags, engine, speculative, versions
from bwdeploy.facts.build_flags import build_flags as known_flags
from bwdeploy.recipe.schema import Recipe

RULES = (*build_flags.RULES, *engine.RULES, *speculative.RULES, *versions.RULES)
VALUES: st.SearchStrategy[Any] = st.sampled_from(
    [
        None, True, False, 0, -1, 3, 2.5, "x", "enable", "disable", "auto", "MTP", "Eagle", "SaveState",
        "NGram", "SA", [], [1], ["a"], [[]], {}, {"a": 1}, {"1": 3, "8": "x", "2": []}, "/home/a/b", "\x00",
    ]
)  # fmt: skip
DRAFT_KEYS = st.sampled_from(
    [
        "decoding_type", "max_draft_len", "num_nextn_predict_layers", "draft_len_schedule", "max_concurrency",
        "use_dynamic_tree", "dynamic_tree_max_topK", "max_total_draft_tokens", "speculative_model",
        "relaxed_topk", "use_relaxed_acceptance_for_thinking", "global_pool_size", "eagle3_one_model",
        "batch_sizes", "max_batch_size", "enable_padding", "max_tokens_in_buffer",
    ]
)  # fmt: skip
ARGUMENTS = st.sampled_from(
    ["speculative_config", "cuda_graph_config", "cache_transceiver_config", "max_input_len"]
)


@settings(max_examples=150, deadline=None)
@given(
    llm_args=st.dictionaries(ARGUMENTS, VALUES | st.dictionaries(DRAFT_KEYS, VALUES, max_size=6), max_size=3),
    flags=st.dictionaries(st.sampled_from([*known_flags(), "tp_size", "zzz"]), VALUES, max_size=5),
    backend=st.sampled_from(["pytorch", "tensorrt"]),
    version=st.sampled_from(["1.2.1", "1.3.0rc20", "1.3.0rc27", "9.9"]),
    method=st.sampled_from(["mtp", "eagle3", None]),
)
def test_no_value_gives_a_traceback(
    llm_args: dict[str, Any], flags: dict[str, Any], backend: str, version: str, method: str | None
) -> None:
    recipe = Recipe.model_validate(
        {
            "schema": 1,
            "name": "n",
            "model": {"source": "hf://deepseek-ai/DeepSeek-R1@main"},
            "speculative": {"method": method} if method else None,
            "engine": {
                "backend": backend,
                "tensorrt_llm": version,
                "llm_args": llm_args,
                "build_flags": flags,
            },
        }
    )
    subject = subject_of(recipe)
    for rule in RULES:
        for problem in rule.find(subject):
            assert problem.message
            assert problem.hint
