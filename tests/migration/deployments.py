"""Small deployments as their tools write them: an engine, a checkpoint, a repository, scripts, Trusses."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bwdeploy.checks.recipes import check_recipes
from bwdeploy.facts.triton_templates import engine_models, key_in
from bwdeploy.migration.writing import recipe_text
from bwdeploy.serving.model_config import parse_pbtxt, to_pbtxt

if TYPE_CHECKING:
    from pathlib import Path

    from bwdeploy.migration.found import Found, Note
    from bwdeploy.recipe.schema import Recipe

SHAPE: dict[str, Any] = {
    "vocab_size": 256,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "max_position_embeddings": 4096,
}
ENGINE_VALUES: dict[str, str] = {
    "engine_dir": "/engines/llama",
    "batching_strategy": "inflight_fused_batching",
    "max_beam_width": "1",
    "kv_cache_free_gpu_mem_fraction": "0.85",
    "enable_kv_cache_reuse": "true",
    "enable_chunked_context": "true",
    "batch_scheduler_policy": "max_utilization",
    "kv_cache_host_memory_bytes": "45000000000",
    "exclude_input_in_output": "true",
    "normalize_log_probs": "true",
    "cancellation_check_period_ms": "50",
    "iter_stats_max_iterations": "1000",
    "max_attention_window_size": "4096\\,4096",
    "decoding_mode": "top_k_top_p",
}
"""Template key → value, of the model tensorrt_llm."""


def model_directory(place: Path) -> Path:
    """A Llama of Hugging Face, as small as it gets."""
    place.mkdir(parents=True)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "torch_dtype": "bfloat16",
        "head_dim": 16,
    }
    (place / "config.json").write_text(json.dumps({**config, **SHAPE}))
    (place / "model.safetensors").write_bytes(b"\x02\x00\x00\x00\x00\x00\x00\x00{}")
    return place


def checkpoint_config(**changes: Any) -> dict[str, Any]:
    """config.json of a TensorRT-LLM checkpoint of two ranks, FP8 with an FP8 KV cache."""
    config = {
        "architecture": "LlamaForCausalLM",
        "dtype": "bfloat16",
        "logits_dtype": "float32",
        "hidden_act": "silu",
        "norm_epsilon": 1e-5,
        "position_embedding_type": "rope_gpt_neox",
        "rotary_base": 500000.0,
        **SHAPE,
        "head_size": 16,
        "mapping": {
            "world_size": 2, "gpus_per_node": 8, "cp_size": 1, "tp_size": 2, "pp_size": 1, "moe_tp_size": 2,
            "moe_ep_size": 1,
        },
        "quantization": {
            "quant_algo": "FP8", "kv_cache_quant_algo": "FP8", "group_size": 128, "smoothquant_val": 0.5,
            "clamp_val": None, "has_zero_point": False, "exclude_modules": ["lm_head"],
        },
    }  # fmt: skip
    return {**config, **changes}


def engine_config(**changes: Any) -> dict[str, Any]:
    """config.json of an engine of 1.2.1, chosen settings among many defaults."""
    build: dict[str, Any] = {
        "max_input_len": 1024, "max_seq_len": 4096, "opt_batch_size": 8, "max_batch_size": 32,
        "max_beam_width": 1, "max_num_tokens": 4096, "opt_num_tokens": 32,
        "max_prompt_embedding_table_size": 0, "kv_cache_type": "PAGED", "gather_context_logits": False,
        "gather_generation_logits": False, "strongly_typed": True, "force_num_profiles": None,
        "profiling_verbosity": "layer_names_only", "enable_debug_output": False, "max_draft_len": 0,
        "speculative_decoding_mode": 1, "use_refit": False, "input_timing_cache": None,
        "output_timing_cache": "model.cache",
        "lora_config": {
            "lora_dir": [], "lora_ckpt_source": "hf", "max_lora_rank": 64, "lora_target_modules": [],
            "trtllm_modules_to_hf_modules": {},
        },
        "weight_sparsity": False, "weight_streaming": False, "use_strip_plan": False,
        "max_encoder_input_len": 1, "monitor_memory": False, "use_mrope": False,
        "plugin_config": {
            "dtype": "bfloat16", "bert_attention_plugin": "auto", "gpt_attention_plugin": "bfloat16",
            "gemm_plugin": "fp8", "explicitly_disable_gemm_plugin": False, "gemm_swiglu_plugin": None,
            "fp8_rowwise_gemm_plugin": None, "qserve_gemm_plugin": None, "identity_plugin": None,
            "nccl_plugin": "bfloat16", "lora_plugin": None, "dora_plugin": False, "moe_plugin": "auto",
            "mamba_conv1d_plugin": "auto", "low_latency_gemm_plugin": None, "gemm_allreduce_plugin": None,
            "context_fmha": True, "bert_context_fmha_fp32_acc": False, "paged_kv_cache": True,
            "remove_input_padding": True, "norm_quant_fusion": False, "reduce_fusion": True,
            "user_buffer": False, "tokens_per_block": 64, "use_paged_context_fmha": True,
            "use_fp8_context_fmha": True, "fuse_fp4_quant": False, "multiple_profiles": True,
            "paged_state": False, "streamingllm": False, "manage_weights": False, "use_fused_mlp": True,
            "pp_reduce_scatter": False,
        },
    }  # fmt: skip
    for key, value in changes.pop("build", {}).items():
        build[key] = {**build.get(key, {}), **value} if isinstance(value, dict) else value
    config = {"version": "1.2.1", "pretrained_config": checkpoint_config(), "build_config": build}
    return {**config, **changes}


def write_engine(place: Path, *, ranks: tuple[int, ...] = (0, 1), **changes: Any) -> Path:
    """An engine directory."""
    place.mkdir(parents=True)
    (place / "config.json").write_text(json.dumps(engine_config(**changes)))
    for rank in ranks:
        (place / f"rank{rank}.engine").write_bytes(b"ftrt")
    return place


def write_repository(
    place: Path, *, values: dict[str, str] | None = None, tokenizer: str = "/models/llama"
) -> Path:
    """The five models of inflight_batcher_llm, filled in as upstream's fill_template.py does it."""
    filled = {**ENGINE_VALUES, "tokenizer_dir": tokenizer, "add_special_tokens": "false", **(values or {})}
    for name, model in engine_models().items():
        message = parse_pbtxt(f'name: "{name}" max_batch_size: 32')
        message.backend = "tensorrtllm" if name == "tensorrt_llm" else "python"
        for parameter, text in model.parameters.items():
            key = key_in(text)
            value = text if key is None else filled.get(key, text)
            message.parameters[parameter].string_value = value
        if model.decoupled:
            message.model_transaction_policy.decoupled = True
        if model.queue == "bounded":
            message.dynamic_batching.max_queue_delay_microseconds = 1000
            message.dynamic_batching.default_queue_policy.max_queue_size = 128
        if model.instances:
            message.instance_group.add(count=1)
        (place / name / "1").mkdir(parents=True)
        (place / name / "config.pbtxt").write_text(to_pbtxt(message))
    return place


SCRIPT = """\
#!/bin/bash
set -euo pipefail
TP=2
export ENGINE_DIR=/engines/llama
# the checkpoint first
python3 /app/examples/quantization/quantize.py --model_dir {model} \\
    --dtype bfloat16 --qformat fp8 --kv_cache_dtype fp8 --calib_size 512 \\
    --tp_size ${{TP}} --output_dir ./ckpt
CUDA_VISIBLE_DEVICES=0,1 trtllm-build --checkpoint_dir ./ckpt --output_dir $ENGINE_DIR \\
    --gemm_plugin=fp8 --max_batch_size 64 --max_num_tokens 8192 --max_seq_len 4096 \\
    --use_custom_all_reduce disable --workers 2 && echo done
"""

TRUSS = """\
model_name: Llama 3.3 70B FP8
resources:
  accelerator: H100:2
  use_gpu: true
secrets:
  hf_access_token: null
trt_llm:
  build:
    base_model: decoder
    checkpoint_repository:
      source: HF
      repo: meta-llama/Llama-3.3-70B-Instruct
      revision: 6f6073b423013f6a7d4d9f39144961bfbfbc386b
    max_seq_len: 8192
    max_batch_size: 128
    quantization_type: fp8_kv
    tensor_parallel_count: 2
    num_builder_gpus: 4
    plugin_configuration:
      paged_kv_cache: true
      use_paged_context_fmha: true
      use_fp8_context_fmha: true
  runtime:
    kv_cache_free_gpu_mem_fraction: 0.85
    batch_scheduler_policy: max_utilization
    request_default_max_tokens: 1000
"""

TRUSS_SPECULATOR = """\
model_name: qwen-coder-lookahead
trt_llm:
  build:
    base_model: qwen
    checkpoint_repository: {source: HF, repo: Qwen/Qwen2.5-Coder-7B-Instruct}
    max_seq_len: 4096
    max_batch_size: 32
    quantization_type: no_quant
    speculator:
      speculative_decoding_mode: LOOKAHEAD_DECODING
      lookahead_windows_size: 7
      lookahead_ngram_size: 5
      lookahead_verification_set_size: 3
      enable_b10_lookahead: true
"""

TRUSS_V2 = """\
model_name: nemotron-throughput
resources:
  accelerator: B200:4
environment_variables:
  TRTLLM_ENABLE_PDL: "1"
trt_llm:
  inference_stack: v2
  build:
    checkpoint_repository:
      source: HF
      repo: nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-NVFP4
      revision: main
    quantization_type: no_quant
  runtime:
    max_batch_size: 32
    max_num_tokens: 16384
    max_seq_len: 131072
    tensor_parallel_size: 4
    enable_chunked_prefill: true
    served_model_name: nemotron
    patch_kwargs:
      reasoning_parser: nemotron3
      engine_config:
        backend: pytorch
        enable_iter_perf_stats: true
        moe_expert_parallel_size: 4
        kv_cache_config:
          dtype: fp8
          enable_block_reuse: false
          free_gpu_memory_fraction: 0.8
"""


def checked(found: Found, directory: Path) -> Recipe:
    """The recipe of a migration, written down and passed by `check`."""
    file = directory / "migrated.yaml"
    file.write_text(recipe_text(found, source="a test", file=file.name))
    return check_recipes(file)[0].loaded.recipe


def notes_of(found: Found, effect: str) -> dict[str, Note]:
    """The notes of one effect by their key."""
    return {note.key: note for note in found.notes if note.effect == effect}
