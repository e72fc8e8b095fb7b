"""Writes small TensorRT-LLM checkpoints with real names and shapes, one file for each rank."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

HIDDEN, LAYERS, VOCABULARY = 16, 2, 32


def write_rank_checkpoint(
    directory: Path,
    *,
    tp: int = 1,
    pp: int = 1,
    quant_algo: str | None = None,
    kv_cache_quant_algo: str | None = None,
    architecture: str = "LlamaForCausalLM",
) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    config = {
        "producer": {"name": "modelopt", "version": "0.47.0"},
        "architecture": architecture,
        "dtype": "bfloat16",
        "logits_dtype": "float16",
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "hidden_size": HIDDEN,
        "intermediate_size": 32,
        "norm_epsilon": 1e-05,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 128,
        "hidden_act": "silu",
        "position_embedding_type": "rope_gpt_neox",
        "mapping": {"world_size": tp * pp, "tp_size": tp, "pp_size": pp},
        "quantization": {"quant_algo": quant_algo, "kv_cache_quant_algo": kv_cache_quant_algo},
    }
    (directory / "config.json").write_text(json.dumps(config, indent=4))
    for rank in range(tp * pp):
        _write_safetensors(directory / f"rank{rank}.safetensors", _shapes(rank, tp, pp))
    return directory


def _shapes(rank: int, tp: int, pp: int) -> dict[str, list[int]]:
    shapes: dict[str, list[int]] = {}
    for layer in range(LAYERS // pp):
        name = f"transformer.layers.{layer}"
        shapes[f"{name}.attention.qkv.weight"] = [3 * HIDDEN // tp, HIDDEN]
        shapes[f"{name}.attention.dense.weight"] = [HIDDEN, HIDDEN // tp]
        shapes[f"{name}.input_layernorm.weight"] = [HIDDEN]
    if rank // tp == 0:
        shapes["transformer.vocab_embedding.weight"] = [VOCABULARY, HIDDEN]
    if rank // tp == pp - 1:
        shapes["transformer.ln_f.weight"] = [HIDDEN]
        shapes["lm_head.weight"] = [VOCABULARY // tp, HIDDEN]
    return shapes


def _write_safetensors(file: Path, shapes: dict[str, list[int]]) -> None:
    header: dict[str, Any] = {}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * _product(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + bytes(end))


def _product(shape: list[int]) -> int:
    product = 1
    for size in shape:
        product *= size
    return product
