"""Engine directories, whole and broken: written by the stand-in of trtllm-build in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bwdeploy.engines.command import EngineRequest, build_command
from bwdeploy.engines.directory import (
    EngineError,
    ExpectedEngine,
    directory_problems,
    engine_problems,
    read_engine,
)
from bwdeploy.engines.failures import hint_for_log
from tests.engines.rank_checkpoints import write_rank_checkpoint
from tests.tools import stand_in_trtllm_build

STAND_IN = Path(stand_in_trtllm_build.__file__)
EXPECTED = ExpectedEngine("1.2.1", 8, 256, 64, 1, 1, None, None, {})


def request(directory: Path, **flags: Any) -> EngineRequest:
    return EngineRequest(directory / "ckpt", directory / "engine", 8, 256, 64, 2, flags)


def built(directory: Path, *, tp: int = 1, pp: int = 1, quant_algo: str | None = None, **flags: Any) -> Path:
    """An engine, built by the stand-in in this process."""
    write_rank_checkpoint(directory / "ckpt", tp=tp, pp=pp, quant_algo=quant_algo)
    cwd = Path.cwd()
    os.chdir(directory)
    try:
        stand_in_trtllm_build.main(list(build_command(request(directory, **flags))))
    finally:
        os.chdir(cwd)
    return directory / "engine"


def run(directory: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    words = build_command(request(directory))
    return subprocess.run(
        [sys.executable, str(STAND_IN), *words],
        cwd=directory,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_whole_engine_fits_what_was_asked_for(tmp_path: Path) -> None:
    write_rank_checkpoint(tmp_path / "ckpt", tp=2, pp=2, quant_algo="NVFP4", kv_cache_quant_algo="FP8")
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    found = read_engine(tmp_path / "engine")
    expected = EXPECTED._replace(tp=2, pp=2, quant_algo="NVFP4", kv_cache_quant_algo="FP8")
    assert engine_problems(found, expected) == ()
    assert (found.mapping.tp, found.mapping.pp, found.mapping.world_size, found.ranks) == (
        2,
        2,
        4,
        (0, 1, 2, 3),
    )
    assert found.plugin_config["gemm_plugin"] == "nvfp4"
    assert (found.architecture, found.speculative_mode) == ("LlamaForCausalLM", "none")


def test_a_config_alone_is_read_without_a_word_on_ranks(tmp_path: Path) -> None:
    found = read_engine(built(tmp_path, tp=2) / "config.json")
    assert (found.mapping.world_size, found.ranks, found.missing_ranks) == (2, (), ())
    assert directory_problems(found) == ()


def test_drafts_make_room_in_the_engine_that_is_no_fault(tmp_path: Path) -> None:
    flags: dict[str, Any] = {"speculative_decoding_mode": "draft_tokens_external", "max_draft_len": 40}
    found = read_engine(built(tmp_path, **flags))
    assert (found.max_seq_len, found.max_num_tokens) == (64 + 40, 8 * 41)
    assert engine_problems(found, EXPECTED._replace(build_flags=flags)) == ()
    (problem,) = engine_problems(found, EXPECTED._replace(build_flags=flags, max_seq_len=65))
    assert problem == "max_seq_len is 104, not 105"


def test_a_missing_and_an_empty_rank_are_named(tmp_path: Path) -> None:
    engine = built(tmp_path, tp=2, pp=2)
    (engine / "rank1.engine").unlink()
    (engine / "rank3.engine").write_bytes(b"")
    (problem,) = directory_problems(read_engine(engine))
    assert problem == (
        f"{engine} lacks rank1.engine, rank3.engine of its 4 ranks: copy or build all of it again"
    )


@pytest.mark.parametrize(
    ("flags", "asked"),
    [
        ({}, {}),
        ({"max_beam_width": 4}, {}),
        ({"gemm_plugin": "auto", "nccl_plugin": "auto", "context_fmha": "disable"}, {}),
        ({"speculative_decoding_mode": "draft_tokens_external", "max_draft_len": 5}, {}),
        ({"paged_state": "enable", "tokens_per_block": 64}, {}),
        ({"remove_input_padding": "disable"}, {}),
    ],
)
def test_flags_that_were_given_are_found(
    flags: dict[str, Any], asked: dict[str, Any], tmp_path: Path
) -> None:
    found = read_engine(built(tmp_path, **flags))
    assert engine_problems(found, EXPECTED._replace(build_flags=flags | asked)) == ()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            {"tensorrt_llm": "1.1.0"},
            "it was built by TensorRT-LLM 1.2.1, not 1.1.0: no other version loads it",
        ),
        ({"max_batch_size": 16}, "max_batch_size is 8, not 16"),
        ({"max_num_tokens": 128}, "max_num_tokens is 256, not 128"),
        ({"max_seq_len": 63}, "max_seq_len is 64, not 63"),
        ({"tp": 2}, "tp_size is 1, not 2"),
        ({"pp": 2}, "pp_size is 1, not 2"),
        ({"quant_algo": "FP8"}, "quant_algo is none, not FP8"),
        ({"kv_cache_quant_algo": "FP8"}, "kv_cache_quant_algo is none, not FP8"),
        ({"build_flags": {"max_beam_width": 2}}, "max_beam_width is 1, not 2"),
        ({"build_flags": {"context_fmha": "disable"}}, "plugin setting context_fmha is True, not disable"),
        ({"build_flags": {"lora_plugin": "auto"}}, "plugin setting lora_plugin is none, not auto"),
        ({"build_flags": {"tokens_per_block": 64}}, "plugin setting tokens_per_block is 32, not 64"),
    ],
)
def test_what_does_not_fit_is_told(change: dict[str, Any], problem: str, tmp_path: Path) -> None:
    found = read_engine(built(tmp_path))
    assert problem in engine_problems(found, EXPECTED._replace(**change))


def test_tokens_are_expected_as_the_build_bounds_them(tmp_path: Path) -> None:
    write_rank_checkpoint(tmp_path / "ckpt")
    words = build_command(request(tmp_path)._replace(max_batch_size=2, max_num_tokens=4096))
    stand_in_trtllm_build.build(
        stand_in_trtllm_build.parser().parse_args([*words, "--output_timing_cache", str(tmp_path / "t")])
    )
    found = read_engine(tmp_path / "engine")
    assert found.max_num_tokens == 128
    assert engine_problems(found, EXPECTED._replace(max_batch_size=2, max_num_tokens=4096)) == ()


def changed(engine: Path, **keys: Any) -> Path:
    config = json.loads((engine / "config.json").read_text()) | keys
    (engine / "config.json").write_text(
        json.dumps({key: one for key, one in config.items() if one != "gone"})
    )
    return engine


@pytest.mark.parametrize("version", ["gone", None, "17", "0.7.1", "9.9.9", "latest"])
def test_an_unknown_version_is_a_problem_and_no_crash(version: str | None, tmp_path: Path) -> None:
    found = read_engine(changed(built(tmp_path), version=version))
    (problem,) = directory_problems(found)
    assert "version" in problem


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "holds no config.json"),
        ('{"pretrained_config": {', "config.json:1:24: not JSON"),
        ("[]", "holds no JSON object"),
        (b"\xff\xfe", "is not JSON text"),
        ("[" * 100_000, "is not JSON text"),
        ('{"architectures": ["LlamaForCausalLM"]}', "it lacks pretrained_config and build_config"),
        ('{"builder_config": {}, "plugin_config": {}}', "older than 0.9"),
        ('{"architecture": "X", "dtype": "float16"}', "of a TensorRT-LLM checkpoint, not of an engine"),
        ('{"pretrained_config": [], "build_config": {}}', "pretrained_config is not a mapping"),
        (
            '{"pretrained_config": {}, "build_config": {"max_batch_size": "8"}}',
            "max_batch_size is not a whole",
        ),
        (
            '{"pretrained_config": {"mapping": {"tp_size": 2, "world_size": 3}}, "build_config": {}}',
            "is 3, but tp 2",
        ),
        ('{"pretrained_config": {}, "build_config": {"speculative_decoding_mode": 5}}', "5 is not known"),
    ],
)
def test_what_is_no_engine_says_why_and_what_next(
    content: str | bytes | None, message: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "config.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(EngineError, match=message) as raised:
        read_engine(tmp_path)
    assert raised.value.hint
    assert str(tmp_path) in raised.value.message


def test_modes_are_read_as_numbers_and_as_names(tmp_path: Path) -> None:
    engine = built(tmp_path, speculative_decoding_mode="lookahead_decoding", max_draft_len=3)
    assert read_engine(engine).speculative_mode == "lookahead_decoding"
    build = json.loads((engine / "config.json").read_text())["build_config"]
    changed(engine, build_config=build | {"speculative_decoding_mode": "SpeculativeDecodingMode.MEDUSA"})
    assert read_engine(engine).speculative_mode == "medusa"


def test_the_stand_in_fails_late_with_a_log_that_is_known(tmp_path: Path) -> None:
    write_rank_checkpoint(tmp_path / "ckpt")
    (tmp_path / "log").write_text("[TRT] [E] Error Code 2: OutOfMemory (no further information)\n")
    done = run(tmp_path, STAND_IN_FAIL_LOG=str(tmp_path / "log"))
    assert done.returncode == 1
    assert "free the GPU" in hint_for_log(done.stdout.splitlines())


def test_the_stand_in_refuses_as_the_real_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN_SM", "100")
    with pytest.raises(NotImplementedError, match="gemm_swiglu_plugin=fp8 is not supported on SM 100"):
        built(tmp_path, gemm_swiglu_plugin="fp8")
    with pytest.raises(RuntimeError, match="Gather context logits"):
        built(tmp_path, gather_context_logits=True, max_draft_len=2)
    with pytest.raises(AssertionError, match="StreamingLLM"):
        built(tmp_path, streamingllm="enable")
    (tmp_path / "ckpt" / "rank0.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    with pytest.raises(RuntimeError, match="Required but not provided tensors"):
        stand_in_trtllm_build.main(list(build_command(request(tmp_path))))
