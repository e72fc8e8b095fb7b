"""What one request of a batch provokes is told to its own client only."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers


class Tensor:
    def __init__(self, name: str, array: Any) -> None:
        self.name = lambda: name
        self.as_numpy = lambda: array


def response(output_tensors: list[Any], error: Any = None) -> Any:
    return SimpleNamespace(names=[tensor.name() for tensor in output_tensors], error=error)


class TritonError(SimpleNamespace):
    INVALID_ARG, INTERNAL = 1, 2

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message=message, code=code)


@pytest.fixture
def preprocessing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The model with a tokenizer that has no word for what it does not know, and fails then."""
    logged: list[str] = []
    logger = SimpleNamespace(log_warn=logged.append, log_error=logged.append)
    python_api = SimpleNamespace(
        Tensor=Tensor, InferenceResponse=response, TritonError=TritonError, Logger=logger
    )
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", python_api)
    name = "bwdeploy_engine_models.preprocessing.model"
    monkeypatch.delitem(sys.modules, name, raising=False)
    folder = tmp_path / "1" / "tokenizer"
    folder.mkdir(parents=True)
    tokenizer = Tokenizer(models.WordLevel({"known": 0}, unk_token="<none>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    parameters = {"tokenizer_dir": {"string_value": "tokenizer"}}
    model = importlib.import_module(name).TritonPythonModel()
    model.initialize(
        {
            "model_config": json.dumps({"parameters": parameters}),
            "model_repository": str(tmp_path),
            "model_version": "1",
            "model_name": "preprocessing",
        }
    )
    sys.modules.pop(name)
    return model


def request(text: str) -> Any:
    tensors = [
        Tensor("QUERY", np.array([[text]], dtype=np.object_)),
        Tensor("REQUEST_OUTPUT_LEN", np.array([[3]], dtype=np.int32)),
    ]
    return SimpleNamespace(inputs=lambda: tensors)


def test_a_tokenizer_that_fails_on_one_prompt_fails_no_other(preprocessing: Any) -> None:
    answers = preprocessing.execute([request("known"), request("unheard"), request("known")])
    assert [one.error is None for one in answers] == [True, False, True]
    assert "the tokenizer failed: " in answers[1].error.message
    assert answers[1].error.code == TritonError.INTERNAL
    assert "INPUT_ID" in answers[0].names
