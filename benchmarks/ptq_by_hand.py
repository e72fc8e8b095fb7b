"""What a user would write to quantize a model with ModelOpt's API in one process; the baseline of `ptq`.

python benchmarks/ptq_by_hand.py MODEL_DIR OUT SAMPLES SEQ_LEN BATCH PRESET
"""

from __future__ import annotations

import sys
from pydoc_data.topics import topics

import modelopt.torch.quantization as mtq
import torch
from modelopt.torch.export import export_hf_checkpoint
from transformers import AutoModelForCausalLM, AutoTokenizer


def main(model_dir: str, out: str, samples: int, seq_len: int, batch: int, preset: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    ids = tokenizer("\n\n".join(topics.values()), return_tensors="pt")["input_ids"][0]
    blocks = ids[: samples * seq_len].view(samples, seq_len)

    def forward_loop(quantized: torch.nn.Module) -> None:
        with torch.inference_mode():
            for start in range(0, samples, batch):
                # the body only: the output head is not quantized and would cost a third of the time
                quantized.model(blocks[start : start + batch])

    mtq.quantize(model, getattr(mtq, preset), forward_loop)
    with torch.inference_mode():
        export_hf_checkpoint(model, dtype=torch.bfloat16, export_dir=out)
    tokenizer.save_pretrained(out)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6]), sys.argv[6])
