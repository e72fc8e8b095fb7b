"""LLM API arguments against the version's own classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bwdeploy.checks.llm_args import REFUSED, SAID_ELSEWHERE, ArgProblem, check_llm_args
from bwdeploy.checks.schema_walk import SchemaWalk
from bwdeploy.facts import llm_args
from bwdeploy.facts.llm_args import INSTALLED_SCHEMA
from bwdeploy.facts.reader import read_data

OLD, NEW, LATE = "1.2.1", "1.3.0rc20", "1.3.0rc28"


def only(version: str, args: dict[str, Any]) -> ArgProblem:
    (problem,) = check_llm_args(version, args)
    return problem


@pytest.mark.parametrize(
    ("version", "args"),
    [
        (OLD, {}),
        (
            OLD,
            {
                "kv_cache_config": {"dtype": "fp8", "free_gpu_memory_fraction": 0.8},
                "enable_chunked_prefill": True,
            },
        ),
        (OLD, {"cuda_graph_config": None}),
        (OLD, {"cuda_graph_config": {"batch_sizes": [1, 2, 4], "enable_padding": True}}),
        (OLD, {"moe_config": {"backend": "TRTLLM", "load_balancer": {"num_slots": 8}}}),
        (
            OLD,
            {
                "speculative_config": {
                    "decoding_type": "Eagle",
                    "max_draft_len": 3,
                    "speculative_model_dir": "d",
                }
            },
        ),
        (OLD, {"speculative_config": {"decoding_type": "MTP", "num_nextn_predict_layers": 3}}),
        (OLD, {"speculative_config": {"decoding_type": "Eagle", "draft_len_schedule": {"1": 3, "8": 1}}}),
        (OLD, {"custom_tokenizer": "deepseek_v32", "batch_wait_timeout_ms": 0.5}),
        (OLD, {"nvfp4_gemm_config": {"allowed_backends": ["cutlass", "cutedsl"]}}),
        (OLD, {"cp_config": {"anything": 1}}),
        (NEW, {"moe_config": {"backend": "AUTO"}, "cp_config": {"cp_type": "HELIX", "tokens_per_block": 32}}),
        (
            NEW,
            {"speculative_config": {"decoding_type": "Eagle3", "max_draft_len": 3, "eagle3_one_model": True}},
        ),
        (NEW, {"kv_cache_config": {"use_kv_cache_manager_v2": True, "pool_ratio": [0.5, 0.5]}}),
        (NEW, {"cuda_graph_config": {"mode": "encode", "num_tokens": [1, 2]}}),
        (NEW, {"sparse_attention_config": {"algorithm": "dsa", "index_topk": 512}}),
        (NEW, {"model_kwargs": {"free": ["form"]}}),
    ],
)
def test_right_arguments_have_no_problems(version: str, args: dict[str, Any]) -> None:
    assert check_llm_args(version, args) == ()


@pytest.mark.parametrize(
    ("version", "args", "kind", "path", "hint"),
    [
        # renamed or removed, both directions
        (OLD, {"kv_cache_dtype": "fp8"}, "renamed", "kv_cache_dtype", "use kv_cache_config.dtype"),
        (
            OLD,
            {"kv_cache_free_gpu_memory_fraction": 0.9},
            "renamed",
            "kv_cache_free_gpu_memory_fraction",
            "use kv_cache_config.free_gpu_memory_fraction",
        ),
        (
            OLD,
            {"build_config": {"max_batch_size": 8}},
            "renamed",
            "build_config",
            "use the same keys without build_config",
        ),
        (
            OLD,
            {"cuda_graph_config": {"padding_enabled": True}},
            "renamed",
            "cuda_graph_config.padding_enabled",
            "use cuda_graph_config.enable_padding",
        ),
        (NEW, {"enable_sleep": True}, "renamed", "enable_sleep", "use sleep_config"),
        (OLD, {"sleep_config": {}}, "renamed", "sleep_config", "use enable_sleep"),
        (
            NEW,
            {"kv_cache_config": {"onboard_blocks": True}},
            "renamed",
            "kv_cache_config.onboard_blocks",
            "remove it",
        ),
        (OLD, {"moe_config": {"backend": "AUTO"}}, "renamed", "moe_config.backend", "write CUTLASS"),
        (
            OLD,
            {"speculative_config": {"decoding_type": "Eagle3"}},
            "renamed",
            "speculative_config.decoding_type",
            "write Eagle",
        ),
        (
            NEW,
            {"speculative_config": {"decoding_type": "Eagle"}},
            "renamed",
            "speculative_config.decoding_type",
            "write Eagle3",
        ),
        (
            NEW,
            {"speculative_config": {"decoding_type": "DraftTarget"}},
            "renamed",
            "speculative_config.decoding_type",
            "write Draft_Target",
        ),
        (
            OLD,
            {"speculative_config": {"decoding_type": "Draft_Target"}},
            "renamed",
            "speculative_config.decoding_type",
            "write DraftTarget",
        ),
        (
            OLD,
            {"speculative_config": {"decoding_type": "MTP", "max_draft_len": 3}},
            "renamed",
            "speculative_config.max_draft_len",
            "use speculative_config.num_nextn_predict_layers",
        ),
        (
            NEW,
            {"speculative_config": {"decoding_type": "MTP", "num_nextn_predict_layers": 3}},
            "renamed",
            "speculative_config.num_nextn_predict_layers",
            "use speculative_config.max_draft_len",
        ),
        (
            LATE,
            {"speculative_config": {"decoding_type": "Eagle3", "eagle3_one_model": True}},
            "renamed",
            "speculative_config.eagle3_one_model",
            "remove it",
        ),
        # unknown
        (
            OLD,
            {"enable_chunked_prefil": True},
            "unknown-key",
            "enable_chunked_prefil",
            "did you mean enable_chunked_prefill",
        ),
        (
            OLD,
            {"kv_cache_config": {"free_gpu_memory_frac": 1}},
            "unknown-key",
            "kv_cache_config.free_gpu_memory_frac",
            "did you mean free_gpu_memory_fraction",
        ),
        (
            OLD,
            {"kv_cache_config": {"pool_ratio": [1]}},
            "unknown-key",
            "kv_cache_config.pool_ratio",
            "TensorRT-LLM 1.3 has it",
        ),
        (
            OLD,
            {"tokens_per_block": 32},
            "unknown-key",
            "tokens_per_block",
            "did you mean kv_cache_config.tokens_per_block",
        ),
        (OLD, {"zzz": 1}, "unknown-key", "zzz", "remove it"),
        # types, choices, bounds
        (
            OLD,
            {"kv_cache_config": {"tokens_per_block": "32"}},
            "wrong-type",
            "kv_cache_config.tokens_per_block",
            "",
        ),
        (OLD, {"kv_cache_config": None}, "wrong-type", "kv_cache_config", ""),
        (
            OLD,
            {"cuda_graph_config": {"batch_sizes": [1, "x"]}},
            "wrong-type",
            "cuda_graph_config.batch_sizes[1]",
            "",
        ),
        (OLD, {"enable_autotuner": 1}, "wrong-type", "enable_autotuner", ""),
        (
            OLD,
            {"moe_config": {"backend": "TRITN"}},
            "not-a-choice",
            "moe_config.backend",
            "did you mean TRITON",
        ),
        (
            OLD,
            {"speculative_config": {"decoding_type": "Eagl"}},
            "not-a-choice",
            "speculative_config.decoding_type",
            "did you mean Eagle",
        ),
        (
            OLD,
            {"speculative_config": {"max_draft_len": 3}},
            "missing-key",
            "speculative_config",
            "add decoding_type",
        ),
        (OLD, {"attn_backend": "FLASHINFR"}, "unlisted-value", "attn_backend", "did you mean FLASHINFER"),
        (OLD, {"stream_interval": 0}, "out-of-bounds", "stream_interval", ""),
        (
            OLD,
            {"nvfp4_gemm_config": {"allowed_backends": []}},
            "out-of-bounds",
            "nvfp4_gemm_config.allowed_backends",
            "",
        ),
        (
            NEW,
            {"kv_cache_compression_config": {}},
            "missing-key",
            "kv_cache_compression_config",
            "add algorithm",
        ),
        (NEW, {"sampler_type": "auto"}, "deprecated", "sampler_type", "remove it"),
        # another backend
        (OLD, {"fast_build": True}, "engine-only", "fast_build", "remove it"),
        (
            OLD,
            {"speculative_config": {"decoding_type": "Medusa"}},
            "engine-only",
            "speculative_config.decoding_type",
            "choose",
        ),
        # code, files, addresses
        (OLD, {"custom_tokenizer": "my.module.Tokenizer"}, "refused", "custom_tokenizer", "remove it"),
        (OLD, {"env_overrides": {"LD_PRELOAD": "x.so"}}, "refused", "env_overrides", "remove it"),
        (
            OLD,
            {"kv_connector_config": {"connector_module": "m"}},
            "refused",
            "kv_connector_config",
            "remove it",
        ),
        (NEW, {"post_processor_hook": "m.f"}, "refused", "post_processor_hook", "remove it"),
        (
            OLD,
            {"speculative_config": {"decoding_type": "UserProvided", "drafter": "x"}},
            "refused",
            "speculative_config.drafter",
            "remove it",
        ),
        (
            OLD,
            {"moe_config": {"load_balancer": "/etc/x.yaml"}},
            "refused",
            "moe_config.load_balancer",
            "write its content out",
        ),
        (OLD, {"otlp_traces_endpoint": "http://x"}, "names-host", "otlp_traces_endpoint", "make sure"),
    ],
)
def test_a_wrong_argument_is_named_with_the_way_out(
    version: str, args: dict[str, Any], kind: str, path: str, hint: str
) -> None:
    problem = only(version, args)
    shown = "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem.path
    ).removeprefix(".")
    assert (problem.kind, shown) == (kind, path)
    assert problem.hint.startswith(hint)
    assert problem.message
    assert problem.hint


@pytest.mark.parametrize("key", SAID_ELSEWHERE)
def test_what_the_recipe_says_elsewhere_is_refused_with_the_place(key: str) -> None:
    problem = only(OLD, {key: 1})
    assert problem.kind == "said-elsewhere"
    assert SAID_ELSEWHERE[key] in problem.hint


@pytest.mark.parametrize("version", [OLD, NEW])
def test_every_key_with_a_special_reason_exists_in_some_version(version: str) -> None:
    schemas = [read_data("llm_args_1.2.1.json"), read_data("llm_args_1.3.json")]
    for path in [*REFUSED, *((key,) for key in SAID_ELSEWHERE)]:
        assert any(SchemaWalk(schema).property_at(path) for schema in schemas), (version, path)


def test_several_problems_are_found_at_once() -> None:
    args = {
        "kv_cache_dtype": "fp8",
        "moe_config": {"backend": "AUTO", "max_num_tokens": "x"},
        "tensor_parallel_size": 2,
    }
    assert {problem.kind for problem in check_llm_args(OLD, args)} == {
        "renamed",
        "wrong-type",
        "said-elsewhere",
    }


def test_the_given_arguments_are_left_as_they_were() -> None:
    args = {
        "kv_cache_dtype": "fp8",
        "moe_config": {"backend": "AUTO"},
        "speculative_config": {"decoding_type": "Eagle3"},
    }
    before = json.dumps(args)
    check_llm_args(OLD, args)
    assert json.dumps(args) == before


def test_an_unknown_version_is_not_judged_here() -> None:
    assert check_llm_args("0.20.0", {"zzz": 1}) == ()


def test_an_installed_schema_decides_with_references_and_unions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "tensorrt_llm"
    (root / INSTALLED_SCHEMA).parent.mkdir(parents=True)
    (root / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    schema = {
        "$defs": {
            "Inner": {
                "type": "object",
                "properties": {"count": {"type": "integer", "exclusiveMinimum": 0}},
                "additionalProperties": False,
            },
        },
        "type": "object",
        "properties": {
            "inner": {"anyOf": [{"$ref": "#/$defs/Inner"}, {"type": "null"}]},
            "mode": {"allOf": [{"enum": ["a"]}], "type": ["string", "integer"]},
            "loop": {"$ref": "#/properties/loop"},
        },
        "additionalProperties": False,
    }
    (root / INSTALLED_SCHEMA).write_text(json.dumps(schema))
    monkeypatch.syspath_prepend(str(tmp_path))
    llm_args._installed_root.cache_clear()
    try:
        assert check_llm_args(OLD, {"inner": {"count": 1}, "mode": "x"}) == ()
        assert only(OLD, {"inner": {"count": 0}}).kind == "out-of-bounds"
        assert only(OLD, {"inner": {"cout": 1}}).hint == "did you mean count"
        assert only(OLD, {"kv_cache_config": {}}).kind == "unknown-key"
        assert only(OLD, {"mode": []}).kind == "wrong-type"
        check_llm_args(OLD, {"loop": {"a": 1}})
    finally:
        llm_args._installed_root.cache_clear()


KEYS = sorted(
    {*read_data("llm_args_1.3.json")["properties"], "zzz", "backend", "dtype", "decoding_type", "mode"}
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.sampled_from(["fp8", "Eagle3", "MTP", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=15,
)


@settings(max_examples=200, deadline=None)
@given(
    version=st.sampled_from([OLD, NEW, LATE, "1.4.0", "9.9"]),
    args=st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=5),
)
def test_no_arguments_give_a_traceback(version: str, args: dict[str, Any]) -> None:
    for problem in check_llm_args(version, args):
        assert problem.message
        assert problem.hint
