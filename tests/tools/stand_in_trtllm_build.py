#!/usr/bin/env python3
"""A stand-in for `trtllm-build` (1.1 to 1.2): its parser option by option, its hard errors, its files.

It reads a real TensorRT-LLM checkpoint (every rank's tensors must have the names that a decoder needs) and
writes config.json, one rankN.engine for each rank and the timing cache; the engines hold no network. It knows
nothing of bwdeploy's own table of options, so that the table can be held against it.

STAND_IN_SM, STAND_IN_GPUS, STAND_IN_VERSION say what it finds on the machine; STAND_IN_FAIL_LOG names a file
whose lines it ends with (exit 1) after the first rank; STAND_IN_OMIT_RANK leaves one out; STAND_IN_SLEEP_S
waits before each rank; STAND_IN_RECORD is where it writes its arguments.
"""

from __future__ import annotations

import argparse
import json
import os
import struct
import sys
import time
from pathlib import Path
from typing import Any

DTYPES = ["auto", "float16", "float32", "bfloat16", "int32", "disable"]
SWITCH = ["enable", "disable"]
LEVELS = ["internal_error", "error", "warning", "info", "verbose", "debug", "trace"]
LORA_MODULES = [
    "attn_qkv", "attn_q", "attn_k", "attn_v", "attn_dense", "mlp_h_to_4h", "mlp_4h_to_h", "mlp_gate",
    "cross_attn_qkv", "cross_attn_q", "cross_attn_k", "cross_attn_v", "cross_attn_dense", "moe_h_to_4h",
    "moe_4h_to_h", "moe_gate", "moe_router", "mlp_router", "mlp_gate_up",
]  # fmt: skip
MODES = {
    None: 1, "draft_tokens_external": 2, "lookahead_decoding": 8, "medusa": 4, "explicit_draft_tokens": 16,
    "eagle": 32,
}  # fmt: skip
BANNED = {
    "100": (
        "gemm_swiglu_plugin", "fp8_rowwise_gemm_plugin", "low_latency_gemm_plugin",
        "low_latency_gemm_swiglu_plugin", "bert_context_fmha_fp32_acc",
    )
}  # fmt: skip


def kv_cache_type(word: str) -> str:
    if word.lower() not in {"continuous", "paged", "disabled"}:
        raise argparse.ArgumentTypeError(f"Invalid value '{word}'")
    return word.upper()


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="trtllm-build")
    add = top.add_argument
    add("--checkpoint_dir")
    add("--model_config")
    add("--build_config")
    add("--model_cls_file")
    add("--model_cls_name")
    add("--output_dir", default="engine_outputs")
    add("--max_batch_size", type=int, default=2048)
    add("--max_input_len", type=int, default=1024)
    add("--max_seq_len", "--max_decoder_seq_len", dest="max_seq_len", type=int)
    add("--max_beam_width", type=int, default=1)
    add("--max_num_tokens", type=int, default=8192)
    add("--opt_num_tokens", type=int)
    add("--max_encoder_input_len", type=int, default=1024)
    add("--max_prompt_embedding_table_size", "--max_multimodal_len", type=int, default=0)
    add("--kv_cache_type", default=argparse.SUPPRESS, type=kv_cache_type)
    add("--paged_kv_cache", default=argparse.SUPPRESS)
    add("--input_timing_cache")
    add("--output_timing_cache", default="model.cache")
    add("--profiling_verbosity", default="layer_names_only", choices=["layer_names_only", "detailed", "none"])
    add("--strip_plan", action="store_true")
    add("--weight_sparsity", action="store_true")
    add("--weight_streaming", action="store_true")
    add("--fast_build", action="store_true")
    add("--workers", type=int, default=1)
    add("--log_level", default="info", choices=LEVELS)
    add("--enable_debug_output", action="store_true")
    add("--visualize_network")
    add("--dry_run", action="store_true")
    add("--monitor_memory", action="store_true")
    _add_runtime_groups(top)
    _add_plugins(top)
    return top


def _add_runtime_groups(top: argparse.ArgumentParser) -> None:
    add = top.add_argument_group("Logits arguments").add_argument
    add("--logits_dtype", choices=["float16", "float32"])
    add("--gather_context_logits", action="store_true")
    add("--gather_generation_logits", action="store_true")
    add("--gather_all_token_logits", action="store_true")
    add = top.add_argument_group("LoRA arguments").add_argument
    add("--lora_dir", nargs="+")
    add("--lora_ckpt_source", default="hf", choices=["hf", "nemo"])
    add("--lora_target_modules", nargs="+", choices=LORA_MODULES)
    add("--max_lora_rank", type=int, default=64)
    add = top.add_argument_group("Speculative decoding arguments").add_argument
    add("--speculative_decoding_mode", choices=[mode for mode in MODES if mode])
    add("--max_draft_len", type=int, default=0)


def _add_plugins(top: argparse.ArgumentParser) -> None:
    add = top.add_argument_group("Plugin config arguments").add_argument
    add("--bert_attention_plugin", default="auto", choices=DTYPES)
    add("--gpt_attention_plugin", default="auto", choices=DTYPES)
    add("--gemm_plugin", choices=[*DTYPES[:-1], "fp8", "nvfp4", "disable"])
    add("--gemm_swiglu_plugin", default="disable", choices=["fp8", "disable"])
    add("--fp8_rowwise_gemm_plugin", default="disable", choices=DTYPES)
    add("--lora_plugin", default="disable", choices=DTYPES)
    add("--dora_plugin", default="disable", choices=SWITCH)
    add("--moe_plugin", default="auto", choices=DTYPES)
    add("--mamba_conv1d_plugin", default="auto", choices=DTYPES)
    add("--nccl_plugin", default="auto", choices=DTYPES)
    add("--low_latency_gemm_plugin", default="disable", choices=["fp8", "disable"])
    add("--low_latency_gemm_swiglu_plugin", default="disable", choices=["fp8", "disable"])
    add("--gemm_allreduce_plugin", default="disable", choices=["float16", "bfloat16", "disable"])
    add("--context_fmha", default="enable", choices=SWITCH)
    add("--bert_context_fmha_fp32_acc", default="disable", choices=SWITCH)
    add("--remove_input_padding", default="enable", choices=SWITCH)
    add("--norm_quant_fusion", default="disable", choices=SWITCH)
    add("--reduce_fusion", default="disable", choices=SWITCH)
    add("--user_buffer", default="disable", choices=SWITCH)
    add("--tokens_per_block", type=int, default=32)
    add("--use_paged_context_fmha", default="enable", choices=SWITCH)
    add("--use_fp8_context_fmha", default="enable", choices=SWITCH)
    add("--fuse_fp4_quant", default="disable", choices=SWITCH)
    add("--multiple_profiles", default="disable", choices=SWITCH)
    add("--paged_state", default="enable", choices=SWITCH)
    add("--streamingllm", default="disable", choices=SWITCH)
    add("--use_fused_mlp", default="enable", choices=SWITCH)
    add("--pp_reduce_scatter", default="disable", choices=SWITCH)


PLUGINS = (
    "bert_attention_plugin", "gpt_attention_plugin", "gemm_plugin", "gemm_swiglu_plugin",
    "fp8_rowwise_gemm_plugin", "lora_plugin", "dora_plugin", "moe_plugin", "mamba_conv1d_plugin",
    "nccl_plugin", "low_latency_gemm_plugin", "low_latency_gemm_swiglu_plugin", "gemm_allreduce_plugin",
    "context_fmha", "bert_context_fmha_fp32_acc", "remove_input_padding", "norm_quant_fusion",
    "reduce_fusion", "user_buffer", "tokens_per_block", "use_paged_context_fmha", "use_fp8_context_fmha",
    "fuse_fp4_quant", "multiple_profiles", "paged_state", "streamingllm", "use_fused_mlp",
    "pp_reduce_scatter",
)  # fmt: skip
BOOLEANS = frozenset(
    {
        "dora_plugin", "context_fmha", "bert_context_fmha_fp32_acc", "remove_input_padding",
        "norm_quant_fusion", "reduce_fusion", "user_buffer", "use_paged_context_fmha",
        "use_fp8_context_fmha", "fuse_fp4_quant", "multiple_profiles", "paged_state", "streamingllm",
        "use_fused_mlp", "pp_reduce_scatter",
    }
)  # fmt: skip


def say(level: str, message: str) -> None:
    sys.stdout.write(f"[{time.strftime('%m/%d/%Y-%H:%M:%S')}] [TRT-LLM] [{level}] {message}\n")
    sys.stdout.flush()


def plugin_config(args: argparse.Namespace) -> dict[str, Any]:
    config: dict[str, Any] = {"dtype": "float16"}
    for name in PLUGINS:
        value = getattr(args, name)
        if value == "enable":
            value = True
        elif value == "disable":
            value = False if name in BOOLEANS else None
        config[name] = value
        say("I", f"Set PluginConfig.{name} to {value}.")
    sm = os.environ.get("STAND_IN_SM", "90")
    for name in BANNED.get(sm, ()):
        if config[name] not in (None, False):
            raise NotImplementedError(f"{name}={config[name]} is not supported on SM {sm}.")
    return config | {"manage_weights": args.fast_build}


def build(args: argparse.Namespace) -> None:
    if args.gather_all_token_logits:
        args.gather_context_logits = args.gather_generation_logits = True
    if args.gather_context_logits and args.max_draft_len > 0:
        raise RuntimeError("Gather context logits is not support with draft len > 0. ")
    Path(args.output_dir).mkdir(parents=True, exist_ok=True)
    if args.model_cls_file is not None:
        assert args.model_cls_name is not None
        Path(args.model_cls_file).read_text()
    workers = min(int(os.environ.get("STAND_IN_GPUS", "1")), args.workers)
    if hasattr(args, "paged_kv_cache"):
        say("W", "Option --paged_kv_cache is deprecated, use --kv_cache_type=paged/disabled instead.")
    plugins = plugin_config(args)
    place = args.checkpoint_dir if args.checkpoint_dir is not None else args.model_config
    weights = None if place.lower().endswith(".json") else Path(place)
    model = json.loads((weights / "config.json" if weights else Path(place)).read_text())
    mapping, algorithm = model["mapping"], model.get("quantization", {}).get("quant_algo")
    if args.multiple_profiles == "enable" and args.opt_num_tokens is not None:
        raise RuntimeError("multiple_profiles is enabled, while opt_num_tokens is set. ")
    if algorithm == "NVFP4" and args.gemm_plugin != "disable":
        plugins["gemm_plugin"] = "nvfp4"
    if mapping["world_size"] == 1:
        plugins["nccl_plugin"] = None
    config = {
        "version": os.environ.get("STAND_IN_VERSION", "1.2.1"),
        "pretrained_config": model,
        "build_config": build_config(args, plugins, model),
    }
    say("I", f"Building {mapping['world_size']} ranks with {max(workers, 1)} workers.")
    for rank in range(mapping["world_size"]):
        build_rank(args, rank, weights, config)
    Path(args.output_timing_cache).write_bytes(b"timings")
    say("I", "Total time of building all engines: 00:00:00")


def build_config(args: argparse.Namespace, plugins: dict[str, Any], model: dict[str, Any]) -> dict[str, Any]:
    longest = args.max_seq_len or model.get("max_position_embeddings", 2048)
    most = longest * args.max_batch_size
    tokens = most if args.remove_input_padding == "disable" else min(args.max_num_tokens, most)
    if args.context_fmha == "enable":
        tokens = max(tokens, args.tokens_per_block)
    drafted = args.max_draft_len or model.get("max_draft_len", 0)
    if args.speculative_decoding_mode is not None:
        longest += drafted
        if args.speculative_decoding_mode == "eagle":
            assert args.max_batch_size <= 512, "Max batch size > 512 is not supported for EAGLE"
            longest += model["num_eagle_layers"]
        tokens = max(tokens, args.max_batch_size * (drafted + 1))
    return {
        "max_input_len": min(args.max_input_len, args.max_seq_len or longest),
        "max_seq_len": longest,
        "opt_batch_size": 8,
        "max_batch_size": args.max_batch_size,
        "max_beam_width": args.max_beam_width,
        "max_num_tokens": tokens,
        "opt_num_tokens": args.opt_num_tokens or min(args.max_batch_size * args.max_beam_width, tokens),
        "max_prompt_embedding_table_size": args.max_prompt_embedding_table_size,
        "kv_cache_type": getattr(args, "kv_cache_type", "PAGED"),
        "gather_context_logits": args.gather_context_logits,
        "gather_generation_logits": args.gather_generation_logits,
        "strongly_typed": True,
        "max_draft_len": drafted,
        "speculative_decoding_mode": MODES[args.speculative_decoding_mode],
        "use_strip_plan": args.strip_plan,
        "weight_streaming": args.weight_streaming,
        "lora_config": {"lora_dir": args.lora_dir or [], "max_lora_rank": args.max_lora_rank},
        "plugin_config": plugins,
    }


def build_rank(args: argparse.Namespace, rank: int, weights: Path | None, config: dict[str, Any]) -> None:
    time.sleep(float(os.environ.get("STAND_IN_SLEEP_S", "0")))
    model, plugins = config["pretrained_config"], config["build_config"]["plugin_config"]
    assert not plugins["streamingllm"], "StreamingLLM is no longer supported"
    assert not plugins["pp_reduce_scatter"] or model["architecture"] == "MixtralForCausalLM", (
        "PP reduce scatter is only supported in the mixtral model."
    )
    if weights is not None:
        require_tensors(weights / f"rank{rank}.safetensors", rank, model)
    say("I", f"Build TensorRT engine Unnamed Network {rank}")
    out = Path(args.output_dir)
    if rank == 0:
        (out / "config.json").write_text(json.dumps(config, indent=4))
    if "STAND_IN_FAIL_LOG" in os.environ:
        sys.stdout.write(Path(os.environ["STAND_IN_FAIL_LOG"]).read_text())
        sys.stdout.flush()
        raise SystemExit(1)
    if not args.dry_run and os.environ.get("STAND_IN_OMIT_RANK") != str(rank):
        say("I", f"Serializing engine to {out}/rank{rank}.engine...")
        (out / f"rank{rank}.engine").write_bytes(b"engine of rank %d" % rank)


def require_tensors(file: Path, rank: int, model: dict[str, Any]) -> None:
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        names = set(json.loads(stream.read(length))) - {"__metadata__"}
    tp, pp = model["mapping"]["tp_size"], model["mapping"]["pp_size"]
    stage, layers = rank // tp, model["num_hidden_layers"] // pp
    needed = {f"transformer.layers.{i}.attention.qkv.weight" for i in range(layers)}
    needed |= {f"transformer.layers.{i}.attention.dense.weight" for i in range(layers)}
    needed |= {"transformer.vocab_embedding.weight"} if stage == 0 else set()
    needed |= {"transformer.ln_f.weight"} if stage == pp - 1 else set()
    if needed - names:
        raise RuntimeError(f"Required but not provided tensors:{needed - names}")


def main(words: list[str]) -> None:
    if "STAND_IN_RECORD" in os.environ:
        Path(os.environ["STAND_IN_RECORD"]).write_text(json.dumps(words))
    sys.stdout.write(f"[TensorRT-LLM] TensorRT-LLM version: {os.environ.get('STAND_IN_VERSION', '1.2.1')}\n")
    build(parser().parse_args(words))


if __name__ == "__main__":
    main(sys.argv[1:])
