"""llm_args.yaml says what the recipe means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import yaml

from bwdeploy.pipeline.stage import Work
from bwdeploy.recipe.schema import Recipe
from bwdeploy.stages.acceptance import AcceptanceStage
from bwdeploy.stages.draft import DraftStage
from bwdeploy.stages.engine import EngineStage, llm_args
from bwdeploy.stages.repository import RepositoryStage
from bwdeploy.tools.executors import local_executor
from tests.pipeline.toy import HOST
from tests.stages.draft_jobs import Answers, acceptance, built, planned
from tests.stages.draft_jobs import recipe as drafting

if TYPE_CHECKING:
    from pathlib import Path

    from bwdeploy.pipeline.training_jobs import DraftAcceptance


def recipe(**sections: Any) -> Recipe:
    return Recipe.model_validate({"schema": 1, "name": "x", "model": {"source": "file:///m"}, **sections})


def test_layout_and_sizes_are_written() -> None:
    arguments = llm_args(
        recipe(layout={"tp": 8, "ep": 8, "attention_dp": True}, engine={"max_batch_size": 7})
    )
    assert arguments["tensor_parallel_size"] == 8
    assert arguments["moe_expert_parallel_size"] == 8
    assert arguments["enable_attention_dp"] is True
    assert arguments["max_batch_size"] == 7


def test_kv_cache_format_joins_other_kv_settings() -> None:
    arguments = llm_args(
        recipe(
            quantize={"format": "fp8", "kv_cache": "fp8"},
            engine={"llm_args": {"kv_cache_config": {"free_gpu_memory_fraction": 0.8}}},
        )
    )
    assert arguments["kv_cache_config"] == {"dtype": "fp8", "free_gpu_memory_fraction": 0.8}


def test_single_gpu_needs_no_expert_or_node_arguments() -> None:
    assert not {"moe_expert_parallel_size", "gpus_per_node"} & llm_args(recipe()).keys()


def test_mtp_is_spelled_as_the_version_spells_it() -> None:
    old = llm_args(recipe(speculative={"method": "mtp"}))
    new = llm_args(recipe(speculative={"method": "mtp"}, engine={"tensorrt_llm": "1.3.0"}))
    assert old["speculative_config"] == {"decoding_type": "MTP", "num_nextn_predict_layers": 3}
    assert new["speculative_config"] == {"decoding_type": "MTP", "max_draft_len": 3}


def test_further_speculative_arguments_join_the_section() -> None:
    engine = {"llm_args": {"speculative_config": {"relaxed_topk": 10}}}
    arguments = llm_args(recipe(speculative={"method": "mtp", "draft_len": 2}, engine=engine))
    assert arguments["speculative_config"] == {
        "decoding_type": "MTP",
        "num_nextn_predict_layers": 2,
        "relaxed_topk": 10,
    }


AUTO = {"train": {}, "draft_len": "auto"}


class Built(NamedTuple):
    """A build with a trained draft, up to its engine."""

    wanted: Recipe
    answers: Answers
    inputs: dict[str, Path]
    """Stage name → artifact, of source, draft and engine."""


def build(place: Path, measured: DraftAcceptance | None = None, **sections: Any) -> Built:
    wanted, answers = drafting(speculative=AUTO, **sections), Answers(measured=measured)
    source = place / "model"
    source.mkdir(parents=True)
    (source / "config.json").write_text("{}")
    draft = built(DraftStage(), wanted, place, answers, source=source, answers=place / "given")
    acceptance = built(AcceptanceStage(), wanted, place, answers, source=source, draft=draft)
    engine = built(EngineStage(), wanted, place, answers, draft=draft, acceptance=acceptance)
    return Built(wanted, answers, {"source": source, "draft": draft, "engine": engine})


def written(place: Path, measured: DraftAcceptance | None = None, **sections: Any) -> dict[str, Any]:
    """llm_args.yaml of a build with a trained draft, measured so."""
    out = build(place, measured, **sections).inputs["engine"]
    arguments: dict[str, Any] = yaml.safe_load((out / "llm_args.yaml").read_text())
    return arguments


def drafted_files(place: Path, measured: DraftAcceptance, server: str) -> set[str]:
    """Files of the draft in what serves such a build."""
    done = build(place, measured, serve={"server": server})
    out = built(RepositoryStage(), done.wanted, place, done.answers, **done.inputs)
    return {path.name for path in out.glob("**/draft/*")}


@pytest.mark.parametrize(
    ("version", "spelled"),
    [
        ("1.2.1", {"decoding_type": "Eagle", "draft_len_schedule": {1: 3, 11: 2, 30: 1}}),
        ("1.3.0rc20", {"decoding_type": "Eagle3", "draft_len_schedule": {10: 3, 29: 2, 64: 1}}),
    ],
)
def test_measured_lengths_and_captured_layers_are_written_as_the_version_reads_them(
    tmp_path: Path, version: str, spelled: dict[str, Any]
) -> None:
    arguments = written(tmp_path, engine={"tensorrt_llm": version})
    assert arguments["speculative_config"] == {
        **spelled,
        "max_draft_len": 3,
        "speculative_model": "draft",
        "eagle3_layers_to_capture": [1, 14, 26],
    }


def test_what_the_recipe_says_stands_over_what_the_draft_says(tmp_path: Path) -> None:
    given = {"speculative_config": {"eagle3_layers_to_capture": [2, 3, 4]}}
    config = written(tmp_path, engine={"llm_args": given})["speculative_config"]
    assert config["eagle3_layers_to_capture"] == [2, 3, 4]


def test_a_draft_that_never_pays_is_not_in_the_arguments(tmp_path: Path) -> None:
    arguments = written(tmp_path, acceptance(1.5, 1.8, steps={1: 30.0, 2: 50.0}))
    assert "speculative_config" not in arguments


@pytest.mark.parametrize("server", ["triton", "trtllm-serve"])
def test_a_draft_is_served_where_it_pays(server: str, tmp_path: Path) -> None:
    assert "config.json" in drafted_files(tmp_path / "pays", acceptance(1.7, 2.2), server)
    assert not drafted_files(tmp_path / "slow", acceptance(1.5, 1.8, steps={1: 30.0, 2: 50.0}), server)


def test_a_fixed_length_does_not_wait_for_the_measurement() -> None:
    step = planned(EngineStage(), drafting(speculative={"train": {}, "measure": {}, "draft_len": 4}))
    assert step.inputs == ("draft",)
    assert step.params["llm_args"]["speculative_config"]["max_draft_len"] == 4


def test_a_draft_is_an_input_of_what_is_served() -> None:
    for server in ("triton", "trtllm-serve"):
        step = planned(RepositoryStage(), drafting(speculative={"train": {}}, serve={"server": server}))
        assert step.inputs == ("source", "engine", "draft")


def test_batch_sizes_that_are_keys_are_written_as_numbers(tmp_path: Path) -> None:
    """A recipe is JSON inside, where every key is text."""
    engine = {"llm_args": {"speculative_config": {"draft_len_schedule": {"1": 3, "8": 1}}}}
    stage = EngineStage()
    step = stage.plan_step(recipe(speculative={"method": "mtp"}, engine=engine), HOST)
    assert step is not None
    stage.run(
        Work(
            step=step,
            inputs={},
            out=tmp_path,
            executor=local_executor(),
            log=tmp_path / "log",
            scratch=tmp_path,
            state=tmp_path,
            on_progress=print,
        )
    )
    written = yaml.safe_load((tmp_path / "llm_args.yaml").read_text())
    assert written["speculative_config"]["draft_len_schedule"] == {1: 3, 8: 1}
