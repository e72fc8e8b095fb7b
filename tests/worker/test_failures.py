from __future__ import annotations

import errno
from importlib import import_module

import pytest

from bwdeploy.errors import HostError, StoreError, ToolError
from bwdeploy.worker.failures import describe_failure, recipe_error


def test_out_of_memory_of_torch_is_a_host_problem_with_a_way_out() -> None:
    torch = import_module("torch")
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50)
    described = describe_failure(caught.value)
    assert described["kind"] == "host"
    assert "batch_size" in described["hint"]


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/x/model.safetensors"), "store", "disk is full"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "store", "disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "/x/y"), "store", "/x/y may not be read"),
        (ModuleNotFoundError("No module named 'x'", name="x"), "host", "'x' is missing"),
        (MemoryError(), "host", "Out of memory"),
        (FileNotFoundError(errno.ENOENT, "No such file", "/x/y"), "tool", "/x/y does not exist"),
        (HostError("no GPU", hint="buy one"), "host", "no GPU"),
        (StoreError("torn"), "store", "torn"),
        (ToolError("it broke"), "tool", "it broke"),
        (recipe_error("quantize.format", "bad"), "recipe", "quantize.format: bad"),
        (ZeroDivisionError("division by zero"), "tool", "ZeroDivisionError: division by zero"),
    ],
)
def test_each_failure_has_its_kind_and_says_what_is_wrong(error: Exception, kind: str, words: str) -> None:
    described = describe_failure(error)
    assert described["kind"] == kind
    assert words in described["message"]
