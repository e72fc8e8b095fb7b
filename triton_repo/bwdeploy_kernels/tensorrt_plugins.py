"""The pack's TensorRT plugins in the network of a model class of your own (trtllm-build --model_cls_file).

trtllm-build calls no plugin that its own model code does not name, so such a class does it. The build of a
recipe with kernels sets BWDEPLOY_KERNEL_PACK to the pack:

    sys.path.insert(0, os.environ["BWDEPLOY_KERNEL_PACK"])
    from bwdeploy_kernels.tensorrt_plugins import load_plugins, make_plugin

    plugin = make_plugin(load_plugins(), "AddRmsnormQuantFp8", fields)
    layer = default_trtnet().add_plugin_v3([x.trt_tensor, …], [], plugin)

Checked against TensorRT's Python API, not run on TensorRT.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bwdeploy_kernels.errors import MisfitError

if TYPE_CHECKING:
    from collections.abc import Sequence

LIBRARY: Final = "tensorrt/libbwdeploy_tensorrt_plugins.so"
"""In a pack."""
VARIABLE: Final = "BWDEPLOY_KERNEL_PACK"
"""Names the directory of the pack."""
NAMESPACE: Final = "bwdeploy"
VERSION: Final = "1"


@cache
def load_plugins() -> Any:  # noqa: ANN401 - tensorrt.IPluginRegistry
    """Load the plugin library once, which registers its creators; TensorRT's registry.

    Raises:
        MisfitError: the variable is not set, or the library cannot be loaded beside this TensorRT.
    """
    tensorrt = import_module("tensorrt")  # first: the library binds to the TensorRT of this process
    path = Path(os.environ.get(VARIABLE, "")) / LIBRARY
    if not path.is_file():
        got = os.environ.get(VARIABLE) or "nothing"
        raise MisfitError(
            f"{VARIABLE}: got {got}, wanted the directory of a pack with {LIBRARY}. "
            "Set it, or build with bwdeploy."
        )
    try:
        ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        raise MisfitError(
            f"{path}: cannot be loaded: {error}. Build it with the TensorRT of this image."
        ) from error
    return tensorrt.get_plugin_registry()


def make_plugin(registry: Any, name: str, fields: Sequence[Any]) -> Any:  # noqa: ANN401 - TensorRT's objects
    """A plugin of the library with these PluginFields, for a network that is being built.

    Raises:
        MisfitError: the library has no plugin of that name.
    """
    tensorrt = import_module("tensorrt")
    creator = registry.get_creator(name, VERSION, NAMESPACE)
    if creator is None:
        raise MisfitError(f"plugin: got {name}, wanted one of the pack's library (plugins/tensorrt).")
    collection = tensorrt.PluginFieldCollection(list(fields))
    return creator.create_plugin(name, collection, tensorrt.TensorRTPhase.BUILD)
