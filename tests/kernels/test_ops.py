from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bwdeploy.errors import RecipeError
from bwdeploy.kernels.ops import FORMATS, PLACES, read_op, read_ops, shipped_ops
from bwdeploy.places import shipped_plugins
from tests.kernels.sample import SAMPLE_OP, SAMPLE_PLUGINS, copy_of_sample, replace_in


def test_a_declaration_is_read_as_it_stands() -> None:
    op = read_op(SAMPLE_OP)
    assert (op.name, op.summary, op.replaces) == ("double_rows", "Twice each element.", "norm")
    assert (op.quantizes, op.gpus, op.sms) == (("fp8",), (1,), ("sm_90a", "sm_120a"))
    assert op.torch_ops == ("double_rows",)
    assert [unit.defines["SAMPLE_TYPE"] for unit in op.units] == ["float", "__half"]
    assert {unit.source for unit in op.units} == {"kernel.cu"}


@pytest.mark.parametrize(
    ("old", "new", "path", "message"),
    [
        ('name = "double_rows"', 'name = "other"', "name", "got 'other' in the folder double_rows"),
        ('name = "double_rows"', "name = 3", "name", "got 3, wanted text"),
        ('summary = "Twice each element."\n', "", "summary", "got nothing, wanted text"),
        ('summary = "Twice each element."', 'sumary = "x"', "sumary", "unknown key"),
        ('quantizes = ["fp8"]', 'quantizes = ["fp6"]', "quantizes", "got 'fp6', wanted of fp8, nvfp4"),
        ('quantizes = ["fp8"]', 'quantizes = "fp8"', "quantizes", "got 'fp8', wanted a list of texts"),
        ('quantizes = ["fp8"]', 'quantizes = ["fp8", "fp8"]', "quantizes", "names something twice"),
        ('replaces = "norm"', 'replaces = "attention"', "replaces", "wanted one of norm, mlp, allreduce"),
        ("gpus = [1]", "gpus = [0]", "gpus", "got 0, wanted whole numbers above 0"),
        ("gpus = [1]", "gpus = [true]", "gpus", "got True"),
        ("gpus = [1]", "gpus = []", "gpus", "got [], wanted a list of numbers of GPUs"),
        ('"sm_90a", "sm_120a"', '"sm_90"', "sms", "got 'sm_90', wanted an architecture like sm_100a"),
        ("double_rows(Tensor x) -> Tensor", "double_rows", "schemas", "wanted a torch schema like"),
        ('source = "kernel.cu"', 'source = "kernl.cu"', "units[0].source", "there is no file 'kernl.cu'"),
        ('source = "kernel.cu"', 'source = "../x.cu"', "units[0].source", "there is no file '../x.cu'"),
        ('source = "kernel.cu"', 'sorce = "kernel.cu"', "units[1].sorce", "unknown key"),
        ('SAMPLE_TYPE = "float"', "SAMPLE_TYPE = 1", "units[0].defines", "wanted a table like"),
        ('SAMPLE_TYPE = "float"', '"A-B" = "float"', "units[0].defines", "wanted a table like"),
        ("[[units]]", "[units", "", "is no TOML"),
    ],
)
def test_every_wrong_value_names_file_and_key(
    tmp_path: Path, old: str, new: str, path: str, message: str
) -> None:
    folder = copy_of_sample(tmp_path) / "double_rows"
    replace_in(folder / "op.toml", old, new)
    with pytest.raises(RecipeError) as caught:
        read_op(folder)
    found = [finding for finding in caught.value.findings if finding.path == path]
    assert any(message in finding.message for finding in found), caught.value
    assert {finding.file for finding in found} == {str(folder / "op.toml")}
    assert all(finding.hint for finding in found)


def test_a_misspelled_key_is_told_with_the_nearest_one(tmp_path: Path) -> None:
    folder = copy_of_sample(tmp_path) / "double_rows"
    replace_in(folder / "op.toml", "replaces =", "replace =")
    with pytest.raises(RecipeError, match="Did you mean replaces"):
        read_op(folder)


def test_all_problems_of_all_ops_are_told_at_once(tmp_path: Path) -> None:
    plugins = copy_of_sample(tmp_path)
    (plugins / "second").mkdir()
    (plugins / "second" / "op.toml").write_text('name = "second"\n')
    replace_in(plugins / "double_rows" / "op.toml", "gpus = [1]", 'gpus = ["one"]\nspeed = 1')
    (plugins / "double_rows" / "bind.cpp").unlink()
    with pytest.raises(RecipeError) as caught:
        read_ops(plugins)
    told = {(Path(finding.file).parent.name, finding.path) for finding in caught.value.findings}
    assert {("double_rows", "gpus"), ("double_rows", "speed"), ("double_rows", "")} <= told
    assert {("second", key) for key in ("summary", "quantizes", "units", "schemas")} <= told


def test_folders_without_a_declaration_are_no_ops() -> None:
    assert (SAMPLE_PLUGINS / "common").is_dir()
    assert list(read_ops(SAMPLE_PLUGINS)) == ["double_rows"]


def test_shipped_ops_are_found_and_read() -> None:
    folders = {file.parent.name for file in shipped_plugins().glob("*/op.toml")}
    ops = shipped_ops()
    assert ops
    assert set(ops) == folders
    names = [name for op in ops.values() for name in op.torch_ops]
    assert len(names) == len(set(names))
    assert {op.replaces for op in ops.values()} <= set(PLACES)
    assert {kind for op in ops.values() for kind in op.quantizes} == set(FORMATS)


def test_reading_ops_imports_nothing_that_check_does_not_have() -> None:
    code = (
        "import sys, bwdeploy.checks.recipes; before = set(sys.modules)\n"
        "from bwdeploy.kernels.ops import shipped_ops; shipped_ops()\n"
        "print(sorted(name for name in set(sys.modules) - before if not name.startswith('bwdeploy')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "torch" not in done.stdout
    assert "subprocess" not in done.stdout
