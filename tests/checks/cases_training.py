"""How quantized models are trained and formats are searched."""

from __future__ import annotations

from tests.checks.cases import Fires, Silent

AUTO = "quantize={method: auto, search: {formats: [nvfp4, fp8], effective_bits: 6.0}, format: null}"
QAT = "quantize={method: qat, format: nvfp4, training: {steps: 100, batch_size: 8, evaluate_every: 20}}"
DRAFT = "speculative={method: eagle3, train: {steps: 100, warmup_steps: 10, batch_size: 8}}"

FIRES = (
    Fires(
        "quantize-section-unused",
        ("quantize.training={steps: 10}",),
        "quantize.training",
        "method ptq does not use training",
        hint="Remove it, or set quantize.method: qat or qad",
    ),
    Fires(
        "quantize-section-unused",
        (QAT, "quantize.search={effective_bits: 6.0}"),
        "quantize.search",
        "method qat does not use search",
        hint="Remove it, or set quantize.method: auto",
    ),
    Fires(
        "quantize-search-and-format",
        (AUTO, "quantize.format=nvfp4"),
        "quantize.format",
        "method auto searches the formats itself, so format has no effect",
        hint="Remove it; quantize.search.formats names the candidates",
    ),
    Fires(
        "quantize-search-budget",
        (AUTO, "quantize.search.effective_bits=4.0"),
        "quantize.search.effective_bits",
        "no layer can have fewer than 4.5 bits (nvfp4): 4 are allowed",
        hint="Raise it to 4.5 or more",
    ),
    Fires(
        "quantize-search-formats",
        (AUTO, "quantize.search.formats=[nvfp4_awq_lite, fp8]"),
        "quantize.search.formats[0]",
        "nvfp4_awq_lite calibrates the whole model in its own way: single layers cannot have it",
        hint="Search among formats such as nvfp4, nvfp4_weight_only and fp8",
    ),
    Fires(
        "quantize-search-formats",
        (AUTO, "quantize.search.formats=[fp8, fp8]"),
        "quantize.search.formats[1]",
        "fp8 is named twice",
        hint="Remove one of them",
    ),
    Fires(
        "quantize-training-for-engine",
        (QAT, "engine.backend=tensorrt"),
        "quantize.method",
        "qat makes checkpoints for the PyTorch backend only",
        hint="Set engine.backend: pytorch, or quantize.method: ptq",
    ),
    Fires(
        "gate-without-text-limit",
        (QAT,),
        "gate",
        "nothing stops a checkpoint of method qat that answers badly",
        "warning",
        hint="Add gate.max_perplexity_increase, max_kl_divergence, min_top1_agreement or tasks",
    ),
    Fires(
        "training-warmup",
        (QAT, "quantize.training.warmup_steps=100"),
        "quantize.training.warmup_steps",
        "100 of 100 steps are warm-up: the full rate is never reached",
        hint="Lower it to a tenth of steps or less",
    ),
    Fires(
        "training-warmup",
        (DRAFT, "speculative.train.warmup_steps=200"),
        "speculative.train.warmup_steps",
        "200 of 100 steps are warm-up: the full rate is never reached",
        hint="Lower it to a tenth of steps or less",
    ),
    Fires(
        "training-without-validation",
        (QAT, "quantize.training.evaluate_every=101"),
        "quantize.training.evaluate_every",
        "validated every 101 steps, but there are only 100",
        hint="Lower evaluate_every: without a validation there is no checkpoint to resume from",
    ),
    Fires(
        "training-batch-uneven",
        (QAT, "quantize.training.gpus=3"),
        "quantize.training.batch_size",
        "8 sequences cannot be shared evenly by 3 GPUs",
        hint="Choose a multiple of 3; it counts all GPUs",
    ),
)
SILENT = (
    Silent("quantize-section-unused", (QAT,)),
    Silent("quantize-section-unused", (AUTO,)),
    Silent("quantize-search-and-format", (AUTO,)),
    Silent("quantize-search-budget", (AUTO,)),
    Silent("quantize-search-formats", (AUTO,)),
    Silent("quantize-search-formats", (AUTO, "quantize.search.formats=[nvfp4_mlp_only, fp8]")),
    Silent("gate-without-text-limit", (QAT, "gate.max_kl_divergence=0.1")),
    Silent("gate-without-text-limit", ()),
    Silent("quantize-training-for-engine", (QAT,)),
    Silent("training-warmup", (QAT,)),
    Silent("training-warmup", (DRAFT,)),
    Silent("training-without-validation", (QAT,)),
    Silent("training-batch-uneven", (QAT, "quantize.training.gpus=4")),
    Silent("training-batch-uneven", (DRAFT,)),
)
