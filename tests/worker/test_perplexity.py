from __future__ import annotations

import math
from importlib import import_module
from typing import TYPE_CHECKING

import pytest

from bwdeploy.worker.perplexity import perplexity

if TYPE_CHECKING:
    from pathlib import Path


def test_perplexity_equals_the_model_s_own_loss(tiny_llama: Path) -> None:
    torch = import_module("torch")
    model = import_module("transformers").AutoModelForCausalLM.from_pretrained(
        tiny_llama, dtype=torch.float32
    )
    sequences = torch.randint(0, 384, (20, 128), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        losses = [float(model(input_ids=row[None], labels=row[None]).loss) for row in sequences]
    seen: list[tuple[int, int]] = []
    value = perplexity(model, sequences, lambda done, total: seen.append((done, total)))
    assert value == pytest.approx(math.exp(sum(losses) / len(losses)), rel=1e-5)
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_model_that_computes_nan_gives_nan(tiny_llama: Path) -> None:
    torch = import_module("torch")
    model = import_module("transformers").AutoModelForCausalLM.from_pretrained(
        tiny_llama, dtype=torch.float32
    )
    with torch.no_grad():
        model.model.norm.weight.fill_(math.nan)
    assert math.isnan(perplexity(model, torch.zeros(1, 8, dtype=torch.int64), lambda _done, _total: None))
