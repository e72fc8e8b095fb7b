from __future__ import annotations

from pathlib import Path

from bwdeploy.kernels.compile_plan import CompileUnit, TorchPlace, plan_op
from bwdeploy.kernels.ops import read_op
from tests.kernels.sample import SAMPLE_OP

TORCH = TorchPlace(version="2.9.0", include=Path("/t/include"), libraries=Path("/t/lib"))


def units_for(*sms: str) -> tuple[CompileUnit, ...]:
    return plan_op(read_op(SAMPLE_OP), sms=sms, torch=TORCH).units


def test_a_unit_is_one_object_for_all_architectures_that_the_op_has() -> None:
    plan = plan_op(read_op(SAMPLE_OP), sms=("sm_120a", "sm_100a", "sm_90a"), torch=TORCH)
    assert plan.sms == ("sm_90a", "sm_120a")
    first = plan.units[0]
    assert [flag for flag in first.flags if "gencode" in flag] == [
        "-gencode=arch=compute_90a,code=sm_90a",
        "-gencode=arch=compute_120a,code=sm_120a",
    ]
    assert {"-DSAMPLE_TYPE=float", "-DSAMPLE_NAME=float", "--resource-usage"} <= set(first.flags)
    assert first.source == "double_rows/kernel.cu"


def test_units_of_one_source_have_names_of_their_own() -> None:
    units = units_for("sm_90a")
    assert [unit.name for unit in units] == ["kernel.cu-1", "kernel.cu-2", "bind.cpp"]
    assert len(set(units)) == len(units)


def test_the_binding_uses_the_stable_abi_and_no_architecture() -> None:
    binding = units_for("sm_90a")[-1]
    assert "-DTORCH_TARGET_VERSION=0x0209000000000000" in binding.flags
    assert "-isystem=/t/include" in binding.flags
    assert not [flag for flag in binding.flags if "gencode" in flag]
    assert binding.depends_on == "torch 2.9.0"


def test_only_entry_points_are_visible() -> None:
    assert all("-fvisibility=hidden" in " ".join(unit.flags) for unit in units_for("sm_90a"))


def test_libraries_bring_their_cuda_runtime_and_name_torch() -> None:
    link = plan_op(read_op(SAMPLE_OP), sms=("sm_90a",), torch=TORCH).link
    assert {"-shared", "-cudart=static", "-L/t/lib", "-ltorch_cpu"} <= set(link)
