"""What a stage asks of the worker process: requests, results and progress, as plain data.

A request travels as JSON to `python -m bwdeploy.worker JOB.json`, its result as JSON back, so that any
executor (this machine, a container, Slurm) can run it. Nothing here imports torch; the code that answers
a request is named by `entry` and lives in `bwdeploy.worker`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict

from bwdeploy.recipe.schema import Calibration, Evaluation, FormatOverride

if TYPE_CHECKING:
    from collections.abc import Callable

Device = Literal["cpu", "cuda"]


class JobData(BaseModel):
    """Strict, immutable JSON data."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


ResultT = TypeVar("ResultT", bound=JobData)


class JobRequest(JobData, Generic[ResultT]):
    """Base of all requests."""

    entry: ClassVar[str]
    """`module:function` that answers it inside the worker: (request, report_progress) -> result."""
    result_type: ClassVar[type[JobData]]


class Progress(JobData):
    """One step of a running job."""

    phase: str
    """What is going on, for example `calibrate`."""
    done: int = 0
    total: int = 0
    """0: unknown."""


class ConvertGgufResult(JobData):
    """What the conversion of a GGUF file made."""

    architecture: str
    parameters: int
    seconds: float
    peak_memory_bytes: int


class ConvertGguf(JobRequest[ConvertGgufResult]):
    """Turn a GGUF file into a plain Hugging Face directory (bf16 safetensors, tokenizer, chat template)."""

    entry: ClassVar[str] = "bwdeploy.worker.convert_gguf:run"
    result_type: ClassVar[type[JobData]] = ConvertGgufResult
    gguf: Path
    out: Path
    """Existing, empty directory."""


class DownloadResult(JobData):
    """What was downloaded."""

    files: int
    bytes: int


class Download(JobRequest[DownloadResult]):
    """Download a model repository at a fixed revision (safetensors, JSON, tokenizer files only)."""

    entry: ClassVar[str] = "bwdeploy.worker.download:run"
    result_type: ClassVar[type[JobData]] = DownloadResult
    repo: str
    revision: str
    trust_remote_code: bool
    out: Path


class QuantizeResult(JobData):
    """What quantization measured about itself."""

    quant_algo: str
    kv_cache_quant_algo: str | None
    quantized_modules: int
    device: str
    modelopt_version: str
    torch_version: str
    transformers_version: str
    calibration_tokens: int
    seconds: dict[str, float]
    """By phase: load, calibrate, export, …"""
    peak_memory_bytes: int
    """Of host memory, the whole worker process."""
    peak_gpu_memory_bytes: int = 0


class QuantizePtq(JobRequest[QuantizeResult]):
    """ModelOpt post-training quantization of a plain directory into a unified Hugging Face checkpoint."""

    entry: ClassVar[str] = "bwdeploy.worker.quantize:run"
    result_type: ClassVar[type[JobData]] = QuantizeResult
    source: Path
    out: Path
    format: str | None
    recipe: str | None
    kv_cache: str
    overrides: tuple[FormatOverride, ...]
    calibration: Calibration
    device: Device
    trust_remote_code: bool


class TensorError(JobData):
    """How far one dequantized tensor is from its source."""

    name: str
    relative_error: float
    """‖W - Ŵ‖₂ / ‖W‖₂, computed in float32."""


class AuditFinding(JobData):
    """Something wrong with a checkpoint. `check` is a stable id, for example `scale-not-finite`."""

    check: str
    severity: Literal["error", "warning", "info"]
    tensor: str = ""
    message: str
    hint: str = ""


class AuditReport(JobData):
    """The audit of an exported checkpoint; measured values only, limits are judged elsewhere."""

    tensors: int
    parameters: int
    """Of the source model, counted once each (a packed FP4 byte counts as two)."""
    bits_per_parameter: float
    """All stored bits, scales included, over `parameters`."""
    bits_per_quantized_parameter: float | None
    """The same over quantized weights and their scales only."""
    dtype_census: dict[str, dict[str, int]]
    """safetensors dtype → {tensors, bytes}."""
    quant_algo: str | None
    kv_cache_quant_algo: str | None
    findings: tuple[AuditFinding, ...]
    compared_tensors: int
    worst_tensors: tuple[TensorError, ...]
    """The ten worst, worst first."""
    source_perplexity: float | None
    quantized_perplexity: float | None
    evaluated_tokens: int
    activations: Literal["quantized", "unquantized"]
    """Whether the quantized model's perplexity includes the rounding of activations."""
    seconds: dict[str, float]
    peak_memory_bytes: int


class Audit(JobRequest[AuditReport]):
    """Open an exported checkpoint, check it tensor by tensor and compare it with its source."""

    entry: ClassVar[str] = "bwdeploy.worker.audit:run"
    result_type: ClassVar[type[JobData]] = AuditReport
    checkpoint: Path
    source: Path | None
    """The unquantized model; None when there is none to compare with (a prequantized source)."""
    format: str | None
    """The recipe's promise; None when a ModelOpt recipe or the source decides."""
    kv_cache: str
    evaluation: Evaluation
    device: Device
    trust_remote_code: bool


class Executor(Protocol):
    """Runs a request somewhere and waits for its result."""

    def run(
        self, request: JobRequest[ResultT], *, log: Path, on_progress: Callable[[Progress], None]
    ) -> ResultT:
        """Run `request`; its output goes to `log`.

        Raises:
            ToolError: the job failed; the message is the worker's one-line reason.
            HostError: the worker's environment lacks something.
            RecipeError, StoreError, InterruptedBuild: as the worker reports them.
        """
        ...


def to_json(data: JobData) -> dict[str, Any]:
    """The JSON form of a request or result."""
    return data.model_dump(mode="json")
