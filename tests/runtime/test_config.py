from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bwdeploy_runtime.config import EngineConfig
from bwdeploy_runtime.errors import ConfigError


def test_json_reads_back_as_it_was_written() -> None:
    config = EngineConfig(
        runtime="reference",
        flush_tokens=3,
        max_seq_len=100,
        startup_timeout_s=2.5,
        kernels="kernels",
        kernel_ops=("a", "b"),
        environment={"TRTLLM_ENABLE_PDL": "1"},
    )
    assert EngineConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"flush_token": 3}, "unknown key 'flush_token'. Did you mean flush_tokens?"),
        ({"runtime": "vllm"}, "runtime is 'vllm'. Valid names: echo, reference, tensorrt_llm."),
        ({"flush_tokens": 0}, "flush_tokens is 0, outside 1 to 4096"),
        ({"flush_tokens": True}, "flush_tokens is True, not a whole number"),
        ({"flush_tokens": "3"}, "flush_tokens is '3', not a whole number"),
        ({"streaming": 1}, "streaming is 1, not true or false"),
        ({"checkpoint": "../other"}, "checkpoint is '../other', not a path inside"),
        ({"checkpoint": "/etc"}, "checkpoint is '/etc', not a path inside"),
        ({"kernels": "../pack", "kernel_ops": ["a"]}, "kernels is '../pack', not a path inside"),
        (
            {"kernels": "kernels"},
            "kernels, the directory of the pack, and kernel_ops, its ops, need each other",
        ),
        ({"kernel_ops": ["a"]}, "need each other"),
        ({"kernel_ops": "a"}, "kernel_ops is 'a', not a list of names"),
        ({"kernels": "kernels", "kernel_ops": [""]}, "kernel_ops is ('',), not a list of names"),
        ({"environment": ["A=1"]}, "environment is ['A=1'], not names with their values"),
        ({"environment": {"A": 1}}, "environment is {'A': 1}, not names with their values"),
        ({"runtime": "tensorrt_llm"}, "needs llm_args"),
        ({"stall_timeout_s": float("nan")}, "stall_timeout_s is nan"),
    ],
)
def test_a_wrong_value_is_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=r"^engine\.json: ") as caught:
        EngineConfig.from_json(json.dumps({"runtime": "echo"} | change))
    assert message in str(caught.value)


def test_all_wrong_values_are_named_at_once() -> None:
    with pytest.raises(ConfigError, match=r"flush_tokens.*max_running"):
        EngineConfig(runtime="echo", flush_tokens=0, max_running=0)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", "{"])
def test_what_is_no_configuration_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"engine\.json"):
        EngineConfig.from_json(text)


@given(
    st.dictionaries(
        st.sampled_from(list(json.loads(EngineConfig(runtime="echo").to_json()))),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers()),
    )
)
def test_no_value_gives_a_traceback(data: dict[str, object]) -> None:
    with suppress(ConfigError):
        EngineConfig.from_json(json.dumps(data))
