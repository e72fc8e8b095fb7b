"""What the repository says of its kernels is what was measured, and says so only of these sources."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from benchmarks import kernel_tables
from benchmarks.results import RESULTS

from bwdeploy.kernels.digests import source_digest
from bwdeploy.kernels.measured import Measured, measured_file, measured_json, read_measured
from bwdeploy.kernels.ops import OpDeclaration, shipped_ops

OP = "add_rmsnorm_quant_fp8"
ROW = {
    "op": OP, "variant": "fp8 static", "rows": 8, "width": 5120, "microseconds": 1.7, "p10": 1.6, "p90": 1.8,
    "baselines": {"torch.compile": 2.8}, "copy_share": None,
}  # fmt: skip


def write_result(directory: Path, name: str, **changes: Any) -> Path:
    measured = {
        "sm": "sm_90a", "gpu": "NVIDIA H100 80GB HBM3", "driver": "580.1", "cuda": "13.0", "torch": "2.11.0",
        "commit": "abc1234", "date": "2026-01-02", "sources": {OP: "a" * 64}, "rows": [ROW],
    }  # fmt: skip
    path = directory / f"{name}.json"
    path.write_text(json.dumps({"command": "python -m x", "machine": {}, "measured": measured | changes}))
    return path


@pytest.fixture
def op() -> OpDeclaration:
    return shipped_ops()[OP]


def test_measured_json_readme_and_declarations_are_in_step() -> None:
    results = [path for pattern in kernel_tables.PATTERNS for path in RESULTS.glob(pattern)]
    readme = kernel_tables.README.read_text(encoding="utf-8")
    hint = "run: python -m benchmarks.kernel_tables"
    assert measured_file().read_text(encoding="utf-8") == measured_json(
        kernel_tables.measured_of(sorted(results))
    ), hint
    assert readme == kernel_tables.with_tables(readme, kernel_tables.tables_text()), hint


def test_every_measured_op_and_architecture_is_declared() -> None:
    ops = shipped_ops()
    assert ops
    for name, by_sm in read_measured(measured_file()).ops.items():
        assert set(by_sm) <= set(ops[name].sms)


def test_the_newest_measurement_of_each_architecture_counts(tmp_path: Path) -> None:
    paths = [
        write_result(tmp_path, "kernels_a", date="2026-02-01", commit="newer"),
        write_result(tmp_path, "kernels_b", date="2026-01-01", commit="older"),
    ]
    measured = kernel_tables.measured_of(paths)
    assert measured.ops[OP]["sm_90a"].commit == "newer"
    assert measured.ops[OP]["sm_90a"].rows[0].microseconds == 1.7


def test_an_op_without_figures_was_not_measured(tmp_path: Path) -> None:
    path = write_result(tmp_path, "kernels_a", sources={OP: "a" * 64, "silu_mul_quant_fp8": "b" * 64})
    assert set(kernel_tables.measured_of([path]).ops) == {OP}


def test_only_these_very_sources_count_as_measured(tmp_path: Path, op: OpDeclaration) -> None:
    measured = kernel_tables.measured_of(
        [write_result(tmp_path, "kernels_a", sources={OP: source_digest(op)})]
    )
    assert kernel_tables.status(op, "sm_90a", measured) == "measured on NVIDIA H100 80GB HBM3"
    assert kernel_tables.status(op, "sm_100a", measured) == "compiled"
    folder = tmp_path / "plugins"
    shutil.copytree(op.folder.parent, folder)
    kernel = folder / OP / "kernel.cu"
    kernel.write_text(kernel.read_text() + "\nconstexpr int kAnotherKernel = 1;\n")
    changed = OpDeclaration(**{name: getattr(op, name) for name in op.__slots__} | {"folder": folder / OP})
    assert "an earlier source was measured" in kernel_tables.status(changed, "sm_90a", measured)
    assert measured.at(OP, "sm_90a", source_digest(changed)) is None


def test_a_file_of_measurements_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    measured = kernel_tables.measured_of([write_result(tmp_path, "kernels_a")])
    (tmp_path / "measured.json").write_text(measured_json(measured))
    assert read_measured(tmp_path / "measured.json") == measured
    assert read_measured(tmp_path / "absent.json") == Measured()


def test_the_text_around_the_tables_stays() -> None:
    page = f"before\n{kernel_tables.BEGIN}\nold\n{kernel_tables.END}\nafter\n"
    again = kernel_tables.with_tables(page, "new\n")
    assert again == f"before\n{kernel_tables.BEGIN}\n\nnew\n\n{kernel_tables.END}\nafter\n"
    assert kernel_tables.with_tables(again, "new\n") == again
