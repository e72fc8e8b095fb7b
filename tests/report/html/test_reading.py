"""The artifacts of a build become the report's data: of today's builds, of older and of damaged ones."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bwdeploy.cli.reporting import report, tells_of_refused
from bwdeploy.errors import GateError, RecipeError, StoreError
from bwdeploy.pipeline.jobs import AuditFinding, JobData
from bwdeploy.pipeline.plan import Plan, PlannedStage
from bwdeploy.pipeline.stage import Step
from bwdeploy.pipeline.store import Artifact, Store
from bwdeploy.places import shipped_recipes
from bwdeploy.recipe.schema import Recipe
from bwdeploy.report.html import page as page_module
from bwdeploy.report.html import reporter as reporter_module
from bwdeploy.report.html.page import html_report
from bwdeploy.report.html.reading import read_build
from bwdeploy.report.html.reporter import PAGE, HtmlReporter, report_of_output, report_of_recipe
from bwdeploy.stages.acceptance import AcceptanceStage
from bwdeploy.stages.draft import DraftReport
from bwdeploy.stages.gate import GateStage
from tests.report.html.sample import (
    RECIPE_TEXT,
    recipe,
    sample_acceptance,
    sample_accuracy,
    sample_audit,
    sample_quantized,
    sample_report,
)


def written(directory: Path, **files: JobData | str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        text = content if isinstance(content, str) else content.model_dump_json()
        (directory / f"{name}.json").write_text(text)
    return directory


@pytest.fixture
def made(tmp_path: Path) -> dict[str, Path]:
    whole = sample_report()
    assert whole.draft_audit
    drafted = DraftReport(audit=whole.draft_audit, training=whole.draft_training)
    return {
        "quantize": written(tmp_path / "quantize", quantize=sample_quantized()),
        "gate": written(tmp_path / "gate", audit=sample_audit(), accuracy=sample_accuracy()),
        "draft": written(tmp_path / "draft", draft=drafted),
        "acceptance": written(tmp_path / "acceptance", acceptance=sample_acceptance()),
        "kernels": written(tmp_path / "kernels", manifest=json.dumps(pack_manifest())),
    }


def pack_manifest() -> dict[str, Any]:
    kernel = {"name": "k", "registers": 40, "shared_bytes": 0, "spill_bytes": 0, "stack_bytes": 0}
    figure = {"variant": "fp8", "rows": 1, "width": 64, "microseconds": 1.0, "p10": 0.9, "p90": 1.1}
    op = {
        "name": "op",
        "summary": "adds",
        "architectures": {"sm_100a": {"status": "measured", "kernels": [kernel], "table": [figure]}},
    }
    return {
        "cuda": {"nvcc": "13.0.88", "minimum_driver": "580"},
        "abi": {"torch_stable": "2.9"},
        "ops": [op],
    }


def manifest(**changes: Any) -> dict[str, Any]:
    stages = [
        {
            "name": name,
            "key": "a" * 64,
            "tools": {"torch": "2.11.0"},
            "params": {},
            "sources": {},
            "seconds_to_make": 1.5,
            "files": [{"path": "x", "size_bytes": 40, "sha256": "b" * 64}],
        }
        for name in ("source", "quantize")
    ]
    return {
        "schema": 1,
        "bwdeploy": "0.1.0",
        "name": "built",
        "recipe_text": RECIPE_TEXT,
        "recipe": recipe().model_dump(mode="json", by_alias=True),
        "host": {"device": "cpu"},
        "stages": stages,
        "files": [],
    } | changes


def test_every_artifact_is_read(made: dict[str, Path]) -> None:
    data = read_build(manifest(), made, recipe())
    assert data.problems == ()
    assert data.quantized == sample_quantized()
    assert data.audit == sample_audit()
    assert [one.name for one in data.judged][:2] == [one.name for one in sample_report().judged][:2]
    assert data.acceptance == sample_acceptance()
    assert data.choice == sample_report().choice
    assert data.draft_training == sample_report().draft_training
    assert data.kernels
    assert data.kernels.tables[0].figures[0].microseconds == 1.0
    assert data.estimate == sample_report().estimate
    assert data.needs
    assert data.needs.memory
    assert data.stages[1].size_bytes == 40


def test_build_of_which_nothing_is_left_still_has_its_plan() -> None:
    data = read_build(manifest(), {}, recipe())
    assert (data.audit, data.quantized, data.acceptance, data.kernels, data.problems) == (None,) * 4 + ((),)


def test_audit_from_before_errors_were_kept_is_read(made: dict[str, Path]) -> None:
    old = json.loads(sample_audit().model_dump_json())
    del old["tensor_errors"]
    written(made["gate"], audit=json.dumps(old))
    data = read_build(manifest(), made, recipe())
    assert data.audit
    assert data.audit.tensor_errors == ()
    assert data.problems == ()


@pytest.mark.parametrize("content", ["{", "[]", '{"tensors": 1}', '{"unknown": 1}'])
def test_file_that_cannot_be_read_is_named_and_the_rest_reported(made: dict[str, Path], content: str) -> None:
    written(made["gate"], audit=content)
    written(made["kernels"], manifest=content)
    data = read_build(manifest(), made, recipe())
    assert data.audit is None
    assert data.kernels is None
    assert data.accuracy is not None
    assert "gate/audit.json" in data.problems[0]
    assert "kernel pack" in data.problems[1]


def test_place_of_the_store_is_not_told(made: dict[str, Path]) -> None:
    hint = f"chmod 0644 {made['quantize']}/model.safetensors"
    one = AuditFinding(check="file-mode", severity="warning", message="odd", hint=hint)
    written(made["gate"], audit=sample_audit(findings=(one,)))
    data = read_build(manifest(), made, recipe())
    assert data.audit
    assert data.audit.findings[0].hint == "chmod 0644 …/quantize/model.safetensors"


def test_unquantized_build_has_no_quantization_result(made: dict[str, Path]) -> None:
    plain = recipe(quantize={"method": "none"})
    written(made["quantize"], quantize='{"ranks": 2}')  # of an export without quantization
    data = read_build(manifest(), made, plain)
    assert data.quantized is None
    assert data.problems == ()


def test_times_that_allow_no_choice_leave_the_acceptance(made: dict[str, Path]) -> None:
    bare = sample_acceptance().model_copy(update={"timings": ()})
    written(made["acceptance"], acceptance=bare)
    data = read_build(manifest(), made, recipe())
    assert data.acceptance == bare
    assert data.choice is None


def test_output_whose_store_is_gone_is_reported_from_what_it_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_module, "can_draw", lambda: False)
    out = tmp_path / "out"
    written(out / "report", audit=sample_audit())
    (out / "bwdeploy.json").write_text(json.dumps(manifest()))
    page = report_of_output(out, Store(tmp_path / "store"))
    assert "5.813" in page


def planned(stage: Any, directory: Path) -> PlannedStage:
    document: dict[str, Any] = {"tools": {}, "params": {}, "sources": {}}
    artifact = Artifact(
        stage=stage.name, key="a" * 64, directory=directory, files=(), key_document=document, seconds=1.0
    )
    return PlannedStage(
        stage=stage,
        step=Step(params={}, command=""),
        key="a" * 64,
        document=document,
        artifact=artifact,
        why="",
    )


def test_stopped_build_is_reported_with_the_reason_of_the_stage_that_stopped_it(
    made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_module, "can_draw", lambda: False)
    strict = recipe(gate={"max_kl_divergence": 0.001})
    stages = (planned(GateStage(), made["gate"]), planned(AcceptanceStage(), tmp_path))
    plan = Plan(recipe=strict, stages=(stages[0], dataclasses.replace(stages[1], artifact=None)))
    monkeypatch.setattr(reporter_module, "plan_recipe", lambda *_, **__: plan)
    page = report_of_recipe(loaded(strict), Store(tmp_path / "store"))
    assert "the checkpoint does not pass the gate" in page
    assert "KL divergence" in page
    assert "stopped" in page


def test_recipe_that_was_never_built_has_no_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = Plan(recipe=recipe(), stages=())
    monkeypatch.setattr(reporter_module, "plan_recipe", lambda *_, **__: empty)
    with pytest.raises(StoreError, match="nothing of llama-8b-qad-eagle3"):
        report_of_recipe(loaded(recipe()), Store(tmp_path / "store"))


def loaded(built: Recipe) -> Any:
    return SimpleNamespace(recipe=built, text=RECIPE_TEXT)


def test_verb_writes_the_page_of_an_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(page_module, "can_draw", lambda: False)
    monkeypatch.setenv("BWDEPLOY_STORE", str(tmp_path / "store"))
    out = tmp_path / "out"
    written(out / "report", audit=sample_audit())
    (out / "bwdeploy.json").write_text(json.dumps(manifest()))
    report(out, file=tmp_path / "page.html")
    assert "5.813" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "page.html" in capsys.readouterr().out
    with pytest.raises(StoreError, match="cannot write"):
        report(out, file=tmp_path / "absent" / "page.html")


def test_bug_of_the_report_leaves_the_output_whole_and_is_told(
    made: dict[str, Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> str:
        raise ZeroDivisionError

    monkeypatch.setattr(reporter_module, "html_report", broken)
    assert HtmlReporter().pages(manifest(), made) == {}
    assert "ZeroDivisionError" in caplog.text


def test_reporter_writes_one_page_and_draws_where_matplotlib_is(
    made: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert HtmlReporter().made_with.startswith("matplotlib ")
    monkeypatch.setattr(reporter_module, "can_draw", lambda: False)
    assert HtmlReporter().made_with == "no pictures"
    monkeypatch.setattr(reporter_module, "html_report", lambda data: html_report(data, pictures=False))
    pages = HtmlReporter().pages(manifest(), made)
    assert set(pages) == {PAGE}
    assert "<h1>built</h1>" in pages[PAGE]


def test_check_and_plan_import_neither_template_nor_plot_library(tmp_path: Path) -> None:
    file = shipped_recipes() / "smollm2-135m-nvfp4.yaml"
    code = (
        "import sys\n"
        "from bwdeploy.cli import main\n"
        f"for verb in ('check', 'plan'):\n    sys.argv = ['bwdeploy', verb, {str(file)!r}]\n    main()\n"
        "assert 'bwdeploy.build' in sys.modules\n"
        "print(sorted({'matplotlib', 'jinja2', 'numpy'} & sys.modules.keys()), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip().splitlines()[-1] == "[]", done.stderr


@pytest.mark.parametrize("lost", ["host", "stages", "recipe", "recipe_text"])
def test_manifest_that_lacks_a_part_is_refused_with_what_to_do(tmp_path: Path, lost: str) -> None:
    whole = manifest()
    del whole[lost]
    (tmp_path / "bwdeploy.json").write_text(json.dumps(whole))
    with pytest.raises(StoreError, match="damaged or of another version") as caught:
        report_of_output(tmp_path, Store(tmp_path / "store"))
    assert "Build the recipe again" in caught.value.hint


def test_output_in_the_current_directory_is_read_word_for_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_module, "can_draw", lambda: False)
    one = AuditFinding(check="odd", severity="warning", message="see the report of it")
    written(tmp_path / "report", audit=sample_audit(findings=(one,)))
    (tmp_path / "bwdeploy.json").write_text(json.dumps(manifest()))
    monkeypatch.chdir(tmp_path)
    assert "see the report of it" in report_of_output(Path(), Store(tmp_path / "store"))


def test_model_that_only_the_build_has_is_estimated_too(made: dict[str, Path], tmp_path: Path) -> None:
    hub = recipe(model={"source": f"hf://nobody/unheard-of@{'0' * 40}"})
    assert read_build(manifest(), made, hub).estimate is None
    config = {
        "architectures": ["LlamaForCausalLM"],
        "num_hidden_layers": 2,
        "hidden_size": 64,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "vocab_size": 256,
    }
    source = written(tmp_path / "source", config=json.dumps(config))
    assert read_build(manifest(), made | {"source": source}, hub).estimate is not None


def an_output(directory: Path) -> Path:
    written(directory / "report", audit=sample_audit())
    (directory / "bwdeploy.json").write_text(json.dumps(manifest()))
    return directory


def test_page_is_called_after_the_whole_name_of_its_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_module, "can_draw", lambda: False)
    monkeypatch.setenv("BWDEPLOY_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    an_output(tmp_path / "llama-3.1")
    report(Path("llama-3.1"))
    report(Path("llama-3.1/report/.."), as_json=True)
    assert [file.name for file in tmp_path.glob("*.html")] == ["llama-3.1-report.html"]


def test_page_is_not_written_into_its_output(tmp_path: Path) -> None:
    out = an_output(tmp_path / "out")
    with pytest.raises(RecipeError, match="stays as it was built"):
        report(out, file=out / "report" / "index.html")
    with pytest.raises(RecipeError, match="--set changes recipes only"):
        report(out, overrides=["name=x"])
    recipe_file = tmp_path / "recipe.yaml"
    recipe_file.write_text(RECIPE_TEXT)
    with pytest.raises(RecipeError, match="stays as it was built"):
        report(recipe_file, file=recipe_file)


def test_refused_build_names_the_command_that_shows_all_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    with (
        pytest.raises(GateError),
        tells_of_refused(Path("my recipe.yaml"), ["a.b=[1, 2]"], "slurm", Path("at.yaml")),
    ):
        raise GateError("no")
    assert capsys.readouterr().err == (
        "all that was measured: bwdeploy report 'my recipe.yaml' --set 'a.b=[1, 2]' --executor slurm"
        " --executor-file at.yaml\n"
    )
