"""The smoke test's question whether the kernels of a recipe ran; that they do is told by tests/runtime."""

from __future__ import annotations

from bwdeploy.serving.client import Endpoint
from bwdeploy.serving.kernel_runs import Runs, check_kernels, kernel_runs
from bwdeploy.serving.metrics import parse_samples
from bwdeploy.serving.smoke import SmokeOptions, run_smoke
from bwdeploy.tools.triton_server import RunningServer
from tests.serving.conftest import KERNEL, TEXT, endpoint_of

PAGE = f"""
# TYPE bwdeploy_kernel_calls_total counter
bwdeploy_kernel_calls_total{{device="cuda",model="a",op="{KERNEL}",version="1"}} 61.000000
bwdeploy_kernel_calls_total{{device="cuda",model="a",op="silu_mul_quant_fp8",version="1"}} 0
bwdeploy_kernel_calls_total{{device="cpu",model="b",op="{KERNEL}",version="1"}} 7
bwdeploy_output_tokens_total{{model="a",version="1"}} 5
"""


def test_runs_are_those_of_one_model() -> None:
    assert kernel_runs(parse_samples(PAGE), model="a") == {
        KERNEL: Runs(61, on_gpu=True),
        "silu_mul_quant_fp8": Runs(0, on_gpu=True),
    }
    assert kernel_runs(parse_samples(PAGE), model="b") == {KERNEL: Runs(7, on_gpu=False)}
    assert kernel_runs(parse_samples(PAGE), model="c") == {}


def test_a_recipe_without_kernels_skips_the_check(echo: Endpoint) -> None:
    assert check_kernels(echo, ()).skipped


def test_an_ensemble_skips_the_check(ensemble: Endpoint) -> None:
    assert check_kernels(ensemble, (KERNEL,)).skipped


def test_a_kernel_that_never_ran_is_counted_from_the_start_and_fails(shared_server: RunningServer) -> None:
    endpoint = endpoint_of(shared_server, "idle_kernels")
    check = check_kernels(endpoint, (KERNEL,), deadline_s=0.1)
    assert (check.ok, check.detail) == (
        False,
        f"{KERNEL} never ran: the engine's log says how many of the model's modules call it",
    )


def test_a_kernel_that_the_model_was_built_without_fails_the_smoke_test(echo: Endpoint) -> None:
    report = run_smoke(echo, SmokeOptions(prompts=(TEXT,), kernels=(KERNEL,)))
    assert [check.id for check in report.failures] == ["kernels"]
    assert report.failures[0].detail == f"{KERNEL} is not counted: the model was built without it"
