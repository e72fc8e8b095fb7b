"""The options of trtllm-build."""

from __future__ import annotations

import pytest

from bwdeploy.facts.build_flags import (
    aliases,
    build_flags,
    engine_architectures,
    former_flags,
    plugins_refused_on,
    removed_flags,
)
from bwdeploy.facts.reader import read_data


def test_every_option_is_described_once() -> None:
    flags = build_flags()
    assert len(flags) == 67
    for name, flag in flags.items():
        assert flag.name == name
        assert name == name.strip("-").replace("-", "_")
        assert flag.help
        assert flag.default is None or not flag.choices or flag.default in flag.choices
    assert not set(aliases()) & set(flags)
    assert not removed_flags() & set(flags)


def test_former_options_are_none_of_today_and_lead_to_one_when_renamed() -> None:
    former = former_flags()
    assert removed_flags() <= set(former)
    assert not set(former) & {*build_flags(), *aliases()}
    for name, one in former.items():
        assert one.fate, name
        assert (one.became in build_flags()) == (one.effect == "renamed")


def test_paths_and_first_versions_are_marked() -> None:
    marked = {name: flag.path for name, flag in build_flags().items() if flag.path}
    assert marked == {
        "model_cls_file": "read",
        "input_timing_cache": "read",
        "lora_dir": "read",
        "output_timing_cache": "write",
        "visualize_network": "write",
    }
    assert build_flags()["fuse_fp4_quant"].absent_up_to == "0.17"


def test_an_alias_leads_to_its_option() -> None:
    assert aliases()["max_decoder_seq_len"] == "max_seq_len"


@pytest.mark.parametrize(
    ("sm", "count", "stated"),
    [(100, 5, True), (103, 5, False), (120, 5, False), (121, 5, False), (90, 0, False)],
)
def test_plugins_are_refused_on_named_architectures_only(sm: int, count: int, *, stated: bool) -> None:
    banned, is_stated = plugins_refused_on(sm)
    assert (len(banned), is_stated) == (count, stated)
    assert banned <= set(build_flags())


def test_architectures_are_those_of_the_engine_backend() -> None:
    assert {"LlamaForCausalLM", "MixtralForCausalLM", "Qwen3MoeForCausalLM"} <= engine_architectures()
    assert not {"GptOssForCausalLM", "DeepseekV3ForCausalLM"} & engine_architectures()


def test_the_table_names_its_sources() -> None:
    data = read_data("trtllm_build_flags.json")
    assert data["sources"]
    assert data["confidence"]
