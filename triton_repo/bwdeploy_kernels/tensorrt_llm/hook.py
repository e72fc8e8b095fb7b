"""Changes every model that TensorRT-LLM loads in this process, right after its weights are there.

The hook is on ModelLoader.load: behind it the weights, scales and links between layers are final, before it
come torch.compile, warm-up and CUDA-graph capture. The pack is loaded first, so that one that does not fit
this GPU is refused before minutes of loading. Only the first model of a process is changed: a draft model
follows it.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from bwdeploy_kernels.errors import MisfitError, PackError, ReplacementError
from bwdeploy_kernels.pack import load_pack
from bwdeploy_kernels.tensorrt_llm.reports import WorkerReport, write_report
from bwdeploy_kernels.tensorrt_llm.swap import swap_modules
from bwdeploy_kernels.tensorrt_llm.upstream import find_upstream, refuse_fused_upstream

if TYPE_CHECKING:
    from bwdeploy_kernels.fit import Device
    from bwdeploy_kernels.pack import Pack
    from bwdeploy_kernels.tensorrt_llm.swap import Swapped
    from bwdeploy_kernels.tensorrt_llm.upstream import Upstream

_LOG = logging.getLogger(__name__)
_COUNT_EVERY_S: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """What is put into the models of a process; travels to worker processes."""

    pack: str
    """Absolute directory of the pack, the same on every machine."""
    ops: tuple[str, ...]
    reports: str | None = None
    """Directory for the reports of the workers; None: they only log."""


_INSTALLED: list[Installation] = []
_LOCK = threading.Lock()


def install(installation: Installation) -> None:
    """Change the first model that this process will load; again with the same values it does nothing.

    Raises:
        MisfitError: TensorRT-LLM is not the release that was read, or another pack was installed before.
        ReplacementError: TensorRT-LLM needs no such op.
    """
    with _LOCK:
        if _INSTALLED:
            if _INSTALLED[0] != installation:
                raise MisfitError(
                    f"kernels: got {installation}, wanted {_INSTALLED[0]}, which this process has already."
                )
            return
        upstream = find_upstream()
        refuse_fused_upstream(installation.ops, upstream.version)
        loader = upstream.model_loader
        loader.load = _loading_with(_Hook(installation, upstream), loader.load)
        _INSTALLED.append(installation)


def _loading_with(hook: _Hook, load: Any) -> Any:  # noqa: ANN401 - upstream's method
    @functools.wraps(load)
    def loading(self: Any, checkpoint_dir: Any, checkpoint_loader: Any) -> Any:  # noqa: ANN401 - as upstream
        """As upstream: (model, MoE load balancer)."""
        with hook.reported():
            pack = hook.prepare(self)
            loaded = load(self, checkpoint_dir, checkpoint_loader)
            if pack is not None:
                hook.change(loaded[0], pack)
        return loaded

    return loading


class _Hook:
    """The state of one process."""

    def __init__(self, installation: Installation, upstream: Upstream) -> None:
        self._installation, self._upstream = installation, upstream
        self._done = False

    def prepare(self, loader: Any) -> Pack | None:  # noqa: ANN401 - upstream's ModelLoader
        """Load the pack for the GPU of this worker; None: the model is a draft, and stays as it is."""
        if self._done:
            return None
        self._done = True
        _refuse_settings(loader)
        # Upstream has chosen this rank's GPU before; without any, as in tests, the references run.
        device: Device = "cuda" if torch.cuda.is_available() else "cpu"
        return load_pack(Path(self._installation.pack), device=device, ops=self._installation.ops)

    def change(self, model: Any, pack: Pack) -> None:  # noqa: ANN401
        """Put the ops into the model and begin to report."""
        swapped = swap_modules(model, pack, self._upstream)
        _LOG.warning("kernels, and how many modules call them: %s", swapped.modules)
        for path, reason in swapped.reasons.items():
            _LOG.info("%s stays as it is: %s", path, reason)
        if self._installation.reports is not None:
            directory = Path(self._installation.reports)
            write_report(directory, WorkerReport(modules=swapped.modules, calls=pack.calls()))
            threading.Thread(
                target=_report, args=(directory, swapped, pack), name="kernel-calls", daemon=True
            ).start()

    def reported(self) -> _Reported:
        """Tells the process that serves why a worker gives up: upstream only says that it did."""
        return _Reported(self._installation.reports)


class _Reported:
    def __init__(self, reports: str | None) -> None:
        self._reports = reports

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        del kind, trace
        if isinstance(error, PackError) and self._reports is not None:
            write_report(Path(self._reports), WorkerReport(error=str(error)))


def _report(directory: Path, swapped: Swapped, pack: Pack) -> None:
    """Write the counters whenever they changed, until the process ends or its directory is gone."""
    told: dict[str, int] = {}
    while directory.is_dir():
        calls = pack.calls()
        if calls != told:
            try:
                write_report(directory, WorkerReport(modules=swapped.modules, calls=calls))
            except OSError:
                return
            told = calls
        time.sleep(_COUNT_EVERY_S)


def _refuse_settings(loader: Any) -> None:  # noqa: ANN401 - upstream's ModelLoader
    """Refuse what the swapped modules were not written for.

    Raises:
        ReplacementError: with the setting and the reason.
    """
    mapping, settings = loader.mapping, getattr(loader, "pytorch_backend_config", None)
    settings = settings or getattr(loader, "llm_args", None)
    if mapping.pp_size > 1:
        raise ReplacementError(
            f"pipeline_parallel_size: got {mapping.pp_size}, wanted 1: a norm at the border of two machines' "
            "layers would send rounded values to the next rank. Take the kernels out of the recipe."
        )
    if getattr(loader, "lora_config", None) is not None:
        raise ReplacementError(
            "lora_config: got LoRA, wanted none: its layers read the norms unrounded. "
            "Take the kernels out of the recipe."
        )
    if getattr(settings, "torch_compile_enabled", False) or getattr(settings, "torch_compile_config", None):
        raise ReplacementError(
            "torch_compile_config: got one, wanted none: upstream's passes rewrite the same places. "
            "Take the kernels or torch_compile_config out of the recipe."
        )
