"""The Triton model."""

from __future__ import annotations

from tests.checks.cases import Fires, Silent

V13 = "engine.tensorrt_llm='1.3.0rc20'"

FIRES = (
    Fires(
        "serve-no-triton-image",
        (V13,),
        "engine.tensorrt_llm",
        "no known Triton image carries TensorRT-LLM 1.3.0rc20",
        hint="Set engine.tensorrt_llm to one of 1.2.0, 1.2.1, or serve.runtime: reference",
    ),
    Fires(
        "serve-flush-without-effect",
        ("serve.flush_interval_ms=0",),
        "serve.flush_interval_ms",
        "at 0 ms each token is sent at once, so flush_tokens 16 has no effect",
        "warning",
        hint="Raise it, or set serve.flush_tokens: 1",
    ),
    Fires(
        "serve-cumulative-without-streaming",
        ("serve={cumulative_text: true, streaming: false}",),
        "serve.cumulative_text",
        "without streaming there is one response, so cumulative_text has no effect",
        "warning",
        hint="Remove it, or set serve.streaming: true",
    ),
    Fires(
        "serve-output-beyond-sequence",
        ("serve.max_output_tokens=8192",),
        "serve.max_output_tokens",
        "no answer can be that long: prompt and answer share max_seq_len 8192",
        "warning",
        hint="Choose less than 8192",
    ),
    Fires(
        "serve-running-beyond-batch",
        ("serve.max_running=65",),
        "serve.max_running",
        "the engine runs 64 at once; more wait where no queue limit counts them",
        "warning",
        hint="Set it to 64",
    ),
)
SILENT = (
    Silent("serve-no-triton-image", (V13, "serve.runtime=reference")),
    Silent("serve-no-triton-image", ()),
    Silent("serve-flush-without-effect", ("serve={flush_interval_ms: 0, flush_tokens: 1}",)),
    Silent("serve-cumulative-without-streaming", ("serve.cumulative_text=true",)),
    Silent("serve-output-beyond-sequence", ("serve.max_output_tokens=8191",)),
    Silent("serve-running-beyond-batch", ("serve.max_running=64",)),
    Silent(
        "serve-running-beyond-batch",
        ("serve.max_running=128", "layout={gpus_per_node: 2, tp: 2, attention_dp: true}"),
    ),
)
