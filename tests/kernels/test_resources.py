from __future__ import annotations

from bwdeploy.kernels.resources import KernelResources, kernel_resources

NVCC_13_0 = """\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_ZN6sample4normI6__halfLi8ELb0EEEvPKT_PS2_i' for 'sm_90a'
ptxas info    : Function properties for _ZN6sample4normI6__halfLi8ELb0EEEvPKT_PS2_i
    16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 122 registers, used 1 barriers, 16 bytes cumulative stack size, 512 bytes smem
ptxas info    : Compile time = 351.292 ms
ptxas info    : Function properties for __internal_helper
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Compiling entry function 'plain' for 'sm_100a'
ptxas info    : Function properties for plain
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 10 registers, used 0 barriers
ptxas info    : Compile time = 2.4 ms
"""
NVCC_12_8 = """\
kernel.cu(3): warning #177-D: variable "x" was declared but never referenced
ptxas info    : 0 bytes gmem, 24 bytes cmem[4]
ptxas info    : Compiling entry function '_Z4normPf' for 'sm_90a'
ptxas info    : Function properties for _Z4normPf
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 24 registers, used 1 barriers, 2048 bytes smem, 536 bytes cmem[0]
"""


def test_registers_shared_memory_stack_and_spills_are_read() -> None:
    plain, norm = kernel_resources(NVCC_13_0)
    assert plain == KernelResources(
        sm="sm_100a", name="plain", registers=10, shared_bytes=0, stack_bytes=0, spill_bytes=0
    )
    assert norm == KernelResources(
        sm="sm_90a",
        name="norm<__half, 8, false>",
        registers=122,
        shared_bytes=512,
        stack_bytes=16,
        spill_bytes=20,
    )


def test_older_form_with_constant_memory_and_warnings_is_read() -> None:
    (norm,) = kernel_resources(NVCC_12_8)
    assert (norm.name, norm.registers, norm.shared_bytes) == ("norm", 24, 2048)


def test_output_without_kernels_gives_none() -> None:
    assert kernel_resources("") == ()
    assert kernel_resources("ptxas info    : Used 3 registers") == ()
