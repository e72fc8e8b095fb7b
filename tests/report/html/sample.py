"""A build with everything in it, as plain data: plausible figures, nothing is run for them."""

from __future__ import annotations

import json
import math
import random
from functools import cache
from typing import Any

from bwdeploy.build import needs_of
from bwdeploy.estimate.figures import EstimateRequest
from bwdeploy.estimate.recipe import estimate_recipe
from bwdeploy.kernels.measured import Figure
from bwdeploy.kernels.resources import KernelResources
from bwdeploy.pipeline.jobs import AuditFinding, AuditReport, TensorError
from bwdeploy.pipeline.training_jobs import (
    AccuracyReport,
    DraftAcceptance,
    DraftAudit,
    DraftShape,
    DraftTrainingResult,
    Interval,
    LayerSensitivity,
    LengthAcceptance,
    SampleValues,
    SpeculativeRun,
    StepTiming,
    TaskComparison,
    TextComparison,
    TrainedResult,
    TrainingCurve,
    TrainingPoint,
    WorkloadAcceptance,
)
from bwdeploy.recipe.schema import Recipe
from bwdeploy.report.html.data import KernelPack, KernelTable, ReportData, StageRecord
from bwdeploy.stages.acceptance import choice_of
from bwdeploy.stages.gate_verdicts import verdicts_of

LAYERS = 32
MODULES = (
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
    "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
)  # fmt: skip
RECIPE = {
    "schema": 1,
    "name": "llama-8b-qad-eagle3",
    "model": {"source": "hf://meta-llama/Llama-3.1-8B-Instruct@0e9e39f249a16976918f6564b8830bc894c89659"},
    "quantize": {"method": "qad", "format": "nvfp4", "kv_cache": "fp8", "training": {}},
    "speculative": {"method": "eagle3", "train": {}, "draft_len": "auto"},
    "layout": {"gpu": "B200"},
    "engine": {"max_batch_size": 64, "max_seq_len": 16384},
    "gate": {
        "max_perplexity_increase": 0.03,
        "max_kl_divergence": 0.06,
        "min_top1_agreement": 0.9,
        "tasks": [{"task": "gsm8k"}, {"task": "arc_challenge"}],
    },
    "expect": {
        "published": {
            "metric": "tokens_per_s_per_gpu",
            "value": 9000,
            "source": "https://example.com/figures",
        }
    },
}
RECIPE_TEXT = (
    "schema: 1\nname: llama-8b-qad-eagle3\nmodel:\n  source: hf://meta-llama/Llama-3.1-8B-Instruct\n"
)


def recipe(**changes: Any) -> Recipe:
    return Recipe.model_validate_json(json.dumps(RECIPE | changes))


def sample_report(**changes: Any) -> ReportData:
    """All parts of a report; `changes` replaces fields."""
    return _whole_report()._replace(**changes)


@cache
def _whole_report() -> ReportData:
    built = recipe()
    accuracy = sample_accuracy()
    acceptance = sample_acceptance()
    return ReportData(
        name=built.name,
        version="0.1.0",
        recipe=built,
        recipe_text=RECIPE_TEXT,
        host={"device": "cuda", "machine": "x86_64", "system": "Linux", "python": "3.12.3", "cores": 16},
        stages=tuple(
            StageRecord(
                name=name,
                key=f"{number}a7c" * 16,
                seconds=seconds,
                size_bytes=size,
                tools={"torch": "2.11.0", "transformers": "5.17.0"},
                sources={"model/config.json": f"{number}f" * 32},
            )
            for number, (name, seconds, size) in enumerate(
                (
                    ("source", 212.0, 16_060_000_000),
                    ("quantize", 2821.4, 5_840_000_000),
                    ("gate", 391.0, 912_004),
                    ("draft", 4412.7, 411_000_000),
                    ("acceptance", 288.3, 20_113),
                    ("kernels", 41.9, 1_904_332),
                    ("engine", 0.1, 712),
                    ("repository", 2.3, 5_841_302_112),
                )
            )
        ),
        needs=needs_of(built, {}),
        quantized=sample_quantized(),
        audit=sample_audit(),
        accuracy=accuracy,
        judged=verdicts_of(accuracy, built.gate),
        draft_audit=DraftAudit(shape=DRAFT, findings=()),
        draft_training=sample_draft_training(),
        acceptance=acceptance,
        choice=choice_of(acceptance),
        kernels=sample_pack(),
        estimate=estimate_recipe(built, EstimateRequest(method="roofline")),
    )


def sample_audit(**changes: Any) -> AuditReport:
    noise = random.Random(0)
    errors = tuple(
        TensorError(
            name=f"model.layers.{layer}.{module}.weight",
            relative_error=round(
                0.086 + 0.006 * (place % 4) + 0.02 * math.exp(-layer / 3) * noise.random(), 5
            ),
        )
        for layer in range(LAYERS)
        for place, module in enumerate(MODULES)
    )
    report = AuditReport(
        tensors=739,
        parameters=8_030_261_248,
        bits_per_parameter=5.813,
        bits_per_quantized_parameter=4.502,
        dtype_census={
            "U8": {"tensors": 224, "bytes": 3_489_660_928},
            "F8_E4M3": {"tensors": 224, "bytes": 436_207_616},
            "BF16": {"tensors": 67, "bytes": 2_101_354_496},
        },
        quant_algo="NVFP4",
        kv_cache_quant_algo="FP8",
        findings=(
            AuditFinding(
                check="exclude-unused",
                severity="warning",
                message="the exclude pattern *router* matches no module",
                hint="Leave it out",
            ),
        ),
        compared_tensors=len(errors) + 67,
        worst_tensors=tuple(sorted(errors, key=lambda one: -one.relative_error)[:10]),
        tensor_errors=(TensorError(name="lm_head.weight", relative_error=0.0), *errors),
        source_perplexity=8.214,
        quantized_perplexity=8.371,
        evaluated_tokens=65_280,
        activations="quantized",
        seconds={"inspect": 12.0, "compare": 88.0},
        peak_memory_bytes=31_000_000_000,
    )
    return report.model_copy(update=changes)


def sample_curve(metric: str, *, start: float, end: float, steps: int = 600) -> TrainingCurve:
    noise = random.Random(1)

    def level(step: int) -> float:
        return end + (start - end) * math.exp(-3.5 * step / steps)

    points = tuple(
        TrainingPoint(
            step=step,
            loss=round(level(step) / 3 * (1 + 0.03 * noise.random()), 4),
            validation=round(level(step), 4) if step % 50 == 0 else None,
            seconds=4.1 * step,
        )
        for step in range(0, steps + 1, 10)
    )
    return TrainingCurve(
        metric=metric,
        points=points,
        steps=steps,
        best_step=steps - 50,
        stopped="patience",
        resumed_at=300,
        gpus=2,
    )


def sample_quantized(**changes: Any) -> TrainedResult:
    noise = random.Random(2)
    sensitivity = tuple(
        LayerSensitivity(
            modules=tuple(f"model.layers.{layer}.{module}" for module in MODULES[place : place + 3]),
            chosen=("fp8", "nvfp4")[(layer > 3) and layer < LAYERS - 3],
            scores={
                "nvfp4": round(10 ** (-2.2 + noise.random() - 0.02 * layer), 6),
                "fp8": round(10 ** (-3.6 + noise.random() - 0.02 * layer), 6),
                "none": 0.0,
            },
            bits={"nvfp4": 4.5e8, "fp8": 8e8, "none": 1.6e9},
        )
        for layer in range(LAYERS)
        for place in (0, 4)
    )
    return TrainedResult(
        quant_algo="NVFP4",
        kv_cache_quant_algo="FP8",
        quantized_modules=224,
        device="NVIDIA H100 80GB HBM3",
        modelopt_version="0.47.0",
        torch_version="2.11.0",
        transformers_version="5.17.0",
        calibration_tokens=131_072,
        seconds={"load": 41.0, "calibrate": 96.0, "train": 2480.0, "export": 132.0},
        peak_memory_bytes=41_000_000_000,
        peak_gpu_memory_bytes=71_300_000_000,
        curve=sample_curve("perplexity", start=9.02, end=8.35),
        perplexity_before=9.02,
        perplexity_trained=8.36,
        perplexity_exported=8.371,
        effective_bits=4.81,
        sensitivity=sensitivity,
    ).model_copy(update=changes)


DRAFT = DraftShape(
    architecture="LlamaForCausalLMEagle3",
    layers=1,
    hidden_size=4096,
    ffn_width=14336,
    vocab_size=128_256,
    draft_vocab_size=32_000,
    hidden_layers=(1, 15, 28),
    dtype="bfloat16",
    parameters=369_000_000,
)


def sample_draft_training() -> DraftTrainingResult:
    curve = sample_curve("acceptance_length", start=1.02, end=2.61, steps=2000)
    return DraftTrainingResult(
        curve=curve.model_copy(update={"resumed_at": None, "stopped": "steps"}),
        shape=DRAFT,
        acceptance_length=2.58,
        training_tokens=9_400_000,
        target_perplexity=8.37,
        seconds={"answers": 1400.0, "train": 2900.0},
        device="NVIDIA H100 80GB HBM3",
        modelopt_version="0.47.0",
        torch_version="2.11.0",
        transformers_version="5.17.0",
        peak_memory_bytes=38_000_000_000,
    )


def lengths_of(rate: float, *, spread: float = 0.12, longest: int = 8) -> tuple[LengthAcceptance, ...]:
    """Acceptance when each position is a little harder than the one before."""
    rates = [rate - 0.02 * position for position in range(longest)]
    found, reached, length = [], 1.0, 1.0
    for draft_len in range(1, longest + 1):
        reached *= rates[draft_len - 1]
        length += reached
        found.append(
            LengthAcceptance(
                draft_len=draft_len,
                length=Interval(value=length, low=length - spread, high=length + spread),
                sampled_length=Interval(value=length * 0.94, low=length * 0.9, high=length * 0.97),
                per_position=tuple(rates[:draft_len]),
            )
        )
    return tuple(found)


def sample_acceptance() -> DraftAcceptance:
    workloads = {"code": 0.82, "math": 0.78, "chat": 0.7, "summary": 0.61}
    timings = tuple(
        StepTiming(
            batch_size=batch,
            target_ms=8.2 + 0.11 * batch,
            draft_ms=0.62 + 0.01 * batch,
            step_ms={length: 8.4 + 0.11 * batch + length * (0.66 + 0.09 * batch) for length in range(1, 9)},
        )
        for batch in (1, 2, 4, 8, 16, 32)
    )
    return DraftAcceptance(
        method="eagle3",
        workloads=tuple(
            WorkloadAcceptance(workload=name, prompts=16, tokens=2048, lengths=lengths_of(rate, spread=0.2))
            for name, rate in workloads.items()
        ),
        overall=lengths_of(0.73),
        timings=timings,
        runs=(
            SpeculativeRun(draft_len=0, tokens_per_s=119.4, acceptance_length=1.0),
            SpeculativeRun(draft_len=2, tokens_per_s=216.0, acceptance_length=2.2),
            SpeculativeRun(draft_len=4, tokens_per_s=239.5, acceptance_length=2.7),
        ),
        greedy_differs=0,
        device="NVIDIA H100 80GB HBM3",
        dtype="bfloat16",
        compiled=True,
        graphs=True,
        torch_version="2.11.0",
        seconds={"accept": 240.0, "time": 41.0},
        peak_memory_bytes=12_000_000_000,
    )


def sample_accuracy(task: str = "gsm8k") -> AccuracyReport:
    noise = random.Random(3)
    source = tuple(2.1 + 0.3 * noise.random() for _ in range(64))
    answers = tuple(float(noise.random() < 0.84) for _ in range(500))
    return AccuracyReport(
        text=TextComparison(
            tokens_per_sequence=1023,
            negative_log_likelihood=SampleValues(
                source=source, checkpoint=tuple(one + 0.019 + 0.01 * noise.random() for one in source)
            ),
            kl_divergence=tuple(0.04 + 0.01 * noise.random() for _ in source),
            top1_agreement=tuple(0.88 + 0.04 * noise.random() for _ in source),
            activations="quantized",
        ),
        tasks=(
            TaskComparison(
                task=task,
                metric="exact_match",
                higher_is_better=True,
                scores=SampleValues(
                    source=answers,
                    checkpoint=tuple(one if noise.random() > 0.04 else 1 - one for one in answers),
                ),
            ),
            TaskComparison(
                task="arc_challenge",
                metric="acc_norm",
                higher_is_better=True,
                scores=SampleValues(source=(1.0, 0.0) * 90, checkpoint=(0.8, 0.0) * 90),
            ),
        ),
        lm_eval_version="0.4.12",
        device="NVIDIA H100 80GB HBM3",
        seconds={"text": 80.0, "tasks": 240.0},
        peak_memory_bytes=30_000_000_000,
    )


def sample_pack() -> KernelPack:
    figures = tuple(
        Figure(
            variant="nvfp4 swizzled",
            rows=rows,
            width=4096,
            microseconds=1.3 + rows / 40,
            p10=1.29 + rows / 40,
            p90=1.34 + rows / 40,
            baselines={"without PDL": 1.9 + rows / 40, "torch.compile": 4.1 + rows / 16},
            copy_share=0.95 if rows > 1000 else None,
        )
        for rows in (1, 16, 128, 4096)
    )
    resources = (
        KernelResources(
            sm="sm_100a",
            name="add_rmsnorm<8, 4096>",
            registers=62,
            shared_bytes=1152,
            stack_bytes=0,
            spill_bytes=0,
        ),
    )
    return KernelPack(
        nvcc="13.0.88",
        torch_stable="2.9",
        minimum_driver="580",
        tables=(
            KernelTable(
                "add_rmsnorm_quant_nvfp4",
                "residual add, RMSNorm and NVFP4 in one pass",
                "sm_100a",
                "measured",
                figures,
                resources,
            ),
        ),
    )
