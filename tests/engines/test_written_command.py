"""Command lines of trtllm-build that others wrote."""

from __future__ import annotations

import shlex

import pytest

from bwdeploy.engines.command import parse_build_command


def effects(*words: str) -> list[tuple[str, str]]:
    return [(problem.flag, problem.effect) for problem in parse_build_command(words).problems]


def test_both_spellings_aliases_and_abbreviations_are_read() -> None:
    parsed = parse_build_command(
        shlex.split(
            "mpirun -n 2 /usr/local/bin/trtllm-build --checkpoint_dir=/c --output_dir /o --max_batch 8 "
            "--max_decoder_seq_len 4096 --strip_plan --lora_target_modules attn_q attn_v --gemm-plugin auto"
        )
    )
    assert parsed.problems == ()
    assert parsed.flags == {
        "checkpoint_dir": "/c",
        "output_dir": "/o",
        "max_seq_len": 4096,
        "max_batch_size": 8,
        "strip_plan": True,
        "lora_target_modules": ["attn_q", "attn_v"],
        "gemm_plugin": "auto",
    }


def test_the_last_of_two_counts_and_the_first_is_told() -> None:
    parsed = parse_build_command(["--workers", "1", "--workers", "4"])
    assert parsed.flags == {"workers": 4}
    assert [(one.flag, one.value, one.effect) for one in parsed.problems] == [("workers", "1", "lost")]


@pytest.mark.parametrize(
    ("words", "flag", "effect"),
    [
        (["--tp_size", "8"], "tp_size", "layout"),
        (["--auto_parallel", "8"], "auto_parallel", "layout"),
        (["--use_custom_all_reduce", "disable"], "use_custom_all_reduce", "no-effect"),
        (["--max_output_len", "512"], "max_output_len", "lost"),
        (["--use_weight_only"], "use_weight_only", "checkpoint"),
        (["--gemm_plugn", "auto"], "gemm_plugn", "unknown"),
        (["--max_", "1"], "max_", "unknown"),
        (["--gemm_plugin", "int4"], "gemm_plugin", "invalid"),
        (["--workers"], "workers", "invalid"),
        (["--workers", "two"], "workers", "invalid"),
        (["--workers", "-2"], "workers", "invalid"),
        (["--workers", "2", "3"], "workers", "invalid"),
        (["--strip_plan", "enable"], "strip_plan", "invalid"),
        (["stray"], "", "unknown"),
    ],
)
def test_what_does_not_come_through_is_told(words: list[str], flag: str, effect: str) -> None:
    parsed = parse_build_command(words)
    assert parsed.flags == {}
    assert [(one.flag, one.effect) for one in parsed.problems] == [(flag, effect)]
    assert parsed.problems[0].message


def test_options_of_the_old_scripts_are_read_by_their_new_names() -> None:
    parsed = parse_build_command(
        shlex.split(
            "python3 build.py --use_gpt_attention_plugin float16 --enable_context_fmha --use_fused_mlp"
        )
    )
    assert parsed.flags == {
        "gpt_attention_plugin": "float16",
        "context_fmha": "enable",
        "use_fused_mlp": "enable",
    }
    assert {one.effect for one in parsed.problems} == {"renamed"}


def test_the_nearest_option_is_offered() -> None:
    assert parse_build_command(["--gemm_plugn", "auto"]).problems[0].hint == "did you mean --gemm_plugin"
    assert parse_build_command(["--gemm_plugin", "nvpf4"]).problems[0].hint == "did you mean nvfp4"


def test_nothing_is_an_empty_command() -> None:
    assert parse_build_command([]) == ({}, ())
    assert effects("trtllm-build") == []
