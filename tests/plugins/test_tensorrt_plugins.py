"""The TensorRT plugin library: how it is configured and built, and what it answers to TensorRT's questions.

It is compiled against TensorRT's public headers and loaded beside a stand-in for libnvinfer made from the
same headers; TensorRT itself is not in these tests. `TENSORRT_ROOT=… pytest -m kernels tests/plugins`.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.plugins.tensorrt_stand_in import LIBRARY, StandIn, built, configure, load

pytestmark = [pytest.mark.kernels, pytest.mark.timeout(1800)]

ROWS_OF_130 = (2, 65)
"""Leading dimensions, together 130 rows: two scale tiles."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = built(tmp_path_factory.mktemp("tensorrt"))
    if found is None:
        pytest.skip("TENSORRT_ROOT names no folder with TensorRT's headers")
    return found


@pytest.fixture
def host(folder: Path) -> StandIn:
    loaded = load(folder)
    loaded.log()
    return loaded


def test_configuring_without_headers_says_what_is_missing_and_how_to_name_it(tmp_path: Path) -> None:
    configured = configure(tmp_path, "-DBWDEPLOY_TENSORRT=ON", "-DCMAKE_FIND_ROOT_PATH=/nowhere")
    message = " ".join(configured.stderr.split())
    assert configured.returncode != 0
    assert "NvInferRuntime.h: got none under TENSORRT_ROOT=''" in message
    assert "wanted TensorRT 10's headers. Pass -DTENSORRT_ROOT=<folder with include/>" in message


def test_headers_of_an_older_major_version_are_refused(tmp_path: Path) -> None:
    include = tmp_path / "old" / "include"
    include.mkdir(parents=True)
    (include / "NvInferRuntime.h").touch()
    (include / "NvInferVersion.h").write_text("#define NV_TENSORRT_MAJOR 8 //!< major\n", encoding="ascii")
    options = ("-DBWDEPLOY_TENSORRT=ON", f"-DTENSORRT_ROOT={tmp_path / 'old'}")
    configured = configure(tmp_path / "build", *options)
    assert configured.returncode != 0
    assert "got headers of major version '8', wanted 10 or newer" in " ".join(configured.stderr.split())


def test_nothing_is_built_unless_asked_for(tmp_path: Path) -> None:
    configured = configure(tmp_path)
    assert configured.returncode == 0
    assert "BWDEPLOY_TENSORRT is off: nothing to build" in configured.stdout


def test_the_library_needs_libnvinfer_by_soname_and_no_path(folder: Path) -> None:
    dynamic = subprocess.run(
        ["readelf", "-d", str(folder / LIBRARY)], capture_output=True, text=True, check=True
    ).stdout
    needed = set(re.findall(r"NEEDED.*\[(.*)\]", dynamic))
    assert "libnvinfer.so.10" in needed
    assert not any(name.startswith(("libcudart", "libstdc++", "libtorch")) for name in needed)
    assert "RUNPATH" not in dynamic
    assert "RPATH" not in dynamic


def test_loading_the_library_registers_every_plugin(host: StandIn) -> None:
    names = ("AddRmsnormQuantFp8", "AddRmsnormQuantNvfp4", "SiluMulQuantFp8", "SiluMulQuantNvfp4")
    assert host.creators() == [f"bwdeploy {name} 1" for name in names]
    assert host.library.bwdeploy_tensorrt_plugins_registered() == 1


NORM_IN, SILU_IN = ["bfloat16"] * 3, ["bfloat16"]
SCALES = ("fp8", (256, 8))
OUTPUTS = {
    ("AddRmsnormQuantFp8", ""): ("fp8", "bfloat16"),
    ("AddRmsnormQuantFp8", "per_token"): ("fp8", "bfloat16", ("float32", (2, 65, 1))),
    ("AddRmsnormQuantFp8", "per_token return_normed"): (
        "fp8",
        "bfloat16",
        ("float32", (2, 65, 1)),
        "bfloat16",
    ),
    ("AddRmsnormQuantNvfp4", ""): ("fp4", "bfloat16", SCALES),
    ("AddRmsnormQuantNvfp4", "not swizzled"): ("fp4", "bfloat16", ("fp8", (2, 65, 5))),
    ("AddRmsnormQuantNvfp4", "return_normed"): ("fp4", "bfloat16", SCALES, "bfloat16"),
    ("SiluMulQuantFp8", ""): ("fp8",),
    ("SiluMulQuantFp8", "per_token"): ("fp8", ("float32", (2, 65, 1))),
    ("SiluMulQuantNvfp4", ""): ("fp4", SCALES),
    ("SiluMulQuantNvfp4", "not swizzled"): ("fp4", ("fp8", (2, 65, 5))),
}
"""Creator and options → its outputs for 80 columns: a type alone stands for [2, 65, 80]."""


@pytest.mark.parametrize(("creator", "options"), OUTPUTS)
def test_outputs_have_the_types_and_shapes_of_the_options_also_in_an_engine(
    creator: str, options: str, host: StandIn
) -> None:
    words = options.split()
    fields = {"swizzled": 0} if "not" in words else dict.fromkeys(words, 1)
    inputs = NORM_IN if creator.startswith("Add") else SILU_IN
    given = [] if "per_token" in words else ["float32"]
    shape = (*ROWS_OF_130, 80 if creator.startswith("Add") else 160)
    wanted = [(one, (*ROWS_OF_130, 80)) if isinstance(one, str) else one for one in OUTPUTS[creator, options]]
    plugin = host.create(creator, fields)
    assert plugin is not None
    for one in (plugin, plugin.revived()):
        assert one.outputs([*inputs, *given], shape) == wanted
        assert one.accepts([*inputs, *given], [kind for kind, _ in wanted], shape)


def test_other_types_counts_and_widths_are_refused_with_name_got_and_wanted(host: StandIn) -> None:
    plugin = host.create("SiluMulQuantNvfp4")
    assert plugin is not None
    good = (["float16", "float32"], ["fp4", "fp8"])
    assert plugin.accepts(*good, (3, 64))
    assert not plugin.accepts(["float32", "float32"], ["fp4", "fp8"], (3, 64))
    assert not plugin.accepts(["float16", "float16"], ["fp4", "fp8"], (3, 64))
    assert host.log() == ""
    assert not plugin.accepts(*good, (3, 48))
    assert (
        "SiluMulQuantNvfp4: input 0: got [3, 48], wanted [..., columns] with columns a multiple of 32"
        in host.log()
    )
    assert not plugin.accepts(["float16"], ["fp4", "fp8"], (3, 64))
    assert "tensors: got 1 inputs and 2 outputs, wanted 2 and 2" in host.log()


NORM_SHAPES = ((2, 3, 80), (2, 3, 80), (80,), (1,))


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ((NORM_SHAPES[0], (3, 2, 80), *NORM_SHAPES[2:]), "input 1: got [3, 2, 80], wanted [2, 3, 80]"),
        ((*NORM_SHAPES[:2], (64,), (1,)), "input 2: got [64], wanted [80]"),
        ((*NORM_SHAPES[:3], (6,)), "input 3: got [6], wanted [1]"),
        (((65552,), *NORM_SHAPES[1:]), "input 0: got [65552], wanted [..., columns]"),
        (((1, 65552), *NORM_SHAPES[1:]), "with columns a multiple of 16 up to 65536"),
        (((1 << 28, 80), *NORM_SHAPES[1:]), "and at most 17179869176 elements"),
        (NORM_SHAPES[:3], "tensors: got 3 inputs and 3 outputs, wanted 4 and 3"),
    ],
)
def test_inputs_that_do_not_fit_each_other_are_refused_before_the_kernel_reads_them(
    shapes: Sequence[Sequence[int]], message: str, host: StandIn
) -> None:
    plugin = host.create("AddRmsnormQuantNvfp4")
    assert plugin is not None
    assert not plugin.takes(shapes, outputs=3)
    assert message in host.log()


def test_weight_and_scale_may_have_dimensions_of_one_and_there_may_be_no_rows(host: StandIn) -> None:
    norm, silu = host.create("AddRmsnormQuantNvfp4"), host.create("SiluMulQuantFp8")
    assert norm is not None
    assert silu is not None
    assert norm.takes(NORM_SHAPES, outputs=3)
    assert norm.takes((*NORM_SHAPES[:2], (1, 1, 80), ()), outputs=3)
    assert norm.takes(((0, 80), (0, 80), (80,), (1,)), outputs=3)
    assert silu.takes(((5, 128), (1,)), outputs=1)
    assert host.log() == ""
    assert not silu.takes(((5, 128), (5,)), outputs=1)
    assert "SiluMulQuantFp8: input 1: got [5], wanted [1]" in host.log()


def test_a_field_that_is_unknown_or_of_another_type_or_range_is_refused(host: StandIn) -> None:
    assert host.create("SiluMulQuantFp8", {"swizzled": 1}) is None
    assert "SiluMulQuantFp8: field swizzled: got a field that this plugin does not have" in host.log()
    assert host.create("AddRmsnormQuantFp8", {"eps": 1}) is None
    assert "AddRmsnormQuantFp8: field eps: got 1 values of int32, wanted 1 of float32" in host.log()
    assert host.create("AddRmsnormQuantFp8", {"eps": -1.0}) is None
    assert "AddRmsnormQuantFp8: field eps: got -1.000000, wanted a number not below 0" in host.log()
