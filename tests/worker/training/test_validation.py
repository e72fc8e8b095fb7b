from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers

from bwdeploy.worker.perplexity import perplexity
from bwdeploy.worker.training.validation import Validation, kl_divergence


def test_figures_are_those_of_the_audit_and_of_the_definition(tiny_llama: Path) -> None:
    load = transformers.AutoModelForCausalLM.from_pretrained
    teacher, student = (load(tiny_llama, dtype=torch.float32).eval() for _ in range(2))
    torch.manual_seed(0)
    sequences = torch.randint(0, 384, (20, 64))
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.mul_(1.05)
        wanted = teacher(sequences).logits[:, :-1].softmax(-1)
        given = student(sequences).logits[:, :-1].softmax(-1)
    measured = Validation(sequences, device="cpu", teacher=teacher).measure(student)
    assert measured.perplexity == pytest.approx(
        perplexity(student, sequences, lambda _done, _total: None), rel=1e-5
    )
    assert measured.kl_divergence == pytest.approx(
        float((wanted * (wanted / given).log()).sum(-1).mean()), rel=1e-4
    )
    assert Validation(sequences, device="cpu").measure(student).kl_divergence is None


def test_temperature_softens_both_distributions() -> None:
    teacher, student = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    halved = kl_divergence(teacher / 2, student / 2)
    assert kl_divergence(teacher, student, temperature=2.0) == pytest.approx(float(halved))
    assert float(kl_divergence(teacher, teacher, temperature=3.0)) == 0
