"""The tables of MoE backends, weight formats and models agree with each other and with what upstream says."""

from __future__ import annotations

import pytest

from bwdeploy.facts.algorithms import algorithms, canonical, title_of
from bwdeploy.facts.formats import format_table
from bwdeploy.facts.gpus import all_gpus
from bwdeploy.facts.llm_args import bundled_schema
from bwdeploy.facts.model_formats import known_bad, listed_model
from bwdeploy.facts.moe_backends import (
    UNQUANTIZED,
    VANILLA,
    default_backend,
    fitting_backends,
    moe_backends,
)
from bwdeploy.facts.reader import read_data


def test_every_format_of_a_recipe_is_a_known_weight_format() -> None:
    assert {canonical(facts.quant_algo) for facts in format_table().formats.values()} <= set(algorithms())


def test_a_recipe_format_and_its_weight_format_name_the_same_gpus() -> None:
    for word, facts in format_table().formats.items():
        assert facts.sm == algorithms()[canonical(facts.quant_algo)].sm, word


def test_backends_speak_about_known_formats_only() -> None:
    for backend in moe_backends().values():
        assert {*backend.formats, *backend.maybe} <= {*algorithms(), UNQUANTIZED}, backend.name


@pytest.mark.parametrize("version", ["1.2.1", "1.3.0rc20"])
def test_backends_that_a_version_accepts_are_all_known(version: str) -> None:
    schema = bundled_schema(version)
    assert schema is not None
    accepted = set(schema.schema["$defs"]["MoeConfig"]["properties"]["backend"]["enum"])
    assert accepted - {"AUTO", VANILLA} == {
        name for name, backend in moe_backends().items() if not backend.since or version >= backend.since
    }


def test_every_column_of_the_model_table_is_a_weight_format() -> None:
    columns = {row.column for row in algorithms().values()} - {""}
    for family in read_data("model_formats.json")["families"]:
        assert set(family["columns"]) <= columns, family["name"]


def test_nvfp4_experts_run_on_every_gpu_that_has_nvfp4() -> None:
    for gpu in all_gpus():
        if gpu.sm in algorithms()["NVFP4"].sm:
            assert "CUTLASS" in fitting_backends("NVFP4", gpu.sm)


def test_backends_that_a_version_lacks_are_not_offered() -> None:
    assert "DENSEGEMM" not in fitting_backends("NVFP4", 100, version="1.2.1")
    assert "DENSEGEMM" in fitting_backends("NVFP4", 100, version="1.3.0rc20")


def test_gpt_oss_is_offered_only_backends_that_know_its_activation() -> None:
    assert fitting_backends("MXFP4", 90, gpt_oss=True) == ("CUTLASS", "TRITON")
    assert fitting_backends("MXFP4", 100, gpt_oss=True) == ("CUTLASS", "TRTLLM")


@pytest.mark.parametrize(
    ("version", "architecture", "sm", "backend"),
    [
        ("1.2.1", "GptOssForCausalLM", 100, "CUTLASS"),
        ("1.3.0rc1", "GptOssForCausalLM", 100, "TRTLLM"),
        ("1.3.0rc1", "GptOssForCausalLM", 90, "TRITON"),
        ("1.3.0rc1", "GptOssForCausalLM", 120, "CUTLASS"),
        ("1.3.0rc1", "MixtralForCausalLM", 100, "CUTLASS"),
    ],
)
def test_the_default_backend_is_upstreams(version: str, architecture: str, sm: int, backend: str) -> None:
    assert default_backend(version=version, architecture=architecture, sm=sm) == backend


def test_spellings_lead_to_one_name() -> None:
    assert {canonical(name) for name in ("fp8_pb_wo", "FP8_PB_WO", "FP8_BLOCK_SCALES")} == {
        "FP8_BLOCK_SCALES"
    }
    assert title_of(canonical("int4_awq")) == "W4A16 AWQ"
    assert title_of("SOMETHING_NEW") == "SOMETHING_NEW"


def test_a_known_failure_is_about_one_model_format_and_gpu() -> None:
    assert known_bad("gemma3", "NVFP4", 120) is not None
    assert known_bad("gemma3", "NVFP4", 100) is None
    assert known_bad("gemma3", "FP8", 120) is None
    assert known_bad("llama", "NVFP4", 120) is None
    assert listed_model("no_such_model") is None
