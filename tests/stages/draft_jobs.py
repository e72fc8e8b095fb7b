"""An executor that answers the jobs of drafts without a model, and the artifacts of their stages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bwdeploy.pipeline.jobs import AuditFinding, Download, DownloadResult
from bwdeploy.pipeline.stage import Stage, Step, Work
from bwdeploy.pipeline.training_jobs import (
    MATERIAL,
    AnswerPrompts,
    AnswersResult,
    AuditDraft,
    DraftAcceptance,
    DraftAudit,
    DraftShape,
    DraftTrainingResult,
    Interval,
    LengthAcceptance,
    MeasureDraft,
    StepTiming,
    TrainDraft,
    TrainingCurve,
    TrainingPoint,
)
from bwdeploy.recipe.schema import Recipe
from tests.pipeline.toy import HOST

if TYPE_CHECKING:
    from pathlib import Path

    from bwdeploy.pipeline.jobs import JobData

LAYERS = (1, 14, 26)
SHAPE = DraftShape(
    architecture="LlamaForCausalLMEagle3", layers=1, hidden_size=64, ffn_width=80, vocab_size=384,
    draft_vocab_size=96, hidden_layers=LAYERS, dtype="bfloat16", parameters=1000,
)  # fmt: skip
TRAINING = DraftTrainingResult(
    curve=TrainingCurve(
        metric="acceptance_length",
        points=(TrainingPoint(step=1, loss=2.0),),
        steps=1,
        best_step=1,
        stopped="steps",
    ),
    shape=SHAPE, acceptance_length=2.1, training_tokens=10, seconds={}, device="cpu", modelopt_version="1",
    torch_version="1", transformers_version="1", peak_memory_bytes=1,
)  # fmt: skip

ANSWERED = AnswersResult(
    training=27, held_out=3, tokens=900, seconds={}, device="cpu", torch_version="1",
    transformers_version="1", peak_memory_bytes=1,
)  # fmt: skip


def acceptance(
    *lengths: float, spread: float = 0.1, steps: dict[int, float] | None = None
) -> DraftAcceptance:
    """Measured lengths for 1, 2, … drafted tokens; a step takes 10 ms, and 1 ms more for each of them."""

    def interval(value: float) -> Interval:
        return Interval(value=value, low=value - spread, high=value + spread)

    return DraftAcceptance(
        method="eagle3",
        workloads=(),
        overall=tuple(
            LengthAcceptance(
                draft_len=draft_len, length=interval(value), sampled_length=interval(value), per_position=()
            )
            for draft_len, value in enumerate(lengths, start=1)
        ),
        timings=tuple(
            StepTiming(
                batch_size=batch,
                target_ms=10.0,
                draft_ms=1.0,
                step_ms=steps or {k: 10.0 + k * (0.5 + batch / 8) for k in range(1, len(lengths) + 1)},
            )
            for batch in (1, 8, 32)
        ),
        runs=(), greedy_differs=0, device="cpu", dtype="float32", compiled=False, graphs=False,
        torch_version="1", seconds={}, peak_memory_bytes=1,
    )  # fmt: skip


class Answers:
    """Answers each kind of job with what a test expects of it."""

    device = None

    def __init__(
        self, *, findings: tuple[AuditFinding, ...] = (), measured: DraftAcceptance | None = None
    ) -> None:
        self.findings = findings
        self.measured = measured or acceptance(1.7, 2.2, 2.5)
        self.asked: list[Any] = []

    def run(self, request: Any, **_: Any) -> Any:
        self.asked.append(request)
        return self._answer(request)

    def _answer(self, request: Any) -> JobData:
        match request:
            case AnswerPrompts():
                (request.out / MATERIAL).write_bytes(b"")
                return ANSWERED
            case Download(out=out) | TrainDraft(out=out):
                write_files(out)
                return DownloadResult(files=2, bytes=2) if isinstance(request, Download) else TRAINING
            case AuditDraft():
                assert (request.draft / "config.json").is_file()
                return DraftAudit(shape=SHAPE, findings=self.findings)
            case MeasureDraft():
                return self.measured
        raise AssertionError(f"{type(request).__name__} is no job of a draft")

    def require(self, need: Any) -> None:
        raise AssertionError("no program is needed")

    def run_tool(self, tool: Any, **_: Any) -> Any:
        raise AssertionError("no program is needed")


def write_files(directory: Path) -> Path:
    """A draft, as far as a stage looks."""
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text("{}")
    (directory / "model.safetensors").write_bytes(b"")
    return directory


def recipe(**sections: Any) -> Recipe:
    """On the PyTorch backend; `speculative` is method eagle3 unless the section says otherwise."""
    drafted = {"method": "eagle3"} | sections.pop("speculative", {})
    model = {"source": "file:///m"}
    return Recipe.model_validate(
        {"schema": 1, "name": "x", "model": model, "quantize": {"method": "none"}, **sections}
        | {"speculative": drafted}
    )


def planned(stage: Stage, wanted: Recipe) -> Step:
    step = stage.plan_step(wanted, HOST)
    assert step is not None
    return step


def built(stage: Stage, wanted: Recipe, place: Path, executor: Answers, **inputs: Path) -> Path:
    """The artifact's directory after a run that passes `verify`."""
    out = place / f"{stage.name}-artifact"
    out.mkdir()
    for name in ("state", "scratch"):
        (place / name).mkdir(exist_ok=True)
    stage.run(
        Work(
            step=planned(stage, wanted), inputs=inputs, out=out, scratch=place / "scratch",
            state=place / "state", executor=executor, log=place / "log", on_progress=lambda _: None,
        )
    )  # fmt: skip
    stage.verify(out)
    return out
