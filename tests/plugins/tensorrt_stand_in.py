"""The TensorRT plugin library beside a stand-in for libnvinfer (tensorrt_stand_in.cpp), through ctypes.

BWDEPLOY_TEST_TENSORRT names a folder that has both libraries; TENSORRT_ROOT one with TensorRT's include/,
from which they are built.
"""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SOURCE = HERE.parents[1] / "plugins" / "tensorrt"
LIBRARY, STAND_IN = "libbwdeploy_tensorrt_plugins.so", "libnvinfer.so.10"
TYPES = {"float32": 0, "float16": 1, "fp8": 6, "bfloat16": 7, "fp4": 10}
"""nvinfer1::DataType."""
_FLOAT32_FIELD, _INT32_FIELD = 1, 5
"""nvinfer1::PluginFieldType."""


def configure(out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run CMake on plugins/tensorrt, without the TENSORRT_ROOT of this environment."""
    environment = {name: value for name, value in os.environ.items() if name != "TENSORRT_ROOT"}
    command = ["cmake", "-S", str(SOURCE), "-B", str(out), "-DCMAKE_BUILD_TYPE=Release", *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def built(out: Path) -> Path | None:
    """A folder with both libraries; None where there is nothing to build them from."""
    if given := os.environ.get("BWDEPLOY_TEST_TENSORRT"):
        return Path(given).resolve()
    if (root := os.environ.get("TENSORRT_ROOT")) is None:
        return None
    options = ("-DBWDEPLOY_TENSORRT=ON", f"-DTENSORRT_ROOT={root}", "-DCMAKE_CUDA_ARCHITECTURES=90a-real")
    configured = configure(out, *options)
    assert configured.returncode == 0, configured.stderr
    subprocess.run(["cmake", "--build", str(out), "--parallel", "2"], check=True)
    _build_stand_in(Path(root), out)
    return out


def _build_stand_in(root: Path, out: Path) -> None:
    cuda = os.environ.get("CUDA_HOME", "/usr/local/cuda")
    include = [f"-isystem{folder}/include" for folder in (root, cuda)]
    link = ["-shared", "-fPIC", f"-Wl,-soname,{STAND_IN}", "-o", str(out / STAND_IN)]
    source = str(HERE / "tensorrt_stand_in.cpp")
    subprocess.run(["g++", "-std=c++17", "-Wno-deprecated-declarations", *include, *link, source], check=True)


class Plugin:
    """A plugin of the library, as a network would have it."""

    def __init__(self, host: StandIn, creator: str, handle: int) -> None:
        self._host, self._creator, self._handle = host, creator, ctypes.c_void_p(handle)

    def outputs(self, types: Sequence[str], sizes: Sequence[int]) -> list[tuple[str, tuple[int, ...]]]:
        """Type and shape of each output for inputs of these types, each of the same shape."""
        shape = (_sizes(sizes), len(sizes))
        text = self._host.text("outputs", self._handle, len(types), _types(types), *shape)
        if text == "refused":
            raise ValueError(text)
        names = {number: name for name, number in TYPES.items()}
        lines = ([int(word) for word in line.split()] for line in text.splitlines())
        return [(names[kind], tuple(shape)) for kind, *shape in lines]

    def accepts(self, inputs: Sequence[str], outputs: Sequence[str], sizes: Sequence[int]) -> bool:
        """Whether TensorRT may build with these types and this shape of input 0."""
        counts = (len(inputs), len(outputs), _types([*inputs, *outputs]))
        return bool(self._host.call("accepts", self._handle, *counts, _sizes(sizes), len(sizes)))

    def takes(self, inputs: Sequence[Sequence[int]], *, outputs: int) -> bool:
        """Whether it runs on inputs of these shapes."""
        sizes, counts = _sizes([size for shape in inputs for size in shape]), [len(shape) for shape in inputs]
        dimensions = (ctypes.c_int * len(inputs))(*counts)
        kind = TYPES["float16"]
        return bool(self._host.call("takes", self._handle, len(inputs), outputs, kind, sizes, dimensions))

    def revived(self) -> Plugin:
        """The plugin that an engine file would hold."""
        handle = self._host.pointer("revived", self._creator.encode(), self._handle)
        return Plugin(self._host, self._creator, handle)

    def enqueue(self, kind: str, sizes: Sequence[int], inputs: Sequence[int], outputs: Sequence[int]) -> int:
        """Run on device addresses and CUDA's default stream; what enqueue returned."""
        addresses = ((ctypes.c_void_p * len(some))(*some) for some in (inputs, outputs))
        return self._host.call(
            "enqueue", self._handle, TYPES[kind], _sizes(sizes), len(sizes), *addresses, ctypes.c_void_p(0)
        )


class StandIn:
    """Both libraries, loaded; once in a process."""

    def __init__(self, folder: Path) -> None:
        self._host = ctypes.CDLL(str(folder / STAND_IN), mode=ctypes.RTLD_GLOBAL)
        self.library = ctypes.CDLL(str(folder / LIBRARY))

    def creators(self) -> list[str]:
        """Namespace, name and version of each registered creator."""
        return self.text("creators").splitlines()

    def log(self) -> str:
        """What was logged since the last call."""
        return self.text("log")

    def create(self, creator: str, fields: Mapping[str, float] | None = None) -> Plugin | None:
        """A plugin with these fields: int32, or float32 where the value is a float."""
        fields = fields or {}
        kinds = [_FLOAT32_FIELD if isinstance(value, float) else _INT32_FIELD for value in fields.values()]
        packed = b"".join(
            struct.pack("f" if isinstance(value, float) else "i", value) for value in fields.values()
        )
        names = (ctypes.c_char_p * len(fields))(*(name.encode() for name in fields))
        types = (ctypes.c_int * len(fields))(*kinds)
        handle = self.pointer("create", creator.encode(), len(fields), names, types, packed)
        return Plugin(self, creator, handle) if handle else None

    def call(self, name: str, *arguments: Any) -> int:
        """An int of the stand-in."""
        return int(self._function(name, ctypes.c_int)(*arguments))

    def text(self, name: str, *arguments: Any) -> str:
        """A text of the stand-in."""
        return str(self._function(name, ctypes.c_char_p)(*arguments).decode())

    def pointer(self, name: str, *arguments: Any) -> int:
        """A plugin of the stand-in; 0 for none."""
        return int(self._function(name, ctypes.c_void_p)(*arguments) or 0)

    def _function(self, name: str, result: Any) -> Any:
        function = getattr(self._host, f"stand_in_{name}")
        function.restype = result
        return function


@cache
def load(folder: Path) -> StandIn:
    """Both libraries of a folder, once in a process."""
    return StandIn(folder)


def _types(names: Sequence[str]) -> Any:
    return (ctypes.c_int * len(names))(*(TYPES[name] for name in names))


def _sizes(sizes: Sequence[int]) -> Any:
    return (ctypes.c_int64 * len(sizes))(*sizes)
