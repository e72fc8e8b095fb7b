"""The way into every process of TensorRT-LLM's LLM API.

GenerationExecutorProxy hands MODEL_CLASS_MAPPING to each MPI worker (argument _torch_model_class_mapping of
worker_main, tensorrt_llm/executor/proxy.py), and each worker unpickles it before it makes a model. `enter`
puts an entry into that mapping which installs the hook wherever it is unpickled; an architecture of its
name does not exist, so no model is ever made from it. Workers of the orchestrators `ray` and `rpc` get no
such mapping, so both are refused. This package must be importable there: MpiPoolSession passes sys.path on;
trtllm-llmapi-launch does not, and needs PYTHONPATH.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bwdeploy_kernels.errors import ReplacementError
from bwdeploy_kernels.tensorrt_llm.hook import Installation, install
from bwdeploy_kernels.tensorrt_llm.limits import refused_arguments
from bwdeploy_kernels.tensorrt_llm.upstream import find_upstream

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ARCHITECTURE: Final = "BwdeployKernelPack"
"""Key of the entry in MODEL_CLASS_MAPPING."""


class PackInWorkers:
    """An entry of MODEL_CLASS_MAPPING that installs the pack where it is unpickled."""

    __name__ = ARCHITECTURE
    """Upstream looks at the names of all registered classes (register_vision_encoder)."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation

    def __reduce__(self) -> tuple[Callable[[Installation], PackInWorkers], tuple[Installation]]:
        return enter_worker, (self.installation,)


def enter(installation: Installation) -> None:
    """Install the pack in this process and in every worker process that it starts from now on.

    Raises:
        MisfitError: TensorRT-LLM is not the release that was read, or another pack was installed before.
        ReplacementError: TensorRT-LLM needs no such op.
    """
    install(installation)  # with one GPU and TLLM_WORKER_USE_SINGLE_PROCESS the worker is this process
    find_upstream().model_classes[ARCHITECTURE] = PackInWorkers(installation)


def enter_worker(installation: Installation) -> PackInWorkers:
    """Install the pack in a worker process; called when the mapping is unpickled there."""
    install(installation)
    return PackInWorkers(installation)


def refuse_arguments(arguments: Mapping[str, Any]) -> None:
    """Refuse arguments of tensorrt_llm.LLM that the kernels do not run with.

    Raises:
        ReplacementError: with all of them.
    """
    refused = [f"{name}: {reason}" for name, reason in refused_arguments(arguments).items()]
    if refused:
        raise ReplacementError(
            f"{'; '.join(refused)}. Take the kernels or these arguments out of the recipe."
        )
