"""`draft measure`, `train` and `sweep` as a user meets them; what a worker would measure is given."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from bwdeploy.cli import main
from bwdeploy.errors import GateError
from bwdeploy.pipeline.jobs import Executor
from bwdeploy.pipeline.training_jobs import DraftAudit
from bwdeploy.recipe.load import LoadedRecipe
from bwdeploy.recipe.schema import DraftMeasurement
from bwdeploy.stages.acceptance import MEASUREMENT
from bwdeploy.stages.draft import REPORT, DraftReport
from tests.report.drafts_measured import R1_LENGTHS, lengths, measured, timing, trained

RECIPE = """\
schema: 1
name: tiny
model: {source: file://./model}
quantize: {format: fp8}
"""
EAGLE3 = RECIPE + "speculative: {method: eagle3, train: {}}\n"
PROMPT = '{"prompt": "a b", "workload": "chat"}\n'
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "num_hidden_layers": 8,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "vocab_size": 256,
    "max_position_embeddings": 8192,
}


class Answer:
    """What one call of the command line gave."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BWDEPLOY_CACHE", str(tmp_path / "cache"))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "r1.json").write_text(json.dumps({"acceptance_length": R1_LENGTHS}))
    return tmp_path


class Builds:
    """Stands in for the builds: what was asked for, and what comes of it by FFN width."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.asked: list[tuple[LoadedRecipe, str]] = []
        self.refused: set[int] = set()

    def until(self, loaded: LoadedRecipe, stage: str, executor: Executor) -> Mapping[str, Path]:
        self.asked.append((loaded, stage))
        section = loaded.recipe.speculative
        width = (section.train.ffn_width if section and section.train else None) or 128
        if width in self.refused:
            raise GateError("the draft does not pass", hint="look")
        made = self.place / f"made-{width}"
        made.mkdir(exist_ok=True)
        one = measured(overall=lengths(tuple(value + width / 1e4 for value in R1_LENGTHS)), timings=TIMINGS)
        (made / MEASUREMENT).write_text(one.model_dump_json())
        report = DraftReport(audit=DraftAudit(shape=None, findings=()), training=trained(width))
        (made / REPORT).write_text(report.model_dump_json())
        return {"draft": made, "acceptance": made}

    @property
    def measurement(self) -> DraftMeasurement | None:
        section = self.asked[-1][0].recipe.speculative
        return section.measure if section else None


TIMINGS = (timing(1), timing(64, t0=10.0, delta=12.0))


@pytest.fixture
def builds(place: Path, monkeypatch: pytest.MonkeyPatch) -> Builds:
    made = Builds(place)
    monkeypatch.setattr("bwdeploy.cli.draft.built_until", made.until)
    monkeypatch.setattr("bwdeploy.cli.draft_builds.built_until", made.until)
    return made


@pytest.fixture
def draft(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*words: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["bwdeploy", "draft", *words])
        code = main()
        shown = capsys.readouterr()
        assert "Traceback" not in shown.err
        return Answer(code, shown.out, shown.err)

    return run


def test_deepseek_r1_gets_three_tokens_without_a_model(place: Path, draft: Any) -> None:
    words = ("measure", "--acceptance", "r1.json", "--t0", "8.95", "--delta", "0.751")
    answer = draft(*words, "--json").json
    assert answer["draft_len"] == 3
    assert answer["speedup"] == pytest.approx([1.771, 2.209, 2.253, 2.239, 2.120], abs=0.001)
    assert (answer["t0"], answer["delta"], answer["draft_len_schedule"]) == (8.95, 0.751, {"1": 3})
    assert "draft length 3" in draft(*words).out


def test_timings_are_fitted_and_make_a_schedule(place: Path, draft: Any) -> None:
    (place / "two.json").write_text('{"step_ms": {"0": 9.009, "3": 11.146}}')
    answer = draft("measure", "--acceptance", "r1.json", "--timings", "two.json", "--json").json
    assert (answer["draft_len"], answer["t0"]) == (3, pytest.approx(9.009))
    assert answer["delta"] == pytest.approx(0.7123, abs=0.0001)
    rows = [one.model_dump(mode="json") for one in TIMINGS]
    (place / "batches.json").write_text(json.dumps({"timings": rows, "device": "x"}))
    answer = draft("measure", "--acceptance", "r1.json", "--timings", "batches.json", "--t0", "3", "--json")
    schedule = [(int(size), length) for size, length in answer.json["draft_len_schedule"].items()]
    assert schedule == sorted(schedule, key=lambda one: (one[0], -one[1]))
    assert schedule[0] == (1, 3)
    assert schedule[-1] == (answer.json["stops_paying_at"], 0)
    assert "--t0 and --delta are not used" in answer.err
    assert "not used: device" in answer.err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "measure needs an output directory or a recipe"),
        (["--acceptance", "r1.json"], 2, "--t0 is missing"),
        (["--acceptance", "r1.json", "--t0", "9"], 2, "--delta is missing"),
        (["--acceptance", "r1.json", "--t0", "nan", "--delta", "1"], 2, "--t0 nan"),
        (["--acceptance", "r1.json", "--t0", "0", "--delta", "1"], 2, "--t0 0"),
        (["--acceptance", "r1.json", "--t0", "9", "--delta", "-1"], 2, "--delta -1"),
        (["--acceptance", "r1.json", "--t0", "9", "--delta", "inf"], 2, "--delta inf"),
        (["--acceptance", "none.json", "--t0", "9", "--delta", "1"], 2, "none.json cannot be read"),
        (["--acceptance", "r1.json", "--timings", "steep.json"], 2, "would take -98 ms"),
        (["--acceptance", "dead.json", "--t0", "9", "--delta", "1"], 6, "next to nothing is accepted"),
        (["--acceptance", "r1.json", "--prompts", "builtin"], 2, "--acceptance runs no model"),
        (["recipe.yaml", "--acceptance", "r1.json"], 2, "--acceptance runs no model"),
        (["--acceptance", "r1.json", "--executor", "local"], 2, "--acceptance runs no model"),
        (["recipe.yaml", "--t0", "9"], 2, "go with --acceptance"),
        (["recipe.yaml"], 2, "drafts nothing"),
        (["none.yaml"], 2, "none.yaml"),
        (["model"], 5, "not an output"),
        (["eagle3.yaml", "--prompts", "none.jsonl"], 2, "there is no file none.jsonl"),
        (["eagle3.yaml", "--plot", "x.pdf"], 2, "neither PNG nor SVG"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_wrong_measurement_is_one_clear_error(
    words: Sequence[str], code: int, message: str, place: Path, draft: Any
) -> None:
    (place / "recipe.yaml").write_text(RECIPE)
    (place / "eagle3.yaml").write_text(EAGLE3)
    (place / "dead.json").write_text('{"acceptance_length": [1.03, 1.04]}')
    (place / "steep.json").write_text('{"1": 1.0, "2": 100.0}')
    answer = draft("measure", *words)
    assert (answer.code, answer.out) == (code, "")
    assert message in answer.err
    assert answer.err.count("error") == 1


def test_a_recipe_is_built_up_to_its_measurement(place: Path, builds: Builds, draft: Any) -> None:
    (place / "recipe.yaml").write_text(EAGLE3)
    answer = draft("measure", "recipe.yaml", "--json")
    assert (answer.code, answer.json["draft_len"], builds.asked[0][1]) == (0, 3, "acceptance")
    assert builds.measurement == DraftMeasurement()
    assert answer.json["measurement"]["device"] == "NVIDIA H100"
    config = answer.json["speculative_config"]
    assert config["max_draft_len"] == config["draft_len_schedule"]["1"] == 3
    assert "real speculative decoding" in draft("measure", "recipe.yaml").out


def test_prompts_are_a_file_or_the_builtin_ones(place: Path, builds: Builds, draft: Any) -> None:
    given = "  measure: {prompts: 'file://own.jsonl', new_tokens: 64}\n"
    (place / "own.jsonl").write_text(PROMPT * 4)
    (place / "other file.jsonl").write_text(PROMPT * 5)
    text = RECIPE + "speculative:\n  method: eagle3\n  train: {}\n" + given
    (place / "recipe.yaml").write_text(text)
    for words, name, prompts in (
        ((), "tiny", f"file://{place}/own.jsonl"),
        (("--prompts", "builtin"), "tiny-prompts", "builtin://workloads"),
        (("--prompts", "other file.jsonl"), "tiny-prompts", f"file://{place}/other file.jsonl"),
    ):
        assert draft("measure", "recipe.yaml", *words).code == 0
        assert builds.measurement == DraftMeasurement(prompts=prompts, new_tokens=64)
        assert builds.asked[-1][0].recipe.name == name  # the recipe's own measurement stays in the store


@pytest.mark.parametrize("verb", ["measure", "sweep --ffn 256,512"])
def test_wrong_prompts_are_told_before_a_draft_is_trained(
    verb: str, place: Path, builds: Builds, draft: Any
) -> None:
    (place / "recipe.yaml").write_text(EAGLE3)
    for text, message in (
        ("hello\n", "p.jsonl:1 is not JSON"),
        (PROMPT * 3, "3 prompts of workload 'chat'"),
        ("", "holds no prompt"),
    ):
        (place / "p.jsonl").write_text(text)
        answer = draft(*verb.split(), "recipe.yaml", "--prompts", "p.jsonl")
        assert (answer.code, message in answer.err, builds.asked) == (2, True, [])


def test_wrong_prompts_stop_a_build_before_anything_runs(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "p.jsonl").write_text(PROMPT * 3)
    (place / "recipe.yaml").write_text(EAGLE3)
    prompts = "speculative.measure.prompts=file://p.jsonl"
    monkeypatch.setattr(sys, "argv", ["bwdeploy", "build", "recipe.yaml", "--set", prompts])
    assert main() == 2
    assert "3 prompts of workload 'chat'" in capsys.readouterr().err
    assert not (place / "cache").exists()


def test_an_output_is_measured_by_its_own_recipe(place: Path, builds: Builds, draft: Any) -> None:
    (place / "recipe.yaml").write_text(EAGLE3)
    assert draft("measure", "recipe.yaml").code == 0
    recorded = builds.asked[0][0].recipe.model_dump(mode="json", by_alias=True)
    recorded["speculative"]["measure"] = None
    (place / "out").mkdir()
    (place / "out" / "bwdeploy.json").write_text(json.dumps({"schema": 1, "recipe": recorded}))
    assert draft("measure", "out", "--set", "speculative.measure.new_tokens=32").code == 0
    assert builds.measurement == DraftMeasurement(new_tokens=32)
    assert builds.asked[-1][0].recipe.model.source == f"file://{place}/model"


def test_a_draft_that_the_gate_refuses_is_shown_all_the_same(
    place: Path, builds: Builds, draft: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "recipe.yaml").write_text(EAGLE3)
    assert draft("measure", "recipe.yaml").code == 0
    monkeypatch.setattr("bwdeploy.cli.draft.kept_measurement", lambda *_: place / "made-128")
    builds.refused = {128}
    answer = draft("measure", "recipe.yaml")
    assert (answer.code, "tokens gained in a step" in answer.out) == (6, True)
    assert "does not pass" in answer.err
    assert draft("measure", "recipe.yaml", "--json").json["ok"] is False


def test_a_recipe_that_stands_for_several_builds_is_not_measured(place: Path, draft: Any) -> None:
    (place / "recipe.yaml").write_text(EAGLE3 + "matrix: {quantize.format: [fp8, nvfp4]}\n")
    answer = draft("measure", "recipe.yaml")
    assert (answer.code, "stands for 2 builds" in answer.err) == (2, True)


def test_training_tells_where_the_draft_lies(place: Path, builds: Builds, draft: Any) -> None:
    (place / "recipe.yaml").write_text(EAGLE3)
    answer = draft("train", "recipe.yaml", "--json")
    assert (answer.code, builds.asked[0][1]) == (0, "draft")
    assert answer.json["draft"] == str(place / "made-128" / "files")
    assert "300 steps" in draft("train", "recipe.yaml").out
    (place / "recipe.yaml").write_text(RECIPE)
    assert "trains no draft" in draft("train", "recipe.yaml").err


def test_a_sweep_trains_each_width_once_and_compares_them(place: Path, builds: Builds, draft: Any) -> None:
    (place / "recipe.yaml").write_text(EAGLE3)
    answer = draft("sweep", "recipe.yaml", "--ffn", "512, 256,256", "--json")
    assert [one["ffn_width"] for one in answer.json["drafts"]] == [256, 512]
    assert answer.json["best_ffn_width"] == 512
    assert [stage for _, stage in builds.asked] == ["acceptance"] * 2
    assert [one.recipe.name for one, _ in builds.asked] == ["tiny-ffn-256", "tiny-ffn-512"]
    assert "fastest for one user" in draft("sweep", "recipe.yaml", "--ffn", "256,512").out


def test_a_width_that_the_gate_refuses_does_not_end_the_sweep(
    place: Path, builds: Builds, draft: Any
) -> None:
    (place / "recipe.yaml").write_text(EAGLE3)
    builds.refused = {256}
    answer = draft("sweep", "recipe.yaml", "--ffn", "256,512", "--json")
    assert [one["ffn_width"] for one in answer.json["drafts"]] == [512]
    assert "width 256 is left out" in answer.err
    builds.refused = {256, 512}
    assert draft("sweep", "recipe.yaml", "--ffn", "256,512").code == 6


@pytest.mark.parametrize(
    "widths", ["", "0", "256,x", "-5", "15", "1048577", "²", ",".join(map(str, range(16, 40)))]
)
def test_wrong_widths_are_one_clear_error(widths: str, place: Path, draft: Any) -> None:
    (place / "recipe.yaml").write_text(EAGLE3)
    answer = draft("sweep", "recipe.yaml", "--ffn", widths)
    assert (answer.code, "--ffn" in answer.err) == (2, True)
