"""Decoding with real CUDA graphs: `pytest -m gpu`. tests/runtime has what needs no GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
import transformers

from bwdeploy_runtime.config import EngineConfig
from bwdeploy_runtime.engines.cuda_capture import CudaCapture
from bwdeploy_runtime.engines.graph_decoding import GraphDecoder
from bwdeploy_runtime.engines.reference import ReferenceEngine
from tests.runtime.answering import Answering
from tests.runtime.test_graph_decoding import PROMPT, SHAPE, run_again
from tests.worker.tiny_llama import make_tiny_llama

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.gpu

TOKENS = 40


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


def make_model(dtype: torch.dtype) -> Any:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**SHAPE)
    return transformers.AutoModelForCausalLM.from_config(config, dtype=dtype).eval().cuda()


def answer(model: Any, *, capture: Any = None) -> list[int]:
    """Greedy; `capture` None: with a growing cache, eagerly."""
    cache = transformers.DynamicCache(config=model.config)
    tokens = [int(eager(model, cache, PROMPT).argmax())]
    slot = None
    if capture is not None:
        decoder = GraphDecoder(model, longest=1024, memory_bytes=1 << 30, capture=capture)
        slot = decoder.begin(cache, tokens[-1], tokens=300)
        assert slot is not None
    for _ in range(TOKENS):
        logits = slot.decode(tokens[-1]) if slot else eager(model, cache, tokens[-1:])
        tokens.append(int(logits.argmax()))
    return tokens


def eager(model: Any, cache: Any, ids: list[int]) -> torch.Tensor:
    output = model(
        input_ids=torch.tensor([ids], device="cuda"), past_key_values=cache, use_cache=True, logits_to_keep=1
    )
    return output.logits[0, -1]


def test_a_graph_gives_the_tokens_of_eager_decoding() -> None:
    model = make_model(torch.float32)
    assert answer(model, capture=CudaCapture()) == answer(model)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_replay_gives_the_tokens_of_the_step_that_was_captured(dtype: torch.dtype) -> None:
    model = make_model(dtype)
    assert answer(model, capture=CudaCapture()) == answer(model, capture=run_again)


def test_a_model_that_waits_for_the_device_is_refused_and_still_decodes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = make_model(torch.float32)
    expected = answer(model)
    forward = model.model.layers[0].mlp.forward

    def looks_at_a_value(values: torch.Tensor) -> torch.Tensor:
        return forward(values) if float(values.sum()) < 1e9 else values

    model.model.layers[0].mlp.forward = looks_at_a_value
    decoder = GraphDecoder(model, longest=1024, memory_bytes=1 << 30, capture=CudaCapture())
    cache = transformers.DynamicCache(config=model.config)
    token = int(eager(model, cache, PROMPT).argmax())
    assert decoder.begin(cache, token, tokens=100) is None
    assert "tokens are decoded without CUDA graphs: RuntimeError: called a synchronizing" in caplog.text
    assert torch.cuda.get_sync_debug_mode() == 0
    assert answer(model) == expected
    assert answer(make_model(torch.float32), capture=CudaCapture()) == expected


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("source"))


def engine_texts(checkpoint: Path, *, requests: int, capture: Any = None) -> tuple[list[str], int]:
    """Answers to that many requests at once, and the number of slots that were made."""
    settings = EngineConfig(runtime="reference", checkpoint=".", max_seq_len=100)
    engine = ReferenceEngine()
    engine.load(settings, checkpoint, wake=lambda: None)
    graphs = engine._graphs
    assert graphs is not None
    if capture is not None:
        graphs._capture = capture
    with Answering(engine, settings) as answering:
        ids = [answering.begin(f"the quick brown fox {number}", max_tokens=24) for number in range(requests)]
        texts = [answering.wait(request).text for request in ids]
    return texts, len(graphs._bytes)


def test_the_engine_decodes_in_graphs_on_a_gpu(checkpoint: Path, caplog: pytest.LogCaptureFixture) -> None:
    in_graphs = engine_texts(checkpoint, requests=4)
    assert in_graphs == engine_texts(checkpoint, requests=4, capture=run_again)
    assert in_graphs[1] == 4
    texts, slots = engine_texts(checkpoint, requests=10)
    assert (len(texts), slots) == (10, 8)
    assert "without CUDA graphs" not in caplog.text
