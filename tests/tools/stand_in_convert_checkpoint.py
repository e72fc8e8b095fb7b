#!/usr/bin/env python3
"""A stand-in for the convert_checkpoint.py scripts of TensorRT-LLM's examples (1.0 to 1.2): their parsers.

`parser(family)` has the options of one script; run as a program it is the script of STAND_IN_FAMILY (llama).
It makes nothing: a TensorRT-LLM checkpoint that a test prepared is copied to the output directory, from
STAND_IN_CHECKPOINT or from `rank_checkpoint` inside the model, if its ranks are what was asked for.
STAND_IN_RECORD is where it writes its arguments.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path

WITH_AUTO = ["auto", "float16", "bfloat16", "float32"]
WITHOUT_AUTO = ["float32", "bfloat16", "float16"]


def parser(family: str) -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="convert_checkpoint.py")
    {
        "llama": _llama, "qwen": _qwen, "phi": _phi, "gpt": _gpt, "gemma": _gemma, "internlm2": _internlm2,
        "commandr": _commandr, "deepseek_v2": _deepseek_v2, "medusa": _medusa,
        "eagle": _eagle,
    }[family](top)  # fmt: skip
    return top


def _ranks(top: argparse.ArgumentParser, dtypes: list[str], default: str) -> None:
    top.add_argument("--tp_size", type=int, default=1)
    top.add_argument("--pp_size", type=int, default=1)
    top.add_argument("--dtype", default=default, choices=dtypes)
    top.add_argument("--output_dir", default="tllm_checkpoint")
    top.add_argument("--workers", type=int, default=1)


def _embedding(top: argparse.ArgumentParser) -> None:
    top.add_argument("--use_parallel_embedding", action="store_true")
    top.add_argument("--embedding_sharding_dim", type=int, default=0, choices=[0, 1])


def _weight_only(top: argparse.ArgumentParser, choices: list[str]) -> None:
    top.add_argument("--use_weight_only", action="store_true")
    top.add_argument("--weight_only_precision", const="int8", nargs="?", default="int8", choices=choices)


def _experts(top: argparse.ArgumentParser) -> None:
    top.add_argument("--moe_tp_size", type=int, default=-1)
    top.add_argument("--moe_ep_size", type=int, default=-1)


def _smoothing(top: argparse.ArgumentParser) -> None:
    top.add_argument("--calib_dataset", default="ccdv/cnn_dailymail")
    top.add_argument("--smoothquant", "-sq", type=float)
    for name in ("--per_channel", "--per_token", "--int8_kv_cache"):
        top.add_argument(name, action="store_true")


def _llama(top: argparse.ArgumentParser) -> None:
    add = top.add_argument
    add("--model_dir")
    add("--meta_ckpt_dir")
    _ranks(top, WITH_AUTO, "auto")
    _experts(top)
    _embedding(top)
    _smoothing(top)
    _weight_only(top, ["int8", "int4", "int8_gptq", "int4_gptq", "int4_awq"])
    add("--cp_size", type=int, default=1)
    for name, default in (("vocab_size", 32000), ("n_positions", 2048), ("n_layer", 32), ("n_head", 32)):
        add(f"--{name}", type=int, default=default)
    add("--quant_ckpt_path")
    add("--group_size", type=int, default=128)
    add("--calib_size", type=int, default=512)
    add("--calib_max_seq_length", type=int, default=512)
    add("--log_level", default="info")
    for name in (
        "disable_weight_only_quant_plugin", "use_qserve", "fp8_kv_cache", "use_fp8", "use_nvfp4",
        "use_fp8_rowwise", "use_meta_fp8_rowwise_recipe", "per_group", "load_by_shard", "load_model_on_cpu",
        "save_config_only", "remove_duplicated_kv_heads",
    ):  # fmt: skip
        add(f"--{name}", action="store_true")


def _qwen(top: argparse.ArgumentParser) -> None:
    top.add_argument("--model_dir", required=True)
    _ranks(top, WITH_AUTO, "auto")
    _experts(top)
    _embedding(top)
    _smoothing(top)
    _weight_only(top, ["int8", "int4", "int4_gptq", "int8_gptq"])
    top.add_argument("--cp_size", type=int, default=1)
    top.add_argument("--group_size", type=int, default=128)
    for name in ("--disable_weight_only_quant_plugin", "--per_group", "--load_model_on_cpu"):
        top.add_argument(name, action="store_true")


def _phi(top: argparse.ArgumentParser) -> None:
    top.add_argument("--model_dir")
    _ranks(top, WITH_AUTO, "auto")
    _experts(top)
    _weight_only(top, ["int8", "int4"])


def _gpt(top: argparse.ArgumentParser) -> None:
    top.add_argument("--model_dir")
    top.add_argument("--nemo_ckpt_path")
    top.add_argument("--gpt_variant")
    _ranks(top, WITH_AUTO, "auto")
    _embedding(top)
    _smoothing(top)
    _weight_only(top, ["int8", "int4"])
    top.add_argument("--load_model_on_cpu", action="store_true")
    top.add_argument("--dataset_cache_dir")
    top.add_argument("--log_level", default="info")
    top.add_argument("--nemo_rename_key", nargs="+", default=[])


def _gemma(top: argparse.ArgumentParser) -> None:
    add = top.add_argument
    add("--ckpt-type", choices=["jax", "keras", "torch", "hf"])
    add("--model-dir", "--model_dir", required=True)
    add("--output-model-dir", "--output_dir", dest="output_dir", required=True)
    add("--world-size", dest="tp_size", type=int, default=1)
    add("--dtype", default="auto", choices=WITH_AUTO)
    _weight_only(top, ["int8", "int4", "w4a8_awq", "w4a16_awq"])
    add("--enable_fp8", action="store_true")
    add("--fp8_kv_cache", action="store_true")
    add("--quant_ckpt_path")
    add("--tokenizer_dir")
    top.set_defaults(pp_size=1)


def _internlm2(top: argparse.ArgumentParser) -> None:
    top.add_argument("--model_dir")
    _ranks(top, WITHOUT_AUTO, "float16")
    _embedding(top)
    _weight_only(top, ["int8", "int4"])
    top.add_argument("--log_level", default="info")


def _commandr(top: argparse.ArgumentParser) -> None:
    top.add_argument("--model_dir")
    _ranks(top, WITH_AUTO, "auto")
    _embedding(top)
    _weight_only(top, ["int8", "int4"])
    top.add_argument("--disable_weight_only_quant_plugin", action="store_true")
    top.add_argument("--load_model_on_cpu", action="store_true")
    top.add_argument("--log_level", default="info")


def _deepseek_v2(top: argparse.ArgumentParser) -> None:
    top.add_argument("--model_dir", required=True)
    _ranks(top, WITHOUT_AUTO, "float16")
    _experts(top)
    _embedding(top)
    for name in ("load_model_on_cpu", "use_preloading", "use_safetensors_loading", "save_config_only"):
        top.add_argument(f"--{name}", action="store_true")


def _medusa(top: argparse.ArgumentParser) -> None:
    add = top.add_argument
    add("--model_dir")
    add("--meta_ckpt_dir")
    _ranks(top, WITHOUT_AUTO, "float16")
    _embedding(top)
    _smoothing(top)
    _weight_only(top, ["int8", "int4", "int4_gptq"])
    add("--num_medusa_heads", type=int, default=4)
    add("--num_medusa_layers", type=int, default=1)
    add("--max_medusa_token_len", type=int, default=63)
    add("--medusa_hidden_act", default="silu")
    add("--medusa_model_dir")
    add("--model_type", default="llama")


def _eagle(top: argparse.ArgumentParser) -> None:
    add = top.add_argument
    add("--model_dir")
    add("--meta_ckpt_dir")
    _ranks(top, WITH_AUTO, "auto")
    _embedding(top)
    _smoothing(top)
    _weight_only(top, ["int8", "int4", "int4_gptq"])
    add("--eagle_model_dir")
    add("--max_draft_len", type=int, default=63)
    add("--num_eagle_layers", type=int, default=4)
    add("--max_non_leaves_per_layer", type=int, default=10)


def convert_heads(args: argparse.Namespace) -> dict[str, object]:
    """What the scripts with heads assert, and write into config.json."""
    if hasattr(args, "eagle_model_dir"):
        assert args.pp_size == 1, "Pipeline parallelism is not supported in EAGLE yet."
        assert args.max_draft_len <= 256, "args.max_draft_len > 256 is not supported"
        (Path(args.eagle_model_dir or args.model_dir) / "config.json").read_text()
        names = ("max_draft_len", "num_eagle_layers", "max_non_leaves_per_layer")
        return {"architecture": "EagleForCausalLM"} | {name: getattr(args, name) for name in names}
    assert args.model_type in ["llama", "mixtral", "qwen2"], "Invalid model type"
    if args.medusa_model_dir is not None:
        (Path(args.medusa_model_dir) / "config.json").read_text()
    heads = {name: getattr(args, name) for name in ("num_medusa_heads", "num_medusa_layers")}
    return {"architecture": "MedusaForCausalLM", "max_draft_len": args.max_medusa_token_len} | heads


def main(words: list[str]) -> None:
    if "STAND_IN_RECORD" in os.environ:
        Path(os.environ["STAND_IN_RECORD"]).write_text(json.dumps(words))
    family = os.environ.get("STAND_IN_FAMILY", "llama")
    args = parser(family).parse_args(words)
    sys.stdout.write("1.2.1\n")
    prepared = Path(os.environ.get("STAND_IN_CHECKPOINT", f"{args.model_dir}/rank_checkpoint"))
    mapping = json.loads((prepared / "config.json").read_text())["mapping"]
    assert (mapping["tp_size"], mapping["pp_size"]) == (args.tp_size, args.pp_size), mapping
    shutil.copytree(prepared, args.output_dir, dirs_exist_ok=True)
    if family in ("eagle", "medusa"):
        config = Path(args.output_dir) / "config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | convert_heads(args)))
    sys.stdout.write("Total time of converting checkpoints: 00:00:00\n")


if __name__ == "__main__":
    main(sys.argv[1:])
