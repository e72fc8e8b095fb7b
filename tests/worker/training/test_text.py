"""Which text a training is validated on, and which its export is held against."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bwdeploy.worker.training import text
from tests.worker.training.jobs import training_request


@pytest.mark.parametrize(("device", "sequences"), [("cpu", 4), ("cuda", 10)])
def test_export_is_compared_on_more_text_where_rounding_differs(
    device: str, sequences: int, tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "_COMPARED", 10)
    request = training_request(tiny_llama, tmp_path, training={"validation_samples": 4}, device=device)
    assert request.training is not None
    compared = text.compared_text(request, request.training)
    assert compared.shape == (sequences, request.training.seq_len)
    assert torch.equal(compared[:4], text.validation_text(request, request.training))
    assert len(compared.unique(dim=0)) == sequences
