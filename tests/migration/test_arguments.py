"""LLM API arguments from any version to any other."""

from __future__ import annotations

import copy
import json
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bwdeploy.checks.llm_args import check_llm_args
from bwdeploy.errors import RecipeError
from bwdeploy.facts.llm_arg_spellings import Concept, Spelling, concepts, translated_versions
from bwdeploy.facts.versions import parse_version
from bwdeploy.migration.argument_values import lower_bounds, upper_bounds
from bwdeploy.migration.argument_versions import assumed_version, guess_version
from bwdeploy.migration.arguments import Translated, translate

if TYPE_CHECKING:
    from bwdeploy.migration.found import Note

VERSIONS = translated_versions()
LISTED = ("1.2.1", "1.3.0rc20", "1.3.0rc29", "1.4.0rc1")
"""Versions whose arguments can be checked."""
PAIRS = sorted(
    {(a, b) for a, b in pairwise(VERSIONS)}
    | {(b, a) for a, b in pairwise(VERSIONS)}
    | {(version, other) for version in VERSIONS for other in (VERSIONS[0], "1.2.1", VERSIONS[-1])}
)


def said(notes: tuple[Note, ...]) -> set[tuple[str, str]]:
    return {(note.effect, note.key) for note in notes}


def to(target: str, arguments: dict[str, Any], found: str) -> dict[str, Any]:
    return translate(arguments, found=found, target=target).arguments


# There and back

EXAMPLES: dict[str, Any] = {
    "batch_sizes": [1, 2],
    "cuda_graph_batch_sizes": [1, 2],
    "draft_len_schedule": {"7": 3, "20": 1},
    "backend": "TRTLLM",
    "moe_backend": "TRTLLM",
    "attn_backend": "TRTLLM",
    "load_format": "auto",
    "sampler_type": "TorchSampler",
    "dtype": "fp8",
    "kv_cache_dtype": "fp8",
    "free_gpu_memory_fraction": 0.5,
    "posterior_threshold": 0.5,
    "acceptance_length_threshold": 0.5,
    "relaxed_delta": 0.5,
    "reasoning_parser": "qwen3",
    "_reasoning_parser": "qwen3",
    "moe_load_balancer": {"num_slots": 8},
    "load_balancer": {"num_slots": 8},
}
NUMBERS = (
    "max_",
    "num_",
    "_num_",
    "prompt_",
    "sink_",
    "context_",
    "moe_t",
    "acceptance_w",
    "begin",
    "end",
    "BEGIN",
    "END",
)


def example(concept: Concept, spelling: Spelling) -> Any:  # noqa: PLR0911 - one line for each kind
    name = spelling.path[-1]
    if spelling.form in {"switch", "invert"}:
        return True
    if spelling.form == "schedule":
        return {"1": 3, "8": 1, "21": 0}
    if concept.is_switch:
        return {}
    if name == "decoding_type":
        return "MTP"
    if spelling.path[0] == "cache_transceiver_config" and name == "backend":
        return spelling.values.get("UCX", "UCX")
    if name in EXAMPLES:
        return EXAMPLES[name]
    if spelling.values:
        return next(iter(spelling.values.values()))
    if any(word in name for word in ("model", "path", "dir")) and not name.startswith("num"):
        return "org/name"
    return 4 if name.startswith(NUMBERS) else True


def alone(concept: Concept, spelling: Spelling) -> dict[str, Any]:
    """Arguments that set this concept, and what it does not mean anything without."""
    arguments: dict[str, Any] = {}
    at = arguments
    for word in spelling.path[:-1]:
        at = at.setdefault(word, {})
    if spelling.path[0] == "speculative_config":
        at["decoding_type"] = dict(concept.when).get("decoding_type", "MTP")
    if (
        spelling.path[-1].startswith(("cuda_graph_", "torch_compile_"))
        and concept.name[0] == "cuda_graph_config"
    ):
        at["use_cuda_graph"] = True
    at[spelling.path[-1]] = example(concept, spelling)
    return arguments


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_there_and_back_is_the_same_where_nothing_is_lost(first: str, second: str) -> None:
    version = parse_version(first)
    assert version is not None
    compared = 0
    for concept in concepts():
        spelling = concept.spelling_for(version)
        if spelling is None or concept.always:
            continue
        if spelling.path == ("speculative_config", "max_draft_len") and not concept.when:
            continue  # MTP and NGram have lengths of their own
        arguments = alone(concept, spelling)
        there = translate(arguments, found=first, target=second)
        back = translate(there.arguments, found=second, target=first)
        notes = (*there.notes, *back.notes)
        if any(note.effect != "renamed" and note.value is not None for note in notes):
            continue
        assert back.arguments == arguments, (concept.name, there.arguments)
        compared += 1
    assert compared >= 15


@pytest.mark.parametrize("target", VERSIONS)
@pytest.mark.parametrize("found", VERSIONS)
def test_nothing_disappears_without_a_note(found: str, target: str) -> None:
    arguments = {
        "kv_cache_config": {"enable_block_reuse": False, "use_uvm": True, "tokens_per_block": 64},
        "stream_interval": 10,
        "nvfp4_gemm_config": {"allowed_backends": ["cutlass"]},
        "zzz": 1,
    }
    result = translate(arguments, found=found, target=target)
    lost = {note.key for note in result.notes if note.value is not None}
    for key, value in arguments.items():
        inside = value.items() if isinstance(value, dict) else [("", value)]
        for name, _ in inside:
            path = f"{key}.{name}" if name else key
            kept = name in result.arguments.get(key, {}) if name else key in result.arguments
            assert kept or path in lost or key in lost, (path, result)


KEYS = [
    "pytorch_backend_config",
    "build_config",
    "cuda_graph_config",
    "speculative_config",
    "decoding_type",
    "max_batch_size",
    "use_cuda_graph",
    "kv_cache_dtype",
    "kv_cache_config",
    "dtype",
    "draft_len_schedule",
    "max_draft_len",
    "moe_config",
    "backend",
    "enable_sleep",
    "sleep_config",
    "cuda_graph_batch_sizes",
    "enable_trtllm_sampler",
    "zzz",
    "1",
]
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(0, 99)
    | st.sampled_from(["MTP", "Eagle", "Eagle3", "AUTO", "fp8", ""]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(
    arguments=st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=5),
    found=st.sampled_from(VERSIONS),
    target=st.sampled_from(VERSIONS),
)
def test_whatever_stands_there_is_translated_or_noted(
    arguments: dict[str, Any], found: str, target: str
) -> None:
    before = copy.deepcopy(arguments)
    result = translate(arguments, found=found, target=target)
    assert arguments == before
    json.dumps(result.arguments)
    assert all(note.key and note.message for note in result.notes)
    wrong = [one for one in check_llm_args(target, result.arguments) if one.kind == "unknown-key"]
    assert wrong == []
    assert guess_version(arguments)[0] in VERSIONS


# One by one


@pytest.mark.parametrize(
    ("found", "given", "target", "expected"),
    [
        (
            "0.19.0",
            {"pytorch_backend_config": {"enable_overlap_scheduler": True}},
            "1.2.1",
            {"disable_overlap_scheduler": False},
        ),
        (
            "0.19.0",
            {"pytorch_backend_config": {"use_cuda_graph": False}},
            "1.2.1",
            {"cuda_graph_config": None},
        ),
        (
            "0.21.0",
            {"use_cuda_graph": True, "cuda_graph_batch_sizes": [8]},
            "1.2.1",
            {"cuda_graph_config": {"batch_sizes": [8]}},
        ),
        (
            "1.2.1",
            {"cuda_graph_config": {"enable_padding": True}},
            "0.21.0",
            {"use_cuda_graph": True, "cuda_graph_padding_enabled": True},
        ),
        (
            "1.2.1",
            {"cuda_graph_config": None},
            "0.20.0",
            {"pytorch_backend_config": {"use_cuda_graph": False}},
        ),
        (
            "0.20.0",
            {"pytorch_backend_config": {"moe_backend": "TRTLLM"}},
            "1.4.0rc1",
            {"moe_config": {"backend": "TRTLLM"}},
        ),
        ("1.3.0rc20", {"moe_config": {"backend": "AUTO"}}, "1.2.1", {"moe_config": {"backend": "CUTLASS"}}),
        ("0.21.0", {"kv_cache_dtype": "fp8"}, "1.2.1", {"kv_cache_config": {"dtype": "fp8"}}),
        (
            "1.2.1",
            {"kv_cache_config": {"dtype": "bfloat16"}},
            "1.3.0rc20",
            {"kv_cache_config": {"dtype": "auto"}},
        ),
        (
            "1.2.1",
            {"kv_cache_free_gpu_memory_fraction": 0.7},
            "1.2.1",
            {"kv_cache_config": {"free_gpu_memory_fraction": 0.7}},
        ),
        ("1.0.0", {"build_config": {"max_batch_size": 8}}, "1.2.1", {"max_batch_size": 8}),
        ("1.2.1", {"max_seq_len": 8}, "0.18.2", {"build_config": {"max_seq_len": 8}}),
        (
            "1.0.0",
            {"cuda_graph_config": {"padding_enabled": True}},
            "1.2.1",
            {"cuda_graph_config": {"enable_padding": True}},
        ),
        ("1.2.1", {"enable_sleep": True}, "1.3.0rc20", {"sleep_config": {}}),
        (
            "0.19.0",
            {"pytorch_backend_config": {"torch_compile_enabled": True, "torch_compile_fullgraph": False}},
            "1.2.1",
            {"torch_compile_config": {"enable_fullgraph": False}},
        ),
        (
            "0.20.0",
            {"pytorch_backend_config": {"autotuner_enabled": False}},
            "1.2.1",
            {"enable_autotuner": False},
        ),
        ("0.21.0", {"enable_trtllm_sampler": True}, "1.2.1", {"sampler_type": "TRTLLMSampler"}),
        (
            "1.0.0",
            {"cache_transceiver_config": {"backend": "ucx"}},
            "1.2.1",
            {"cache_transceiver_config": {"backend": "UCX"}},
        ),
        ("0.20.0", {"_num_postprocess_workers": 4}, "1.2.1", {"num_postprocess_workers": 4}),
    ],
)
def test_a_key_gets_the_name_of_the_target(
    found: str, given: dict[str, Any], target: str, expected: dict[str, Any]
) -> None:
    assert to(target, given, found) == expected


@pytest.mark.parametrize(
    ("found", "given", "target", "expected"),
    [
        (
            "1.2.1",
            {"decoding_type": "MTP", "num_nextn_predict_layers": 3},
            "1.3.0rc20",
            {"decoding_type": "MTP", "max_draft_len": 3},
        ),
        (
            "1.4.0rc1",
            {"decoding_type": "MTP", "max_draft_len": 3},
            "0.19.0",
            {"decoding_type": "MTP", "num_nextn_predict_layers": 3},
        ),
        (
            "1.2.1",
            {"decoding_type": "Eagle", "max_draft_len": 2},
            "1.3.0rc20",
            {"decoding_type": "Eagle3", "max_draft_len": 2},
        ),
        (
            "1.3.0rc20",
            {"decoding_type": "Eagle3", "max_draft_len": 2},
            "1.1.0",
            {"decoding_type": "Eagle", "max_draft_len": 2},
        ),
        (
            "0.21.0",
            {"decoding_type": "DraftTarget", "pytorch_weights_path": "d", "max_draft_len": 2},
            "1.3.0rc20",
            {"decoding_type": "Draft_Target", "speculative_model": "d", "max_draft_len": 2},
        ),
        (
            "0.21.0",
            {"decoding_type": "NGram", "prompt_lookup_num_tokens": 2, "max_matching_ngram_size": 4},
            "1.2.1",
            {"decoding_type": "NGram", "max_draft_len": 2, "max_matching_ngram_size": 4},
        ),
        (
            "1.2.1",
            {"decoding_type": "Eagle", "max_draft_len": 3, "draft_len_schedule": {"1": 3, "8": 1, "21": 0}},
            "1.3.0rc20",
            {"decoding_type": "Eagle3", "max_draft_len": 3, "draft_len_schedule": {"7": 3, "20": 1}},
        ),
        (
            "1.0.0",
            {"decoding_type": "Eagle", "max_draft_len": 3, "speculative_model_dir": "d"},
            "1.2.1",
            {"decoding_type": "Eagle", "max_draft_len": 3, "speculative_model": "d"},
        ),
        (
            "1.2.1",
            {"decoding_type": "Eagle", "max_draft_len": 3, "eagle3_one_model": True, "greedy_sampling": True},
            "1.3.0rc29",
            {"decoding_type": "Eagle3", "max_draft_len": 3},
        ),
    ],
)
def test_speculation_is_spelled_as_the_target_spells_it(
    found: str, given: dict[str, Any], target: str, expected: dict[str, Any]
) -> None:
    result = to(target, {"speculative_config": given}, found)
    assert result == {"speculative_config": expected}
    assert [one for one in check_llm_args(target, result) if one.severity != "warning"] == []


def test_a_second_spelling_of_one_setting_loses() -> None:
    result = translate(
        {"kv_cache_config": {"dtype": "fp8"}, "kv_cache_dtype": "auto"}, found="1.2.1", target="1.2.1"
    )
    assert result.arguments == {"kv_cache_config": {"dtype": "fp8"}}
    assert said(result.notes) == {("no-effect", "kv_cache_dtype")}


def test_what_the_target_lacks_is_lost_with_the_nearest_key() -> None:
    result = translate({"enable_chunked_prefil": True}, found="1.2.1", target="1.3.0rc20")
    assert result.arguments == {}
    note = next(note for note in result.notes if note.effect == "lost")
    assert (note.key, note.hint) == ("enable_chunked_prefil", "nearest: enable_chunked_prefill")


def test_settings_of_the_engine_backend_never_had_an_effect() -> None:
    result = translate({"fast_build": True}, found="1.0.0", target="1.2.1")
    assert result.arguments == {}
    assert said(result.notes) == {("no-effect", "fast_build")}


def test_members_of_what_was_off_do_not_switch_it_on() -> None:
    given = {"pytorch_backend_config": {"torch_compile_fullgraph": True}}
    result = translate(given, found="0.20.0", target="1.2.1")
    assert result.arguments == {}
    assert ("no-effect", "pytorch_backend_config.torch_compile_fullgraph") in said(result.notes)


def test_a_default_that_changed_is_told() -> None:
    notes = translate({}, found="0.19.0", target="1.2.1").notes
    assert said(notes) == {("changed", "cuda_graph_config"), ("changed", "disable_overlap_scheduler")}
    assert said(translate({}, found="1.2.1", target="1.2.1").notes) == set()
    given = {"pytorch_backend_config": {"use_cuda_graph": True, "enable_overlap_scheduler": True}}
    assert not any(
        note.effect == "changed" for note in translate(given, found="0.19.0", target="1.2.1").notes
    )


def test_what_a_recipe_may_not_say_is_taken_out() -> None:
    given = {
        "env_overrides": {"A": "b"},
        "moe_config": {"backend": "NONE", "max_num_tokens": "many"},
        "tensor_parallel_size": 8,
    }
    result = translate(given, found="1.2.1", target="1.2.1")
    assert result.arguments == {"tensor_parallel_size": 8}
    lost = {("lost", "env_overrides"), ("lost", "moe_config.backend"), ("lost", "moe_config.max_num_tokens")}
    assert said(result.notes) == lost


def test_a_draft_method_that_the_target_lacks_goes_whole() -> None:
    given = {"speculative_config": {"decoding_type": "NGram", "max_draft_len": 2}}
    result = translate(given, found="1.2.1", target="0.19.0")
    assert result.arguments == {}
    assert ("lost", "speculative_config.decoding_type") in said(result.notes)


@pytest.mark.parametrize(("found", "target"), [("0.16.0", "1.2.1"), ("1.2.1", "2.0.0"), ("x", "1.2.1")])
def test_a_version_that_nothing_is_known_of_is_refused(found: str, target: str) -> None:
    with pytest.raises(RecipeError, match="are not known"):
        translate({}, found=found, target=target)


# Draft length schedules


def test_a_schedule_without_an_end_holds_up_to_the_largest_batch() -> None:
    assert upper_bounds({1: 3, 8: 1}, 64) == {7: 3, 64: 1}
    assert lower_bounds({7: 3, 64: 1}, 64) == {1: 3, 8: 1}
    assert lower_bounds({7: 3, 20: 1}, 64) == {1: 3, 8: 1, 21: 0}
    assert upper_bounds({"x": 3}, 64) == {"x": 3}


# Which version it was written for


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            {"pytorch_backend_config": {"enable_overlap_scheduler": True, "moe_backend": "TRTLLM"}},
            ("0.19.0", "0.19.0"),
        ),
        ({"pytorch_backend_config": {"disable_overlap_scheduler": True}}, ("0.20.0", "0.20.0")),
        ({"use_cuda_graph": True, "moe_backend": "TRTLLM"}, ("0.21.0", "0.21.0")),
        (
            {"cuda_graph_config": {"enable_padding": True}, "moe_config": {"backend": "TRTLLM"}},
            ("1.0.0", "1.4.0rc1"),
        ),
        (
            {"speculative_config": {"decoding_type": "Eagle", "eagle3_one_model": True}, "moe_config": {}},
            ("1.0.0", "1.2.1"),
        ),
        ({"speculative_config": {"decoding_type": "Eagle3"}}, ("1.3.0rc20", "1.4.0rc1")),
        ({"sleep_config": {}}, ("1.3.0rc20", "1.4.0rc1")),
        ({"enable_sleep": True}, ("1.2.1", "1.2.1")),
        ({}, ("0.17.0", "1.4.0rc1")),
    ],
)
def test_the_keys_tell_the_version(given: dict[str, Any], expected: tuple[str, str]) -> None:
    assert guess_version(given) == expected


def test_arguments_are_taken_for_the_fitting_version_nearest_to_the_target() -> None:
    assert assumed_version({}, "1.3.0rc5") == "1.3.0rc5"
    assert assumed_version({"use_cuda_graph": True}, "1.2.1") == "0.21.0"
    assert assumed_version({"sleep_config": {}}, "1.2.1") == "1.3.0rc20"


def test_translated_is_data() -> None:
    assert isinstance(translate({}, found="1.2.1", target="1.2.1"), Translated)
