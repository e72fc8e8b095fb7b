from __future__ import annotations

import platform
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bwdeploy_kernels.fit import HostFacts, host_facts, mapped_libstdcxx, misfits
from bwdeploy_kernels.manifest import Manifest, read_manifest
from tests.kernel_pack.packs import manifest_of, write_manifest
from tests.kernel_pack.test_manifest import OP

H100 = HostFacts(
    gpu="NVIDIA H100 80GB HBM3",
    sm=(9, 0),
    driver_cuda=(13, 0),
    machine="x86_64",
    glibc=(2, 39),
    libstdcxx=(3, 4, 33),
    torch=(2, 9),
)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    write_manifest(tmp_path, manifest_of([OP]))
    return read_manifest(tmp_path)


def test_host_that_fits_gives_no_reason(manifest: Manifest) -> None:
    assert misfits(manifest, H100, device="cuda") == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"sm": (8, 9), "gpu": "NVIDIA L4"},
            (
                "GPU architecture: got sm_89a (NVIDIA L4), wanted one of sm_90a, sm_100a. "
                "Run `bwdeploy kernels build --arch sm_89a` if `bwdeploy kernels list` has it."
            ),
        ),
        (
            {"sm": (10, 3), "gpu": "NVIDIA B300"},
            (
                "GPU architecture: got sm_103a (NVIDIA B300), wanted one of sm_90a, sm_100a. "
                "Run `bwdeploy kernels build --arch sm_103a` if `bwdeploy kernels list` has it."
            ),
        ),
        (
            {"sm": (10, 0), "gpu": "NVIDIA B200"},
            (
                "GPU architecture of twice: got sm_100a (NVIDIA B200), wanted one of sm_90a. "
                "Run `bwdeploy kernels build --arch sm_100a` if `bwdeploy kernels list` has it."
            ),
        ),
        (
            {"sm": None, "gpu": None},
            "GPU: got none that torch can use, wanted one. Start on a GPU, or load it for cpu.",
        ),
        (
            {"driver_cuda": (12, 9)},
            (
                "NVIDIA driver: got one for CUDA 12.9, wanted one for CUDA 13.0 or newer (release 580). "
                "Update the driver, or run `bwdeploy kernels build` with an older nvcc."
            ),
        ),
        (
            {"driver_cuda": None},
            (
                "NVIDIA driver: got no driver, wanted one for CUDA 13.0 or newer (release 580). "
                "Update the driver, or run `bwdeploy kernels build` with an older nvcc."
            ),
        ),
        (
            {"torch": (2, 8)},
            "torch: got 2.8, wanted 2.9 or newer. Install a newer torch.",
        ),
        (
            {"machine": "aarch64"},
            "machine: got aarch64, wanted x86_64. Run `bwdeploy kernels build` on a machine with aarch64.",
        ),
        (
            {"glibc": (2, 17)},
            "glibc: got 2.17, wanted 2.28 or newer. Run `bwdeploy kernels build` on this or an older system.",
        ),
        (
            {"glibc": None},
            "glibc: got none, wanted 2.28 or newer. Run `bwdeploy kernels build` on this or an older system.",
        ),
        (
            {"libstdcxx": (3, 4, 9)},
            (
                "libstdc++: got 3.4.9, wanted 3.4.26 or newer. "
                "Run `bwdeploy kernels build` on this or an older system."
            ),
        ),
    ],
)
def test_misfit_says_got_wanted_and_what_to_do(
    changes: dict[str, Any], message: str, manifest: Manifest
) -> None:
    assert misfits(manifest, replace(H100, **changes), device="cuda") == (message,)


def test_newer_drivers_of_the_same_and_later_cuda_releases_fit(manifest: Manifest) -> None:
    runtime_13_2 = replace(manifest, cuda_runtime=(13, 2))
    assert misfits(runtime_13_2, H100, device="cuda") == ()
    assert misfits(manifest, replace(H100, driver_cuda=(14, 1)), device="cuda") == ()


def test_all_misfits_are_told_at_once(manifest: Manifest) -> None:
    worst = replace(H100, sm=(12, 0), driver_cuda=(12, 4), torch=(2, 6), machine="aarch64", glibc=(2, 17))
    assert [text.partition(":")[0] for text in misfits(manifest, worst, device="cuda")] == [
        "torch", "GPU architecture", "NVIDIA driver", "machine", "glibc",
    ]  # fmt: skip


def test_on_the_cpu_only_torch_matters(manifest: Manifest) -> None:
    bare = HostFacts(
        gpu=None, sm=None, driver_cuda=None, machine="riscv64", glibc=None, libstdcxx=None, torch=(2, 9)
    )
    assert misfits(manifest, bare, device="cpu") == ()
    assert len(misfits(manifest, replace(bare, torch=(2, 8)), device="cpu")) == 1


def test_facts_of_this_host_are_read() -> None:
    facts = host_facts("cuda")
    assert facts.machine == platform.machine()
    assert facts.torch == tuple(int(part) for part in torch.__version__.split(".")[:2])
    assert facts.glibc is None or facts.glibc >= (2, 17)
    assert facts.libstdcxx is None or facts.libstdcxx >= (3, 4, 19)
    assert (facts.gpu is not None) == torch.cuda.is_available()


@pytest.mark.parametrize(
    "path",
    [
        "/usr/lib/x86_64-linux-gnu/libstdc++.so.6.0.30",
        "/home/me/my env (2)/東京/lib/libstdc++.so.6",
        "/opt/lib/libstdc++.so.6.0.30 (deleted)",
    ],
)
def test_the_mapped_libstdcxx_is_found_whatever_its_path(path: str) -> None:
    line = f"7f2a1c000000-7f2a1c0a3000 r--p 00000000 08:01 1311 {' ' * 20}{path}\n"
    others = "7f2a1b000000-7f2a1b001000 rw-p 00000000 00:00 0 \n7f-80 r-xp 0 08:01 9  /lib/libc.so.6\n"
    assert mapped_libstdcxx(others + line + others) == Path(path)
    assert mapped_libstdcxx(others) is None
