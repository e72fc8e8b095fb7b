from __future__ import annotations

from bwdeploy.worker.kernels.points import (
    HIDDEN,
    INTERMEDIATE,
    ROWS,
    VARIANTS,
    Size,
    bytes_moved,
    sizes,
)

OPS = tuple(VARIANTS)


def test_every_point_of_the_goals_is_measured_once() -> None:
    measured = [
        (op, variant, size.width, size.rows)
        for size in sizes(OPS, quick=False)
        for op, variant in size.variants
    ]
    norms = {(width, rows) for width in HIDDEN for rows in ROWS}
    mlps = {(width, rows) for width in INTERMEDIATE for rows in ROWS}
    wanted = [
        (op, variant, *point)
        for op, variants in VARIANTS.items()
        for variant in variants
        for point in (norms if op.startswith("add_rmsnorm") else mlps)
    ]
    assert sorted(measured) == sorted(wanted)


def test_a_quick_run_measures_every_variant_at_two_sizes() -> None:
    quick = sizes(OPS, quick=True)
    assert [(size.family, size.rows) for size in quick] == [
        ("norm", 8), ("norm", 512), ("mlp", 8), ("mlp", 512),
    ]  # fmt: skip
    assert {op for size in quick for op, _ in size.variants} == set(OPS)


def test_an_op_that_was_not_asked_for_is_not_measured() -> None:
    assert {size.family for size in sizes(("silu_mul_quant_fp8",), quick=False)} == {"mlp"}
    assert sizes(("allreduce_add_rmsnorm_quant",), quick=False) == ()


def test_buffers_of_many_rows_together_exceed_the_l2_cache_three_times() -> None:
    for size in sizes(OPS, quick=False):
        assert 3 <= size.sets <= 16
        if size.rows >= 512 and size.width >= 5120:
            assert size.sets * size.rows * size.width * 5 >= 3 * 50e6


def test_bytes_moved_count_each_input_and_output_once() -> None:
    norm = Size(family="norm", rows=10, width=32, variants=())
    mlp = Size(family="mlp", rows=10, width=32, variants=())
    assert bytes_moved(norm, "fp8 static") == 10 * 32 * (2 + 2 + 2 + 1)
    assert bytes_moved(norm, "nvfp4 swizzled") == 10 * (32 * 6 + 16 + 2)
    assert bytes_moved(mlp, "fp8 dynamic") == 10 * 32 * (2 + 2 + 1)
    assert bytes_moved(mlp, "nvfp4 linear") == 10 * (32 * 4 + 16 + 2)
