"""What stages ask of the worker around training: quantized models, drafts, and comparisons with the source.

Requests, results and progress are plain data as in `jobs`. Training keeps its state in `state`, a directory
that outlives an interrupted job: the same request with the same state goes on where it stopped.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Generic, Literal

from bwdeploy.pipeline.jobs import (
    AuditFinding,
    CheckpointLayout,
    Device,
    JobData,
    JobRequest,
    QuantizePtq,
    QuantizeResult,
    ResultT,
)
from bwdeploy.recipe.schema import (
    DraftMeasurement,
    DraftTraining,
    Evaluation,
    FormatSearch,
    GateTask,
    Training,
)
from bwdeploy.recipe.uris import FILE_SCHEME

MATERIAL = "material.safetensors"
"""The file that `AnswerPrompts` writes into its `out`."""
Stopped = Literal["steps", "patience"]


class TrainingPoint(JobData):
    """A training as it was at one step; what was not taken at that step is None."""

    step: int
    loss: float | None = None
    """Mean over the steps since the last point."""
    validation: float | None = None
    """Of the metric that decides about stopping."""
    seconds: float = 0.0
    """Spent in training, earlier parts of an interrupted one included."""


class TrainingCurve(JobData):
    """How a training went."""

    metric: str
    """What `validation` is, for example `perplexity`, `kl_divergence`, `acceptance_length`."""
    points: tuple[TrainingPoint, ...]
    steps: int
    """Optimizer steps done, all runs together."""
    best_step: int
    """Whose weights were kept."""
    stopped: Stopped
    resumed_at: int | None = None
    """The step of the checkpoint that this run went on from."""
    gpus: int = 1


class LayerSensitivity(JobData):
    """What the search measured for one layer (or a group that shares one format)."""

    modules: tuple[str, ...]
    chosen: str
    """A format, or `none`."""
    scores: dict[str, float]
    """Format → damage to the output when this layer alone has it; 0 for `none`."""
    bits: dict[str, float]
    """Format → bits of all weights of the layer."""


class TrainedResult(QuantizeResult):
    """What a quantization with training or search measured about itself."""

    curve: TrainingCurve | None = None
    perplexity_before: float | None = None
    """On the validation text, of the model as calibrated, before training."""
    perplexity_trained: float | None = None
    """On the same text, of the model in training at the step that was kept."""
    perplexity_exported: float | None = None
    """On the same text, of the exported files, read back."""
    likelihoods_trained: tuple[float, ...] = ()
    """Mean negative log-likelihood of a token, in nats, of each sequence, before the export; validation
    sequences first, on a GPU others of the training after them."""
    likelihoods_exported: tuple[float, ...] = ()
    """The same of the exported files, in the same order."""
    effective_bits: float | None = None
    """Of the search."""
    sensitivity: tuple[LayerSensitivity, ...] = ()


class QuantizeTrained(QuantizePtq, JobRequest[TrainedResult]):
    """Quantization by training (qat, qad) or by search (auto)."""

    entry: ClassVar[str] = "bwdeploy.worker.training.run:run"
    result_type: ClassVar[type[JobData]] = TrainedResult
    method: Literal["qat", "qad", "auto"]
    training: Training | None = None
    search: FormatSearch | None = None
    state: Path

    @property
    def gpus(self) -> int:
        """See `JobRequest.gpus`."""
        return self.training.gpus if self.training and self.device == "cuda" else super().gpus


class DraftShape(JobData):
    """What a draft is, as its files say."""

    architecture: str
    layers: int
    hidden_size: int
    ffn_width: int
    vocab_size: int
    draft_vocab_size: int
    hidden_layers: tuple[int, ...]
    """Layers of the target whose output it reads."""
    dtype: str
    parameters: int


class DraftAudit(JobData):
    """A draft held against its target; measured values, judged by the stage."""

    shape: DraftShape | None
    """None when its files could not be understood."""
    findings: tuple[AuditFinding, ...]


class AuditDraft(JobRequest[DraftAudit]):
    """Hold an EAGLE3 draft against the model that it shall draft for."""

    entry: ClassVar[str] = "bwdeploy.worker.drafts.audit:run"
    result_type: ClassVar[type[JobData]] = DraftAudit
    draft: Path
    target: Path


class TargetJob(JobRequest[ResultT], Generic[ResultT]):
    """Base of the requests that train a draft on `target`, into the existing, empty `out`."""

    target: Path
    """A checkpoint as it will be served (quantized or not), in the unified layout."""
    out: Path
    training: DraftTraining
    device: Device
    trust_remote_code: bool
    state: Path

    @property
    def gpus(self) -> int:
        """See `JobRequest.gpus`."""
        return self.training.gpus if self.device == "cuda" else 0


class AnswersResult(JobData):
    """What a draft is to learn from."""

    training: int
    """Sequences: a prompt with its answer, or a conversation."""
    held_out: int
    """The same, for validation only."""
    tokens: int
    """Of all of them."""
    seconds: dict[str, float]
    device: str
    torch_version: str
    transformers_version: str
    peak_memory_bytes: int
    peak_gpu_memory_bytes: int = 0


class AnswerPrompts(TargetJob[AnswersResult]):
    """Let `target` answer the prompts of `training`, of which only they and how they are answered count."""

    entry: ClassVar[str] = "bwdeploy.worker.drafts.answering:run"
    result_type: ClassVar[type[JobData]] = AnswersResult


class DraftTrainingResult(JobData):
    """What the training of a draft measured."""

    curve: TrainingCurve
    shape: DraftShape
    acceptance_length: float
    """On validation prompts, greedy, with `ttt_steps` drafted tokens."""
    training_tokens: int
    target_perplexity: float | None = None
    seconds: dict[str, float]
    device: str
    modelopt_version: str
    torch_version: str
    transformers_version: str
    peak_memory_bytes: int
    peak_gpu_memory_bytes: int = 0


class TrainDraft(TargetJob[DraftTrainingResult]):
    """Train an EAGLE3 draft for `target` with ModelOpt and export it."""

    entry: ClassVar[str] = "bwdeploy.worker.drafts.train:run"
    result_type: ClassVar[type[JobData]] = DraftTrainingResult
    answers: Path
    """What `AnswerPrompts` wrote."""


class Interval(JobData):
    """A figure with its two-sided 95 % interval, from resampling whole prompts."""

    value: float
    low: float
    high: float


class LengthAcceptance(JobData):
    """What was accepted at one draft length."""

    draft_len: int
    length: Interval
    """Tokens gained in one step, the model's own token included."""
    sampled_length: Interval
    """The same with sampling at the measurement's temperature."""
    per_position: tuple[float, ...]
    """Greedy: share of steps that accepted position 1, 2, … of those that accepted all before it."""


class WorkloadAcceptance(JobData):
    """One kind of prompts."""

    workload: str
    prompts: int
    tokens: int
    """Generated at one draft length, greedy."""
    lengths: tuple[LengthAcceptance, ...]


class StepTiming(JobData):
    """How long steps took at one batch size, medians in milliseconds."""

    batch_size: int
    target_ms: float
    """One token for each request, nothing drafted."""
    draft_ms: float
    """One drafted token for each request."""
    step_ms: dict[int, float]
    """Draft length → one whole step: drafting, verification, acceptance."""


class SpeculativeRun(JobData):
    """Real speculative decoding, timed from outside, one request at a time."""

    draft_len: int
    """0: without a draft."""
    tokens_per_s: float
    acceptance_length: float


class DraftAcceptance(JobData):
    """A measured draft."""

    method: Literal["eagle3", "mtp"]
    workloads: tuple[WorkloadAcceptance, ...]
    overall: tuple[LengthAcceptance, ...]
    """All workloads together, each prompt counting once."""
    timings: tuple[StepTiming, ...]
    runs: tuple[SpeculativeRun, ...]
    greedy_differs: int
    """Answers in which greedy speculative decoding left plain greedy decoding; 0 but for ties of rounding."""
    device: str
    dtype: str
    compiled: bool
    """The draft ran through torch.compile."""
    graphs: bool
    """Timed steps and runs were replays of CUDA graphs."""
    torch_version: str
    seconds: dict[str, float]
    peak_memory_bytes: int
    peak_gpu_memory_bytes: int = 0


class MeasureDraft(JobRequest[DraftAcceptance]):
    """Run target and draft for real and count what is accepted."""

    entry: ClassVar[str] = "bwdeploy.worker.drafts.measure:run"
    result_type: ClassVar[type[JobData]] = DraftAcceptance
    method: Literal["eagle3", "mtp"]
    target: Path
    draft: Path | None
    """None: the multi-token prediction layers inside the target."""
    measurement: DraftMeasurement
    device: Device
    trust_remote_code: bool


class SampleValues(JobData):
    """One figure for each sample of both models, in the same order."""

    source: tuple[float, ...]
    checkpoint: tuple[float, ...]


class TextComparison(JobData):
    """Source and checkpoint on the same held-out sequences, a value for each sequence."""

    tokens_per_sequence: int
    negative_log_likelihood: SampleValues
    """Mean nats per token."""
    kl_divergence: tuple[float, ...]
    """KL(source ‖ checkpoint) of the next-token distributions, mean nats per token."""
    top1_agreement: tuple[float, ...]
    """Share of tokens where both have the same most likely token."""
    activations: Literal["quantized", "unquantized"]
    """Whether the checkpoint's figures include the rounding of activations."""


class TaskComparison(JobData):
    """Source and checkpoint on the same questions of one task."""

    task: str
    metric: str
    higher_is_better: bool
    scores: SampleValues
    """0 to 1 for each question."""


class AccuracyReport(JobData):
    """The paired comparison, before any limit; `text` is None when there is nothing to compare with."""

    text: TextComparison | None
    tasks: tuple[TaskComparison, ...]
    findings: tuple[AuditFinding, ...] = ()
    """Why something could not be compared; an error stops the build."""
    lm_eval_version: str | None
    device: str
    seconds: dict[str, float]
    peak_memory_bytes: int


class CompareAccuracy(JobRequest[AccuracyReport]):
    """Run source and checkpoint on the same text and tasks."""

    entry: ClassVar[str] = "bwdeploy.worker.accuracy.compare:run"
    result_type: ClassVar[type[JobData]] = AccuracyReport
    checkpoint: Path
    source: Path
    evaluation: Evaluation
    tasks: tuple[GateTask, ...]
    device: Device
    trust_remote_code: bool
    layout: CheckpointLayout = "unified"
    """Of `checkpoint`."""

    @property
    def needs_network(self) -> bool:
        """See `JobRequest.needs_network`; a task that is named and no file brings its data from a hub."""
        return super().needs_network or any(not one.task.startswith(FILE_SCHEME) for one in self.tasks)
