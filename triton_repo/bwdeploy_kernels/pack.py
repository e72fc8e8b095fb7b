"""Load a pack: check that it is whole and fits this host, then make its ops known to torch.

A pack is code. Loading one runs its shared libraries (on `cuda`) and its reference files, with all rights
of this process: load only packs that you built or trust as much as the program itself. The digests in the
manifest find damage and mixed-up files, not malice. Everything that can be refused is refused before any of
it runs.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from bwdeploy_kernels.calls import cpu_calls, cuda_calls
from bwdeploy_kernels.errors import ManifestError, MisfitError
from bwdeploy_kernels.fit import Device, host_facts, misfits
from bwdeploy_kernels.manifest import Manifest, read_manifest
from bwdeploy_kernels.registration import register

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path, PurePosixPath

_MAX_FILE_BYTES = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """Ops of a pack that this process can call as `torch.ops.bwdeploy.*`."""

    directory: Path
    device: Device
    manifest: Manifest
    """Of the loaded ops alone."""
    gpu: int
    """Index of the CUDA device that was current when the pack was loaded; 0 on the CPU."""
    references: Mapping[str, Callable[..., Any]]
    """Torch op name → the float32 formulas it was tested against, for tensors on any device."""

    @property
    def ops(self) -> tuple[str, ...]:
        """Names of the loaded ops, as in the manifest."""
        return tuple(op.name for op in self.manifest.ops)

    def calls(self) -> dict[str, int]:
        """Calls of each op in this process so far: launches on `gpu`, or of the references on the CPU.

        Any thread may ask at any time, also while another one captures a CUDA graph. On `cuda`, kernels that
        are still to run are not waited for.
        """
        if self.device == "cpu":
            return {name: cpu_calls(name) for name in self.ops}
        return {name: cuda_calls(name, self.gpu) for name in self.ops}

    def reference(self, name: str) -> Callable[..., Any]:
        """The reference of the torch op `name`, with the op's own signature."""
        return self.references[name]


def load_pack(directory: Path, *, device: Device, ops: Sequence[str] | None = None) -> Pack:
    """Load `ops` (None: all) of the pack in `directory`; again in the same process it changes nothing.

    On `cpu` the ops run their references and no library is opened, so that what is built for a GPU can be
    served and tested without one.

    Raises:
        ManifestError: the pack is broken, or has no op of that name.
        MisfitError: it was built for other hosts, or this process has other builds of its ops.
    """
    root = directory.resolve()
    manifest = read_manifest(root).only(ops)
    problems = misfits(manifest, host_facts(device), device=device)
    if problems:
        raise MisfitError(f"the kernel pack {directory} does not fit this host:\n" + "\n".join(problems))
    for op in manifest.ops:
        _check_file(root, op.reference, op.reference_sha256)
        if device == "cuda":
            _check_file(root, op.library, op.library_sha256)
    references: dict[str, Callable[..., Any]] = {}
    for op in manifest.ops:
        references |= register(op, root, device)
    gpu = torch.cuda.current_device() if device == "cuda" else 0
    return Pack(directory=root, device=device, manifest=manifest, gpu=gpu, references=references)


def _check_file(root: Path, name: PurePosixPath, sha256: str) -> None:
    """Refuse a file that lies outside of the pack or is not the one that was built.

    Raises:
        ManifestError: absent, outside, not a plain file, too large or changed.
    """
    path = (root / name).resolve()
    if not path.is_relative_to(root):
        raise ManifestError(f"{root / name}: got a link to {path}, wanted a file inside the pack.")
    if not path.is_file():
        raise ManifestError(
            f"{path}: got no such file, wanted the one of the manifest. Build the pack again."
        )
    if path.stat().st_size > _MAX_FILE_BYTES:
        raise ManifestError(f"{path}: got more than {_MAX_FILE_BYTES} bytes, wanted a file of a pack.")
    with path.open("rb") as file:
        got = hashlib.file_digest(file, "sha256").hexdigest()
    if got != sha256:
        raise ManifestError(f"{path}: got SHA-256 {got}, wanted {sha256}. Copy or build the pack again.")
