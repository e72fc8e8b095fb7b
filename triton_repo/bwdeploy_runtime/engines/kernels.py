"""The fused kernels of a pack inside the engine process: imported, loaded, put into the model, counted.

The pack carries its own Python package, bwdeploy_kernels, and only that one is taken: the version that the
pack's libraries were built with. It is imported here and nowhere else in this package.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bwdeploy_runtime.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_LOG = logging.getLogger(__name__)
_PACKAGE = "bwdeploy_kernels"


@dataclass(frozen=True)
class InstalledKernels:
    """Ops that a model now calls."""

    pack: Any
    """bwdeploy_kernels.pack.Pack"""
    replaced: Mapping[str, int]
    """Op → modules of the model that call it."""

    def calls(self) -> dict[str, int]:
        """How often each op has run in this process, as far as the GPU has come."""
        counted: Mapping[str, int] = self.pack.calls()
        return {op: counted[op] for op in self.replaced}


def install_kernels(
    model: Any,  # noqa: ANN401 - transformers model
    directory: Path,
    ops: Sequence[str],
    *,
    device: Literal["cuda", "cpu"],
) -> InstalledKernels:
    """Load the ops of the pack in `directory` and let them take the place of the model's modules.

    Raises:
        EngineError: the pack does not fit this machine, or an op finds nothing in this model.
    """
    import_pack(directory)
    errors, pack_module = import_module(f"{_PACKAGE}.errors"), import_module(f"{_PACKAGE}.pack")
    try:
        pack = pack_module.load_pack(directory, device=device, ops=list(ops))
        replaced = import_module(f"{_PACKAGE}.hugging_face").replace_modules(model, pack)
    except errors.PackError as error:
        raise EngineError(f"the kernels {', '.join(ops)} cannot be used: {error}") from error
    installed = InstalledKernels(pack, {op: replaced.modules.get(op, 0) for op in ops})
    _LOG.info("kernels, and how many modules call them: %s", dict(installed.replaced))
    return installed


def import_pack(directory: Path) -> None:
    """Make bwdeploy_kernels the package that lies in the pack.

    Raises:
        EngineError: the pack has none, or another one was imported before.
    """
    if not (directory / _PACKAGE).is_dir():
        raise EngineError(f"{directory} holds no kernel pack. Build the recipe again.")
    sys.path.insert(0, str(directory))
    package = import_module(_PACKAGE)
    found = Path(str(package.__file__)).resolve()
    if not found.is_relative_to(directory.resolve()):
        raise EngineError(
            f"{_PACKAGE} was imported from {found.parent} and not from the pack in {directory}. "
            f"Take what imports it out of the Python of the engine (a *.pth file, sitecustomize)."
        )
