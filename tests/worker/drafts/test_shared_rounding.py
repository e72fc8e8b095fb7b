"""Inputs that several layers read are rounded once, and nothing else changes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import nn

from bwdeploy.worker.drafts.shared_rounding import share_roundings
from bwdeploy_runtime.input_rounding import InputRounding

SCALES = {"q": 0.01, "k": 0.01, "v": 0.02, "o": 0.01}


class Attention(nn.Module):  # type: ignore[misc]
    """Three layers that read one input, and a fourth."""

    def __init__(self) -> None:
        super().__init__()
        for name in SCALES:
            setattr(self, name, nn.Linear(32, 32, bias=False))

    def forward(self, values: torch.Tensor) -> Any:
        return self.o(torch.tanh(self.q(values)) * self.k(values) + self.v(values))


def attention(calls: Counter[str]) -> Attention:
    torch.manual_seed(0)
    module = Attention()
    for name, scale in SCALES.items():
        layer = getattr(module, name)
        rounding = InputRounding(
            kind="nvfp4", input_scale=torch.tensor(scale), smoothing=None, like=layer.weight
        )
        rounding.apply = _counted(name, rounding.apply, calls)  # type: ignore[method-assign]
        rounding.attach(layer)
    return module


def _counted(name: str, plain: Any, calls: Counter[str]) -> Any:
    def apply(values: torch.Tensor) -> torch.Tensor:
        calls[name] += 1
        rounded: torch.Tensor = plain(values)
        return rounded

    return apply


@torch.no_grad()  # type: ignore[untyped-decorator]
def test_equal_scales_round_one_input_once_and_the_output_is_the_same() -> None:
    calls: Counter[str] = Counter()
    model = nn.Sequential(attention(calls), attention(calls))
    inputs = [torch.randn(3, 32) for _ in range(2)]
    before = [model(one) for one in inputs]
    assert calls == {"q": 4, "k": 4, "v": 4, "o": 4}
    calls.clear()
    assert share_roundings(model) == 4  # in each: k and o round as q does
    after = [model(one) for one in inputs]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert calls == {"q": 8, "v": 4}  # q for k too, and for o, which reads something else
