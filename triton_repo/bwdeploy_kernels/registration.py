"""Makes the ops of a pack known to torch, once in a process.

The CUDA kernels register themselves when their library is loaded. Shapes for torch.compile and export and
the implementation on the CPU come from the pack's reference file, which is Python code and runs when it is
loaded.
"""

from __future__ import annotations

import importlib.util
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from bwdeploy_kernels.calls import counted
from bwdeploy_kernels.errors import ManifestError, MisfitError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import ModuleType

    from bwdeploy_kernels.fit import Device
    from bwdeploy_kernels.manifest import PackedOp

NAMESPACE = "bwdeploy"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Registered:
    op: PackedOp
    directory: Path
    device: Device
    references: dict[str, Callable[..., Any]]
    library: torch.library.Library
    """Kept, because its registrations end with it."""


_REGISTERED: dict[str, _Registered] = {}
_LOCK = threading.Lock()


def register(op: PackedOp, directory: Path, device: Device) -> dict[str, Callable[..., Any]]:
    """Register the torch ops of `op`, unless that was done already; their references by name.

    Raises:
        MisfitError: this process has another build of the op, or has it for the CPU alone.
        ManifestError: library or reference do not hold what the manifest says.
    """
    with _LOCK:
        known = _REGISTERED.get(op.name)
        if known is None:
            known = _REGISTERED[op.name] = _register(op, directory, device)
        _refuse_other(known, op, directory, device)
        return known.references


def _refuse_other(known: _Registered, op: PackedOp, directory: Path, device: Device) -> None:
    ours, theirs = ((item.reference_sha256, item.schemas) for item in (known.op, op))
    both_on_gpu = device == known.device == "cuda"
    if ours != theirs or (both_on_gpu and op.library_sha256 != known.op.library_sha256):
        raise MisfitError(
            f"op {op.name}: got the pack {directory}, wanted {known.directory}, whose other build of it this "
            "process has loaded. Serve both from one pack, or each from a process of its own."
        )
    if device == "cuda" and known.device == "cpu":
        raise MisfitError(
            f"op {op.name}: got device cuda, wanted cpu, for which this process loaded {known.directory}. "
            "Load packs for cuda first, or in a process of their own."
        )


def _register(op: PackedOp, directory: Path, device: Device) -> _Registered:
    module = _import_reference(op, directory / op.reference)
    references = {name: _function(module, name) for name in op.torch_ops}
    library = torch.library.Library(NAMESPACE, "FRAGMENT")
    try:
        if device == "cuda":
            torch.ops.load_library(str(directory / op.library))
        else:
            for schema in op.schemas:
                library.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
        for name, reference in references.items():
            library.impl(name, counted(op.name, reference), "CPU")
            torch.library.register_fake(
                f"{NAMESPACE}::{name}", _function(module, f"{name}_meta"), lib=library
            )
    except (RuntimeError, OSError, AttributeError) as error:
        # torch says which library it could not load, and the loader, beneath it, why.
        why = error.__cause__ or error
        raise ManifestError(
            f"op {op.name}: torch refuses what {directory} says of it: {why}. Build the pack again."
        ) from error
    return _Registered(op=op, directory=directory, device=device, references=references, library=library)


def _import_reference(op: PackedOp, path: Path) -> ModuleType:
    name = f"bwdeploy_kernels_reference_{op.name}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ManifestError(f"op {op.name}: got {path.name}, wanted a Python file as reference.")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ManifestError(
            f"op {op.name}: {path} cannot be loaded: {type(error).__name__}: {error}. Build the pack again."
        ) from error
    return module


def _function(module: ModuleType, name: str) -> Callable[..., Any]:
    function: Callable[..., Any] | None = getattr(module, name, None)
    if not callable(function):
        raise ManifestError(f"{module.__file__}: got no function {name}, wanted one. Build the pack again.")
    return function
