from __future__ import annotations

import math

import pytest

from bwdeploy.pipeline.jobs import TensorError
from bwdeploy.report.html.layer_errors import by_kind, by_layer, errors_of
from tests.report.html.sample import sample_audit


def placed(name: str) -> tuple[str, int | None]:
    audit = sample_audit(tensor_errors=(TensorError(name=name, relative_error=0.1),))
    (one,) = errors_of(audit)
    return one.kind, one.layer


@pytest.mark.parametrize(
    ("name", "kind", "layer"),
    [
        ("model.layers.12.self_attn.q_proj.weight", "self_attn.q_proj", 12),
        ("model.layers.3.mlp.experts.41.up_proj.weight", "mlp.experts.*.up_proj", 3),
        ("model.layers.3.mlp.experts.41.up_proj.weight_packed", "mlp.experts.*.up_proj.weight_packed", 3),
        ("transformer.h.0.attn.c_attn.weight", "attn.c_attn", 0),
        ("transformer_blocks.7.attn.to_q.weight", "attn.to_q", 7),
        ("lm_head.weight", "lm_head", None),
        ("vision.blocks.2.0.fc.weight", "*.fc", 2),
    ],
)
def test_kind_and_layer_of_a_name(name: str, kind: str, layer: int | None) -> None:
    assert placed(name) == (kind, layer)


def test_unchanged_and_unmeasurable_tensors_are_no_errors() -> None:
    errors = tuple(
        TensorError(name="layers.0.a", relative_error=value) for value in (0.0, math.nan, math.inf)
    )
    assert errors_of(sample_audit(tensor_errors=errors)) == ()


def test_worst_expert_stands_for_its_layer_and_every_one_counts_in_the_mean() -> None:
    errors = tuple(
        TensorError(name=f"model.layers.0.mlp.experts.{expert}.up_proj.weight", relative_error=0.1 * expert)
        for expert in (1, 2, 3)
    )
    found = errors_of(sample_audit(tensor_errors=errors))
    assert by_layer(found)["mlp.experts.*.up_proj", 0] == pytest.approx(0.3)
    (row,) = by_kind(found)
    assert row.tensors == 3
    assert row.mean == pytest.approx(0.2)
    assert row.worst_name.endswith("experts.3.up_proj.weight")
