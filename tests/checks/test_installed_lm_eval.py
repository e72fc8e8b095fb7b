"""What the lm-eval of this machine can be asked; a directory stands in for the package."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import pytest

from bwdeploy.accuracy.installed_tasks import installed_lm_eval, task_names
from bwdeploy.checks import check
from bwdeploy.checks.themes import gate
from bwdeploy.recipe.load import load_recipes

FILES = {
    "gsm8k/gsm8k.yaml": "tag:\n  - math_word_problems\ntask: gsm8k\ndataset_path: openai/gsm8k\n",
    "mmlu/_mmlu.yaml": "group: mmlu # all of it\ntask:\n  - mmlu_stem\n",
    "mmlu/anatomy.yaml": '"tag": "mmlu_stem"\n"task": "mmlu_anatomy"\n',
    "arc/arc.yml": "tag: [ai2_arc, 'easy']\ntask: arc_easy\n",
    "glue/template": "tag: glue\n",
    "gsm8k/utils.py": "task: not_this_one\n",
}
NAMES = {
    "gsm8k", "math_word_problems", "mmlu", "mmlu_stem", "mmlu_anatomy", "ai2_arc", "easy", "arc_easy", "glue"
}  # fmt: skip


@pytest.fixture
def package(tmp_path: Path) -> Path:
    root = tmp_path / "site" / "lm_eval"
    for name, text in FILES.items():
        (root / "tasks" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "tasks" / name).write_text(text)
    (root / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    return root


def said(tmp_path: Path, task: str) -> dict[str, str]:
    file = tmp_path / "r.yaml"
    file.write_text(
        "schema: 1\nname: n\nmodel: {source: 'hf://a/b@0123456789abcdef0123456789abcdef01234567'}\n"
        f"quantize: {{format: nvfp4}}\ngate: {{tasks: [{{task: '{task}'}}]}}\n"
    )
    (loaded,) = load_recipes(file)
    found = check(loaded)
    return {one.rule: f"{one.severity}: {one.path}: {one.message} > {one.hint}" for one in found}


def test_names_are_those_of_tasks_groups_and_tags(package: Path) -> None:
    assert task_names(package) == NAMES


def test_package_is_found_and_not_imported(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "lm_eval", raising=False)
    monkeypatch.syspath_prepend(str(package.parent))
    assert installed_lm_eval() == package


def test_unknown_task_is_an_error_with_the_nearest_name(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "installed_lm_eval", lambda: package)
    assert said(tmp_path, "gsm_8k")["gate-task-unknown"] == (
        "error: gate.tasks[0].task: the installed lm-eval has no task 'gsm_8k' > Did you mean gsm8k"
    )
    assert "gate-task-unknown" not in said(tmp_path, "mmlu_stem")


def test_missing_lm_eval_is_told_and_its_names_are_not_guessed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "installed_lm_eval", lambda: None)
    findings = said(tmp_path, "gsm_8k")
    assert findings["gate-lm-eval-missing"].startswith("info: gate.tasks: lm-eval is not installed here")
    assert "gate-task-unknown" not in findings


@pytest.mark.slow
def test_every_name_of_the_real_package_is_known() -> None:
    pytest.importorskip("lm_eval", reason="the extra `accuracy` is not installed")
    package, manager = installed_lm_eval(), import_module("lm_eval.tasks").TaskManager()
    assert package is not None
    assert set(manager.all_tasks) - task_names(package) == set()
