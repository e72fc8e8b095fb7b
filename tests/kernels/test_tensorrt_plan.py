from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bwdeploy.errors import HostError
from bwdeploy.kernels.compile_plan import TorchPlace, plan_op
from bwdeploy.kernels.ops import OpDeclaration, shipped_ops
from bwdeploy.kernels.tensorrt_plan import TensorRtPlace, TensorRtPlan, plan_tensorrt
from bwdeploy.places import shipped_plugins

PLACE = TensorRtPlace(version="10.14.1", include=Path("/trt/include"))
TORCH = TorchPlace(version="2.9.0", include=Path("/t/include"), libraries=Path("/t/lib"))


def plan(ops: dict[str, OpDeclaration]) -> TensorRtPlan:
    return plan_tensorrt(ops, sms=("sm_90a", "sm_100a"), place=PLACE)


def test_kernels_are_the_very_units_of_the_ops_so_that_objects_are_shared() -> None:
    ops = shipped_ops()
    units = plan(ops).units
    for name in ("add_rmsnorm_quant_fp8", "silu_mul_quant_nvfp4"):
        kernels = plan_op(ops[name], sms=("sm_90a", "sm_100a"), torch=TORCH).units[:-1]
        assert set(kernels) <= set(units)


def test_every_source_of_the_plugins_is_compiled() -> None:
    compiled = {unit.source for unit in (*plan(shipped_ops()).units, plan(shipped_ops()).stand_in)}
    there = {f"tensorrt/{file.name}" for file in (shipped_plugins() / "tensorrt").glob("*.cpp")}
    assert there
    assert there <= compiled


def test_headers_of_another_version_compile_anew() -> None:
    newer = plan_tensorrt(shipped_ops(), sms=("sm_90a",), place=replace(PLACE, version="11.1.0"))
    assert newer.stand_in != plan(shipped_ops()).stand_in
    assert "-Xlinker=-soname,libnvinfer.so.11" in newer.stand_in_link


def test_an_op_that_is_not_there_is_told() -> None:
    ops = shipped_ops()
    del ops["silu_mul_quant_fp8"]
    with pytest.raises(HostError, match="need the ops silu_mul_quant_fp8"):
        plan(ops)
