#!/usr/bin/env python3
"""A stand-in for examples/quantization/quantize.py (1.0 to 1.2): its parser, and the checkpoint it writes.

It makes nothing: a TensorRT-LLM checkpoint that a test prepared is copied to --output_dir, from
STAND_IN_CHECKPOINT or from `rank_checkpoint` inside --model_dir, if its ranks and formats are as asked for.
STAND_IN_RECORD is where it writes its arguments.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path

ALGORITHMS = {
    "nvfp4": "NVFP4", "fp8": "FP8", "fp8_pc_pt": "FP8_PER_CHANNEL_PER_TOKEN",
    "int8_sq": "W8A8_SQ_PER_CHANNEL", "int4_awq": "W4A16_AWQ", "w4a8_awq": "W4A8_AWQ", "int8_wo": "W8A16",
    "int4_wo": "W4A16", "full_prec": None,
}  # fmt: skip
KV_ALGORITHMS = {None: None, "int8": "INT8", "fp8": "FP8"}


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="quantize.py")
    add = top.add_argument
    add("--model_dir")
    add("--nemo_ckpt_path")
    add("--decoder_type", default="gptnext", choices=["gptnext", "llama"])
    add("--device", default="cuda", choices=["cuda", "cpu"])
    add("--device_map", default="auto", choices=["auto", "sequential", "cpu", "gpu"])
    add("--calib_dataset", default="cnn_dailymail")
    add("--calib_tp_size", type=int, default=1)
    add("--calib_pp_size", type=int, default=1)
    add("--dtype", default="auto", choices=["auto", "float16", "bfloat16", "float32"])
    add("--qformat", default="full_prec", choices=list(ALGORITHMS))
    add("--seed", type=int, default=1234)
    add("--tokenizer_max_seq_length", type=int, default=2048)
    add("--batch_size", type=int, default=1)
    add("--calib_size", type=int, default=512)
    add("--calib_max_seq_length", type=int, default=512)
    add("--output_dir", default="exported_model")
    add("--tp_size", type=int, default=1)
    add("--pp_size", type=int, default=1)
    add("--cp_size", type=int, default=1)
    add("--awq_block_size", type=int, default=128)
    add("--kv_cache_dtype", choices=["int8", "fp8", None])
    add("--quantize_lm_head", action="store_true")
    add("--num_medusa_heads", type=int, default=4)
    add("--num_medusa_layers", type=int, default=1)
    add("--max_draft_len", type=int, default=63)
    add("--medusa_hidden_act", default="silu")
    add("--medusa_model_dir")
    add("--quant_medusa_head", action="store_true")
    add("--autoq_format")
    add("--auto_quantize_bits", type=float)
    return top


def main(words: list[str]) -> None:
    if "STAND_IN_RECORD" in os.environ:
        Path(os.environ["STAND_IN_RECORD"]).write_text(json.dumps(words))
    args = parser().parse_args(words)
    if args.model_dir is None:
        raise ValueError("One of source checkpoint (model_dir, nemo_ckpt_path) must be specified")
    calibrates = args.qformat != "full_prec" or args.kv_cache_dtype is not None
    if calibrates and "cnn_dailymail" not in args.calib_dataset and not Path(args.calib_dataset).is_dir():
        raise NotImplementedError(f"Unsupported dataset name or local repo directory: {args.calib_dataset}.")
    prepared = Path(os.environ.get("STAND_IN_CHECKPOINT", f"{args.model_dir}/rank_checkpoint"))
    config = json.loads((prepared / "config.json").read_text())
    found = (
        config["mapping"]["tp_size"],
        config["mapping"]["pp_size"],
        config["quantization"]["quant_algo"],
        config["quantization"]["kv_cache_quant_algo"],
    )
    asked = (
        args.tp_size,
        args.pp_size,
        ALGORITHMS[args.qformat],
        KV_ALGORITHMS[args.kv_cache_dtype],
    )
    assert found == asked, f"the prepared checkpoint is {found}, asked for was {asked}"
    sys.stdout.write(f"Calibrating batch 0\nQuantized model exported to {args.output_dir} \n")
    shutil.copytree(prepared, args.output_dir, dirs_exist_ok=True)


if __name__ == "__main__":
    main(sys.argv[1:])
