"""Measurements of drafts for tests: figures as a worker would hand them back."""

from __future__ import annotations

from bwdeploy.pipeline.training_jobs import (
    DraftAcceptance,
    DraftShape,
    DraftTrainingResult,
    Interval,
    LengthAcceptance,
    SpeculativeRun,
    StepTiming,
    TrainingCurve,
    WorkloadAcceptance,
)

R1_LENGTHS = (1.92, 2.58, 2.82, 2.99, 3.01)


def lengths(values: tuple[float, ...] = R1_LENGTHS, *, half: float = 0.1) -> tuple[LengthAcceptance, ...]:
    return tuple(
        LengthAcceptance(
            draft_len=k,
            length=Interval(value=value, low=value - half, high=value + half),
            sampled_length=Interval(value=value - 0.2, low=value - 0.4, high=value),
            per_position=tuple(0.9 - 0.1 * position for position in range(k)),
        )
        for k, value in enumerate(values, start=1)
    )


def timing(batch_size: int, *, t0: float = 8.95, delta: float = 0.751) -> StepTiming:
    return StepTiming(
        batch_size=batch_size,
        target_ms=t0,
        draft_ms=delta * 0.8,
        step_ms={k: t0 + delta * k for k in range(1, 6)},
    )


def measured(
    *,
    overall: tuple[LengthAcceptance, ...] | None = None,
    timings: tuple[StepTiming, ...] = (timing(1), timing(32, t0=9.5, delta=9.0)),
    workloads: tuple[str, ...] = ("code", "math"),
) -> DraftAcceptance:
    overall = overall or lengths()
    return DraftAcceptance(
        method="eagle3",
        workloads=tuple(
            WorkloadAcceptance(workload=name, prompts=16, tokens=2048, lengths=overall) for name in workloads
        ),
        overall=overall,
        timings=timings,
        runs=(
            SpeculativeRun(draft_len=0, tokens_per_s=110.0, acceptance_length=1.0),
            SpeculativeRun(draft_len=3, tokens_per_s=250.0, acceptance_length=2.8),
        ),
        greedy_differs=0,
        device="NVIDIA H100",
        dtype="bfloat16",
        compiled=False,
        graphs=False,
        torch_version="2.11",
        seconds={"load": 2.0, "measure": 61.0},
        peak_memory_bytes=1,
    )


def trained(width: int) -> DraftTrainingResult:
    return DraftTrainingResult(
        curve=TrainingCurve(
            metric="acceptance_length", points=(), steps=300, best_step=250, stopped="steps", resumed_at=100
        ),
        shape=DraftShape(
            architecture="LlamaForCausalLMEagle3",
            layers=1,
            hidden_size=64,
            ffn_width=width,
            vocab_size=300,
            draft_vocab_size=128,
            hidden_layers=(0, 1, 2),
            dtype="bfloat16",
            parameters=1_000 * width,
        ),
        acceptance_length=2.1,
        training_tokens=10_000,
        seconds={"train": 12.0},
        device="cpu",
        modelopt_version="0.47.0",
        torch_version="2.11",
        transformers_version="5.14.1",
        peak_memory_bytes=1,
    )
