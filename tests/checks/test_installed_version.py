"""An installed tensorrt_llm of another version than the recipe's; a directory stands in for the package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bwdeploy.checks import check
from bwdeploy.facts import llm_args
from bwdeploy.recipe.load import load_recipes


@pytest.fixture(autouse=True)
def _forget_installed_package() -> Any:
    yield
    llm_args._installed_root.cache_clear()


def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, installed: str, wanted: str) -> dict[str, str]:
    root = tmp_path / "site" / "tensorrt_llm"
    root.mkdir(parents=True)
    (root / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    (root / "version.py").write_text(f'__version__ = "{installed}"\n')
    monkeypatch.syspath_prepend(str(root.parent))
    llm_args._installed_root.cache_clear()
    file = tmp_path / "r.yaml"
    file.write_text(
        "schema: 1\nname: n\nmodel: {source: 'hf://a/b@0123456789abcdef0123456789abcdef01234567'}\n"
        f"quantize: {{format: nvfp4}}\nengine: {{tensorrt_llm: '{wanted}'}}\n"
    )
    (loaded,) = load_recipes(file)
    return {one.rule: f"{one.severity}: {one.message} > {one.hint}" for one in check(loaded)}


def test_another_installed_version_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    findings = said(tmp_path, monkeypatch, installed="1.2.0", wanted="1.2.1")
    assert findings["engine-version-installed"] == (
        "warning: the installed tensorrt_llm is 1.2.0 > Install 1.2.1, or set engine.tensorrt_llm: 1.2.0"
    )


def test_the_same_installed_version_is_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "engine-version-installed" not in said(tmp_path, monkeypatch, installed="1.2.1", wanted="1.2.1")


def test_an_installed_version_that_no_list_knows_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "engine-version-unknown" not in said(tmp_path, monkeypatch, installed="1.2.9", wanted="1.2.9")
