"""The command line of trtllm-build that is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from bwdeploy.engines.command import EngineRequest, build_command, default_workers, flag_paths
from bwdeploy.errors import RecipeError


def request(**flags: object) -> EngineRequest:
    return EngineRequest(
        checkpoint=Path("/c"),
        out=Path("/o"),
        max_batch_size=8,
        max_num_tokens=512,
        max_seq_len=64,
        workers=2,
        build_flags=flags,
    )


def test_sizes_places_and_workers_come_first_and_flags_keep_the_order_of_the_table() -> None:
    words = build_command(request(gemm_plugin="nvfp4", max_beam_width=2))
    assert words == (
        "--checkpoint_dir", "/c", "--output_dir", "/o", "--max_batch_size", "8", "--max_seq_len", "64",
        "--max_beam_width", "2", "--max_num_tokens", "512", "--workers", "2", "--gemm_plugin", "nvfp4",
    )  # fmt: skip


def test_a_switch_is_bare_a_list_is_words_and_false_is_left_out() -> None:
    words = build_command(
        request(weight_streaming=True, fast_build=False, lora_target_modules=["attn_q", "attn_v"])
    )
    assert words[words.index("--lora_target_modules") + 1 :][:2] == ("attn_q", "attn_v")
    assert "--weight_streaming" in words
    assert "--fast_build" not in words


def test_workers_of_the_flags_win_and_an_alias_is_written_by_its_name() -> None:
    words = build_command(request(workers=1, max_multimodal_len=4))
    assert words[words.index("--workers") + 1] == "1"
    assert words[words.index("--max_prompt_embedding_table_size") + 1] == "4"


def test_all_wrong_options_are_told_at_once() -> None:
    with pytest.raises(RecipeError) as raised:
        build_command(
            request(gemm_plugn="auto", strip_plan="yes", logits_dtype="int8", output_dir="/elsewhere")
        )
    assert [one.path for one in raised.value.findings] == [
        "engine.build_flags.gemm_plugn",
        "engine.build_flags.strip_plan",
        "engine.build_flags.logits_dtype",
        "engine.build_flags.output_dir",
    ]
    assert raised.value.findings[0].hint == "did you mean gemm_plugin"


@pytest.mark.parametrize("text", ["--workers", "-x", "", "a\nb", "a\0b"])
def test_no_value_becomes_an_option(text: str) -> None:
    with pytest.raises(RecipeError):
        build_command(request(model_cls_name=text))


@pytest.mark.parametrize(("tp", "pp", "gpus", "workers"), [(4, 2, 8, 8), (4, 2, 2, 2), (1, 1, 8, 1)])
def test_no_more_workers_than_ranks_or_gpus(tp: int, pp: int, gpus: int, workers: int) -> None:
    assert default_workers(tp=tp, pp=pp, gpus_per_node=gpus) == workers


def test_paths_of_flags_are_what_a_container_has_to_see() -> None:
    paths = flag_paths(
        {
            "model_cls_file": "/m/m.py",
            "model_cls_name": "/not/a/path",
            "lora_dir": ["/l/a", "/l/b", "/l/a"],
            "input_timing_cache": "relative.cache",
            "output_timing_cache": "/t/model.cache",
            "visualize_network": "/v",
        }
    )
    assert paths.reads == (Path("/m/m.py"), Path("/l/a"), Path("/l/b"))
    assert paths.writes == (Path("/t"), Path("/v"))
    assert flag_paths({"lora_dir": [3, None], "output_timing_cache": 5}) == ((), ())
