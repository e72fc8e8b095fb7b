"""The Triton model."""

from __future__ import annotations

from tests.checks.cases import Fires, Silent

V13 = "engine.tensorrt_llm='1.3.0rc20'"
TRT = "engine.backend=tensorrt"
OTHER = "serve.server=trtllm-serve"

FIRES = (
    Fires(
        "serve-environment-unused",
        ("engine.environment={TRTLLM_ENABLE_PDL: '1'}", "serve.runtime=reference"),
        "engine.environment",
        "only TensorRT-LLM reads these variables, and the runtime reference runs without it",
        "warning",
        hint="Set serve.runtime: tensorrt_llm, or remove them",
    ),
    Fires(
        "serve-no-triton-image",
        (V13,),
        "engine.tensorrt_llm",
        "no known Triton image carries TensorRT-LLM 1.3.0rc20",
        hint="Set serve.server: trtllm-serve, engine.tensorrt_llm to one of 1.2.0, 1.2.1, or serve.runtime: "
        "reference",
    ),
    Fires(
        "serve-server-backend",
        (OTHER, TRT),
        "serve.server",
        "trtllm-serve is written for the PyTorch backend, and the recipe builds an engine",
        hint="Set engine.backend: pytorch, or serve.server: triton",
    ),
    Fires(
        "serve-server-backend",
        (OTHER, "serve.runtime=reference"),
        "serve.server",
        "trtllm-serve runs TensorRT-LLM, and the recipe asks for the runtime reference",
        hint="Set serve.runtime: tensorrt_llm, or serve.server: triton",
    ),
    Fires(
        "serve-orchestrator-nodes",
        (TRT, "serve.launch_mode=orchestrator", "layout={nodes: 2, gpus_per_node: 1, tp: 2}"),
        "serve.launch_mode",
        "an orchestrator starts its workers on its own machine, and the layout has 2",
        hint="Set serve.launch_mode: leader",
    ),
    Fires(
        "serve-setting-without-effect",
        (OTHER, "serve.flush_tokens=3"),
        "serve.flush_tokens",
        "trtllm-serve has no such setting",
        "warning",
        hint="Remove it",
    ),
    Fires(
        "serve-setting-without-effect",
        (OTHER, "serve.max_queued=3"),
        "serve.max_queued",
        "trtllm-serve has no such setting",
        "warning",
    ),
    Fires(
        "serve-setting-without-effect",
        (TRT, "serve.max_running=3"),
        "serve.max_running",
        "the models that serve an engine have no such setting",
        "warning",
    ),
    Fires(
        "serve-setting-without-effect",
        ("serve.launch_mode=orchestrator",),
        "serve.launch_mode",
        "a model without an engine has no such setting",
        "warning",
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
    Silent("serve-environment-unused", ("engine.environment={TRTLLM_ENABLE_PDL: '1'}",)),
    Silent("serve-environment-unused", ("serve.runtime=reference",)),
    Silent("serve-no-triton-image", (V13, "serve.runtime=reference")),
    Silent("serve-no-triton-image", ()),
    Silent("serve-no-triton-image", (V13, OTHER)),
    Silent("serve-no-triton-image", (V13, TRT)),
    Silent("serve-server-backend", (OTHER,)),
    Silent("serve-server-backend", (OTHER, V13)),
    Silent("serve-server-backend", (TRT,)),
    Silent(
        "serve-orchestrator-nodes",
        (TRT, "serve.launch_mode=orchestrator", "layout={gpus_per_node: 2, tp: 2}"),
    ),
    Silent("serve-orchestrator-nodes", (TRT, "layout={nodes: 2, gpus_per_node: 1, tp: 2}")),
    Silent("serve-setting-without-effect", (OTHER, "serve.model_name=llama")),
    Silent("serve-setting-without-effect", (TRT, "serve.launch_mode=orchestrator", "serve.max_queued=3")),
    Silent("serve-setting-without-effect", ("serve.flush_tokens=3",)),
    Silent("serve-setting-without-effect", (OTHER, "serve={flush_tokens: 16, launch_mode: leader}")),
    Silent("serve-flush-without-effect", (OTHER, "serve.flush_interval_ms=0")),
    Silent("serve-cumulative-without-streaming", (OTHER, "serve={cumulative_text: true, streaming: false}")),
    Silent("serve-output-beyond-sequence", (TRT, "serve.max_output_tokens=8192")),
    Silent("serve-running-beyond-batch", (TRT, "serve.max_running=65")),
    Silent("serve-flush-without-effect", ("serve={flush_interval_ms: 0, flush_tokens: 1}",)),
    Silent("serve-cumulative-without-streaming", ("serve.cumulative_text=true",)),
    Silent("serve-output-beyond-sequence", ("serve.max_output_tokens=8191",)),
    Silent("serve-running-beyond-batch", ("serve.max_running=64",)),
    Silent(
        "serve-running-beyond-batch",
        ("serve.max_running=128", "layout={gpus_per_node: 2, tp: 2, attention_dp: true}"),
    ),
)
