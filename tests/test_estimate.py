from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bwdeploy.errors import HostError, RecipeError, StoreError, ToolError
from bwdeploy.estimate.figures import AICONFIGURATOR_BAND, FORMULA_BAND, Estimate, EstimateRequest
from bwdeploy.estimate.recipe import estimate_recipe
from bwdeploy.planner.speed.roofline import BAND
from bwdeploy.recipe.load import load_recipes
from bwdeploy.report.estimates import estimate_json, estimate_text
from bwdeploy.report.plot import write_plot

STAND_IN = Path(__file__).parent / "tools" / "stand_in_aiconfigurator.py"
R1 = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "model_type": "deepseek_v3",
    "hidden_size": 7168,
    "num_hidden_layers": 61,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "intermediate_size": 18432,
    "moe_intermediate_size": 2048,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
    "first_k_dense_replace": 3,
    "moe_layer_freq": 1,
    "q_lora_rank": 1536,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "num_nextn_predict_layers": 1,
    "vocab_size": 129280,
    "max_position_embeddings": 163840,
    "torch_dtype": "bfloat16",
    "tie_word_embeddings": False,
}
RECIPE = """\
schema: 1
name: r1
model: {source: file://deepseek-r1}
quantize: {format: nvfp4_experts_only}
engine: {max_batch_size: 64, max_num_tokens: 8192, max_seq_len: 4096}
layout: {gpu: B200, gpus_per_node: 8, tp: 8, ep: 2}
"""
SPEED = (
    "expect={speed: {metric: tokens_per_s_per_user, value: %s, source: blog1,"
    " workload: {input_tokens: 1024, output_tokens: 2048, concurrency: 1}}}"
)
MTP = "speculative={method: mtp, draft_len: 3}"


@pytest.fixture(autouse=True)
def _no_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BWDEPLOY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.delenv("BWDEPLOY_AICONFIGURATOR", raising=False)


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "python-stand-in"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{STAND_IN}" "$@"\n')
    python.chmod(0o755)
    monkeypatch.setenv("BWDEPLOY_AICONFIGURATOR", str(python))


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    model = tmp_path / "deepseek-r1"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(R1))
    (model / "model.safetensors").touch()
    file = tmp_path / "r.yaml"
    file.write_text(RECIPE)
    return file


def estimated(file: Path, *overrides: str, **asked: Any) -> Estimate:
    (loaded,) = load_recipes(file, overrides=overrides)
    return estimate_recipe(loaded.recipe, EstimateRequest(**asked))


def test_without_the_tool_the_roofline_is_used_and_the_reason_said(recipe: Path) -> None:
    found = estimated(recipe)
    assert found.method == "roofline"
    assert "aiconfigurator is not installed" in found.why
    assert "pip install aiconfigurator==0.12.0" in found.why
    assert {point.band for point in found.points} == {BAND}


def test_the_recipes_own_point_is_its_full_batch(recipe: Path) -> None:
    assert estimated(recipe).own_point.concurrency == 64
    assert estimated(recipe, "layout.attention_dp=true").own_point.concurrency == 512


def test_concurrency_and_workload_can_be_asked_for(recipe: Path) -> None:
    found = estimated(recipe, concurrency=(8, 1), input_tokens=100, output_tokens=200)
    assert [point.concurrency for point in found.points] == [1, 8]
    assert found.load[1:] == (100, 200)


def test_published_deepseek_r1_speed_with_drafts_lies_in_the_band(recipe: Path) -> None:
    found = estimated(recipe, MTP, SPEED % 253)
    (compared,) = found.expect
    assert compared.verdict == "inside"
    assert compared.look_at == ()
    assert found.drafts is not None
    assert found.drafts.acceptance_length == 2.82
    assert "blog1" in found.drafts.source
    assert found.drafts.gain_alone == pytest.approx(2.28, rel=0.05)
    assert found.drafts.best_draft_len in {2, 3, 4}


def test_a_figure_out_of_reach_names_the_settings_to_look_at(recipe: Path) -> None:
    wrong = ("layout.attention_dp=true", "layout.ep=8", "engine.max_num_tokens=1000")
    (compared,) = estimated(recipe, *wrong, SPEED % 253).expect
    assert compared.verdict == "above"
    assert [setting.key for setting in compared.look_at] == [
        "engine.max_num_tokens",
        "layout.attention_dp",
        "speculative",
        "engine.llm_args.moe_config.backend",
        "layout.ep",
    ]
    assert all(setting.source for setting in compared.look_at)


def test_a_figure_far_below_is_told_too(recipe: Path) -> None:
    assert estimated(recipe, SPEED % 40).expect[0].verdict == "below"


def test_settings_that_the_figures_take_for_granted_are_noted(recipe: Path) -> None:
    notes = estimated(recipe, "engine.llm_args={cuda_graph_config: null}").notes
    assert any("CUDA graphs are off" in note for note in notes)


def relaxed(delta: float) -> str:
    settings = f"use_relaxed_acceptance_for_thinking: true, relaxed_topk: 10, relaxed_delta: {delta}"
    return f"engine.llm_args={{speculative_config: {{decoding_type: MTP, {settings}}}}}"


def test_relaxed_acceptance_has_its_own_published_length(recipe: Path) -> None:
    drafts = estimated(recipe, MTP, relaxed(0.6)).drafts
    assert drafts is not None
    assert drafts.acceptance_length == 3.10
    assert "relaxed, top 10, delta 0.6" in drafts.source


def test_other_relaxed_acceptance_is_counted_as_strict_and_told(recipe: Path) -> None:
    found = estimated(recipe, MTP, relaxed(0.1))
    assert found.drafts is not None
    assert found.drafts.acceptance_length == 2.82
    assert any("the strict one is counted" in note for note in found.notes)


@pytest.mark.parametrize("acceptance", [4.5, -0.1, math.inf, math.nan])
def test_an_acceptance_that_cannot_be_is_refused(acceptance: float, recipe: Path) -> None:
    with pytest.raises(RecipeError, match="gains 1 to 4 tokens"):
        estimated(recipe, MTP, acceptance=acceptance)


def test_an_acceptance_without_drafts_is_refused(recipe: Path) -> None:
    with pytest.raises(RecipeError, match="the recipe drafts nothing"):
        estimated(recipe, acceptance=2.0)


def test_requests_that_are_too_long_for_the_recipe_are_told(recipe: Path) -> None:
    notes = estimated(recipe, input_tokens=4000, output_tokens=1000).notes
    assert any("engine.max_seq_len is 4096" in note for note in notes)


@pytest.mark.parametrize(("acceptance", "length"), [(2.5, 2.5), (0.5, 1.875), (1.0, 4.0), (0.0, 1.0)])
def test_acceptance_is_a_length_or_a_rate(acceptance: float, length: float, recipe: Path) -> None:
    drafts = estimated(recipe, MTP, acceptance=acceptance).drafts
    assert drafts is not None
    assert drafts.acceptance_length == pytest.approx(length)


def test_a_dead_draft_is_told(recipe: Path) -> None:
    notes = estimated(recipe, MTP, acceptance=1.04).notes
    assert any("1.04" in note and "does not fit" in note for note in notes)


def test_a_length_that_is_yet_to_be_measured_is_the_one_that_should_pay(recipe: Path) -> None:
    found = estimated(recipe, "speculative={method: mtp, draft_len: auto}")
    assert found.drafts is not None
    assert found.drafts.draft_len == found.drafts.best_draft_len
    assert found.drafts.draft_len in {2, 3, 4}


def test_drafts_of_unknown_acceptance_are_left_out_and_told(recipe: Path) -> None:
    found = estimated(recipe, "speculative={method: mtp, draft_len: 9}")
    assert found.drafts is None
    assert any("give --acceptance" in note for note in found.notes)


def test_a_batch_that_does_not_fit_is_told(recipe: Path) -> None:
    notes = estimated(recipe, concurrency=(100_000,)).notes
    assert any("some wait" in note for note in notes)


def test_a_recipe_without_a_gpu_cannot_be_estimated(recipe: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        estimated(recipe, "layout.gpu=null")
    assert caught.value.findings[0].path == "layout.gpu"


def test_a_model_that_is_not_here_cannot_be_estimated(recipe: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        estimated(recipe, f"model.source=hf://nobody/nothing@{'0' * 40}")
    assert caught.value.findings[0].path == "model.source"
    assert caught.value.findings[0].hint


@pytest.mark.usefixtures("tool")
def test_with_the_tool_its_tables_are_used(recipe: Path) -> None:
    found = estimated(recipe)
    assert found.method == "aiconfigurator"
    assert {point.band for point in found.points} == {AICONFIGURATOR_BAND}
    assert found.own_point.tokens_per_s_per_user == pytest.approx(1000 / 11.4)
    assert any("holds tables of TensorRT-LLM 1.3.0rc20, the recipe has 1.2.1" in note for note in found.notes)


@pytest.mark.usefixtures("tool")
def test_formulas_of_the_tool_have_a_band_of_their_own(recipe: Path) -> None:
    (point,) = estimated(recipe, concurrency=(2000,)).points
    assert (point.method, point.band) == ("aiconfigurator", FORMULA_BAND)


@pytest.mark.usefixtures("tool")
def test_data_parallel_attention_asks_for_the_batch_of_a_rank(recipe: Path) -> None:
    found = estimated(recipe, "layout.attention_dp=true", concurrency=(512,))
    assert found.points[0].tokens_per_s_per_user == pytest.approx(1000 / 11.4)
    assert found.points[0].tokens_per_s_per_gpu == pytest.approx(1000 / 11.4 * 64)


@pytest.mark.usefixtures("tool")
def test_drafts_speed_up_the_tools_figures(recipe: Path) -> None:
    plain, drafted = estimated(recipe), estimated(recipe, MTP)
    assert drafted.own_point.tokens_per_s_per_user > plain.own_point.tokens_per_s_per_user


@pytest.mark.usefixtures("tool")
@pytest.mark.parametrize("mode", ["no-data", "fail"])
def test_what_the_tool_cannot_say_comes_from_the_roofline(
    mode: str, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_AIC", mode)
    found = estimated(recipe)
    assert found.method == "roofline"
    assert "so the roofline is used" in found.why


@pytest.mark.usefixtures("tool")
def test_the_tool_is_asked_once_for_each_traffic_and_not_after_a_failure(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = tmp_path / "calls"
    monkeypatch.setenv("STAND_IN_AIC_CALLS", str(calls))
    same = SPEED.replace("2048", "1024") % 253, "expect.other={metric: tokens_per_s, value: 1, source: x}"
    found = estimated(recipe, *same)
    assert [one.method for one in found.expect] == ["aiconfigurator", "aiconfigurator"]
    assert len(calls.read_text()) == 1
    calls.unlink()
    monkeypatch.setenv("STAND_IN_AIC", "fail")
    workload = "{input_tokens: 9, output_tokens: 9}"
    short = f"expect.short={{metric: tokens_per_s, value: 1, source: x, workload: {workload}}}"
    found = estimated(recipe, *same, short)
    assert {one.method for one in found.expect} == {"roofline"}
    assert len(calls.read_text()) == 1


@pytest.mark.usefixtures("tool")
def test_another_version_of_the_tool_is_told(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN_AIC", "other-version")
    assert any("this is 0.13.0: it may not hold" in note for note in estimated(recipe).notes)


@pytest.mark.usefixtures("tool")
def test_a_tool_that_was_asked_for_by_name_must_work(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN_AIC", "fail")
    with pytest.raises(ToolError):
        estimated(recipe, method="aiconfigurator")


@pytest.mark.parametrize("gpu", ["B200", "RTX5090"])
def test_a_tool_that_is_asked_for_and_cannot_answer_is_an_error(gpu: str, recipe: Path) -> None:
    with pytest.raises(HostError):
        estimated(recipe, f"layout.gpu={gpu}", method="aiconfigurator")


@pytest.mark.usefixtures("tool")
def test_the_tool_is_left_alone_when_the_roofline_is_asked_for(recipe: Path) -> None:
    assert estimated(recipe, method="roofline").method == "roofline"


def test_json_has_a_band_with_every_speed(recipe: Path) -> None:
    shown = json.loads(json.dumps(estimate_json(estimated(recipe, MTP, SPEED % 253))))
    assert {"name", "method", "workload", "points", "own_point", "expect", "notes"} <= shown.keys()
    for point in (*shown["points"], shown["own_point"]):
        for key in ("tokens_per_s_per_user", "tokens_per_s_per_gpu"):
            assert point[key]["low"] < point[key]["value"] < point[key]["high"]
    assert shown["expect"][0]["verdict"] == "inside"


def test_text_shows_ranges_and_where_they_come_from(recipe: Path) -> None:
    text = estimate_text(estimated(recipe, MTP, SPEED % 900))
    assert "method: roofline" in text
    assert "← the recipe's own" in text
    assert "0.5 to 2 times the figure" in text
    assert "expect speed: 900 tokens/s per user (published)" in text
    assert "look at engine.llm_args.moe_config.backend" in text
    assert "r1: 8 × B200, 1,024 tokens in, 2,048 out" in text
    assert all(len(line) <= 110 or " " not in line.strip() for line in text.splitlines())


@pytest.mark.parametrize("suffix", [".png", ".svg"])
@pytest.mark.usefixtures("tool")
def test_a_picture_is_drawn(suffix: str, recipe: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    file = tmp_path / f"front{suffix}"
    write_plot(estimated(recipe, SPEED % 253, front=True), file)
    start = file.read_bytes()[:200]
    assert start.startswith(b"\x89PNG") if suffix == ".png" else b"<svg" in file.read_bytes()


def test_a_picture_of_a_single_point_shows_its_band_and_other_traffic(recipe: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    file = tmp_path / "one.svg"
    write_plot(estimated(recipe, "engine.max_batch_size=1", SPEED % 253, input_tokens=9), file)
    text = file.read_text()
    assert "band: 0.5 to 2 times (roofline)" in text
    assert "OTHER TRAFFIC: 1,024 tokens in, 2,048 out" in text


def test_a_picture_of_another_kind_is_refused(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="neither PNG nor SVG"):
        write_plot(estimated(recipe), tmp_path / "front.gif")


@pytest.mark.parametrize(
    ("name", "message"), [("no/front.png", "no directory"), ("front.png", "a directory")]
)
def test_a_picture_that_cannot_be_written_is_told_before_the_work(
    name: str, message: str, recipe: Path, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "front.png").mkdir()
    with pytest.raises(StoreError, match=message):
        write_plot(estimated(recipe), tmp_path / name)


def test_a_picture_without_matplotlib_says_how_to_get_it(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(HostError) as caught:
        write_plot(estimated(recipe), tmp_path / "front.png")
    assert "pip install matplotlib" in caught.value.hint


def test_the_verb_prints_json_and_refuses_bad_numbers(recipe: Path) -> None:
    command = [sys.executable, "-m", "bwdeploy", "estimate", str(recipe), "--method", "roofline"]
    done = subprocess.run(
        [*command, "--json", "--concurrency", "1,8"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert [point["concurrency"] for point in json.loads(done.stdout)["points"]] == [1, 8]
    wrong = subprocess.run([*command, "--concurrency", "1,x"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert "--concurrency: 'x' is no number of requests" in wrong.stderr
