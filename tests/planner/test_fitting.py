from __future__ import annotations

import pytest

from bwdeploy.model.shape import ModelShape
from bwdeploy.planner.layout.fitting import Conflict, LayoutArgs, layout_args, layout_conflicts, scale_block
from bwdeploy.recipe.schema import Layout, Recipe
from tests.planner.shapes import deepseek_r1, dense, moe, qwen3_235b


def layout(tp: int = 1, pp: int = 1, ep: int = 1, *, attention_dp: bool = False) -> Layout:
    return Layout(tp=tp, pp=pp, ep=ep, attention_dp=attention_dp, gpus_per_node=min(72, tp * pp))


def found(shape: ModelShape | None, chosen: Layout, **options: object) -> dict[str, Conflict]:
    conflicts = layout_conflicts(shape, chosen, **options)  # type: ignore[arg-type]
    assert all(one.message and one.hint for one in conflicts)
    return {one.key: one for one in conflicts}


def maverick() -> ModelShape:
    return moe(
        hidden=5120, layers=48, heads=40, kv_heads=8, dim=128, experts=128, chosen=1, width=8192,
        vocab=202048, architecture="Llama4ForConditionalGeneration", model_type="llama4",
    )  # fmt: skip


@pytest.mark.parametrize("tp", [1, 2, 4, 8])
def test_a_70b_model_fits_the_usual_layouts(tp: int) -> None:
    assert found(dense(), layout(tp), block=16) == {}


def test_heads_that_do_not_divide_name_the_values_that_would() -> None:
    one = found(dense(heads=40, kv_heads=8), layout(3))["tp-heads"]
    assert one.message == "40 attention heads do not divide by tp 3"
    assert one.hint == "choose one of: 1, 2, 4, 8"


def test_kv_heads_have_to_divide_or_to_be_divided() -> None:
    assert found(dense(heads=48, kv_heads=8), layout(12))["tp-kv-heads"].severity == "error"
    assert "tp-kv-heads" not in found(dense(heads=48, kv_heads=8), layout(16))


def test_more_ranks_than_kv_heads_keep_copies() -> None:
    one = found(dense(), layout(16))["kv-heads-replicated"]
    assert one.severity == "warning"
    assert "2 times" in one.message


def test_data_parallel_attention_cuts_no_heads() -> None:
    assert "tp-heads" not in found(deepseek_r1(), layout(3, attention_dp=True))


@pytest.mark.parametrize("tp", [1, 2, 4, 8])
def test_llama_4_runs_with_the_divisors_of_its_heads(tp: int) -> None:
    assert "llama4-tp" not in found(maverick(), layout(tp))


@pytest.mark.parametrize("tp", [5, 16, 40])
def test_llama_4_does_not_run_with_other_tp(tp: int) -> None:
    assert found(maverick(), layout(tp))["llama4-tp"].hint.startswith("choose one of: 1, 2, 4, 8")


def test_experts_divide_by_ep() -> None:
    one = found(qwen3_235b(), layout(6, ep=3))["experts-ep"]
    assert one.message == "128 experts do not divide by ep 3: 2 would be lost"
    assert one.hint == "choose one of: 1, 2"


def test_ep_divides_tp() -> None:
    assert found(None, layout(4, ep=3))["ep-divides-tp"].hint == "choose one of: 1, 2, 4"


def test_ep_of_a_dense_model_has_no_effect() -> None:
    assert found(dense(), layout(2, ep=2))["ep-without-experts"].severity == "warning"


def test_world_size_counts_context_parallel_ranks() -> None:
    assert "world-size" not in found(None, layout(2))
    args = LayoutArgs(cp=2)
    assert "context_parallel_size 2 = 4 ranks" in found(None, layout(2), args=args)["world-size"].message


@pytest.mark.parametrize(
    ("args", "key"),
    [
        (LayoutArgs(moe_tp=2), "moe-product"),
        (LayoutArgs(moe_tp=2, moe_cluster=2), "moe-cluster-with-ep"),
        (LayoutArgs(cp=2), "cp-with-ep"),
    ],
)
def test_ranks_of_experts_have_to_multiply_to_tp(args: LayoutArgs, key: str) -> None:
    assert key in found(None, layout(8, ep=2), args=args)


def test_moe_ranks_that_multiply_to_tp_are_fine() -> None:
    assert found(None, layout(8, ep=2), args=LayoutArgs(moe_tp=4)) == {}


def test_stages_need_layers() -> None:
    assert found(dense(layers=2), layout(pp=3))["pp-layers"].hint == "use at most 2"


def test_uneven_stages_are_only_mentioned() -> None:
    assert found(dense(), layout(pp=3))["uneven-stages"].severity == "info"


def test_a_partition_has_to_cover_all_layers() -> None:
    wrong = LayoutArgs(pp_partition=(40, 39))
    assert "together 79 layers" in found(dense(), layout(pp=2), args=wrong)["pp-partition"].message
    assert found(dense(), layout(pp=2), args=LayoutArgs(pp_partition=(30, 50))) == {}


def test_a_share_of_a_width_is_a_multiple_of_the_scale_block() -> None:
    one = found(dense(width=1000 * 8), layout(8), block=32)["block-width"]
    assert one.message == (
        "feed-forward width 8000 over 8 ranks is 1000 each, not a multiple of 32: the kernels would pad"
    )
    assert one.hint == "cut it over 1 or 2 ranks by tp and ep"
    assert "block-width" not in found(dense(width=1000 * 8), layout(8), block=None)


def test_expert_parallelism_keeps_experts_whole() -> None:
    shape = qwen3_235b()
    assert "block-width" in found(shape, layout(64), block=16 * 16)
    assert "block-width" not in found(shape, layout(64, ep=64), block=16 * 16)


def test_mla_without_data_parallel_attention_is_mentioned() -> None:
    assert found(deepseek_r1(), layout(8))["mla-replicated"].severity == "info"
    assert "mla-replicated" not in found(deepseek_r1(), layout(8, attention_dp=True))


def test_errors_come_before_warnings() -> None:
    severities = [one.severity for one in layout_conflicts(dense(heads=40), layout(3, ep=3), block=16)]
    assert severities == sorted(severities, key=("error", "warning", "info").index)


def recipe(**values: object) -> Recipe:
    return Recipe.model_validate({"schema": 1, "name": "r", "model": {"source": "file://model"}, **values})


def test_arguments_of_a_wrong_type_are_passed_over() -> None:
    args = {"moe_tensor_parallel_size": "two", "context_parallel_size": True, "pp_partition": [1, "x"]}
    assert layout_args(recipe(engine={"llm_args": args})) == LayoutArgs()


def test_the_scale_block_follows_the_format_or_the_source() -> None:
    assert scale_block(recipe(quantize={"format": "nvfp4"}), None) == 16
    assert scale_block(recipe(quantize={"format": "w4a8_mxfp4_fp8"}), None) == 32
    assert scale_block(recipe(quantize={"format": "fp8"}), None) is None
    assert scale_block(recipe(quantize={"method": "prequantized"}), {"quant_method": "mxfp4"}) == 32
    assert scale_block(recipe(quantize={"method": "none"}), None) is None
