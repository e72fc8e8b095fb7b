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
    from collections.abc import Callable, Iterator

_HUB_SCHEME = "hf://"
Device = Literal["cpu", "cuda"]
CheckpointLayout = Literal["unified", "tensorrt_llm"]
"""unified: Hugging Face names, one set of files. tensorrt_llm: one file for each rank, for trtllm-build."""


class JobData(BaseModel):
    """Strict, immutable JSON data."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


ResultT = TypeVar("ResultT", bound=JobData)


class JobRequest(JobData, Generic[ResultT]):
    """Base of all requests."""

    entry: ClassVar[str]
    """`module:function` that answers it inside the worker: (request, report_progress) -> result."""
    result_type: ClassVar[type[JobData]]

    @property
    def gpus(self) -> int:
        """GPUs of one machine that the job uses."""
        return int(getattr(self, "device", "cpu") == "cuda")

    @property
    def needs_network(self) -> bool:
        """Whether the job fetches something; every other one runs with the hub switched off."""
        return any(text.startswith(_HUB_SCHEME) for text in texts_in(self))


def texts_in(data: JobData) -> Iterator[str]:
    """Every text of a request, however deep."""
    pending: list[Any] = [data.model_dump(mode="json")]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
        elif isinstance(value, str):
            yield value


class Progress(JobData):
    """One step of a running job."""

    phase: str
    """What is going on, for example `calibrate`."""
    done: int = 0
    total: int = 0
    """0: unknown."""
    detail: str = ""
    """What the job said last, for people; empty: nothing."""


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
    place: str = "model.source"
    """The field of the recipe that names it, for messages."""

    @property
    def needs_network(self) -> bool:
        """See `JobRequest.needs_network`."""
        return True


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
    layout: CheckpointLayout = "unified"
    tp: int = 1
    pp: int = 1
    """Ranks that a checkpoint in the layout tensorrt_llm is cut for."""


class RanksResult(JobData):
    """What a change of layout wrote."""

    ranks: int
    tensors: int
    """Of all ranks together."""
    bytes: int
    seconds: float
    peak_memory_bytes: int


class ExportRanks(JobRequest[RanksResult]):
    """Write an unquantized model as a TensorRT-LLM checkpoint: config.json and one file for each rank."""

    entry: ClassVar[str] = "bwdeploy.worker.ranks.export:run"
    result_type: ClassVar[type[JobData]] = RanksResult
    source: Path
    out: Path
    tp: int
    pp: int
    trust_remote_code: bool


class JoinRanks(JobRequest[RanksResult]):
    """Write a TensorRT-LLM checkpoint back as one unified Hugging Face checkpoint, bit for bit.

    Configuration and tokenizer come from `source`, quantization and weights from `checkpoint`.
    """

    entry: ClassVar[str] = "bwdeploy.worker.ranks.join:run"
    result_type: ClassVar[type[JobData]] = RanksResult
    checkpoint: Path
    source: Path
    out: Path
    """Existing, empty directory."""


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
    tensor_errors: tuple[TensorError, ...] = ()
    """Of every tensor that was compared, in the checkpoint's order; empty in reports of older versions."""
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
    evaluation: Evaluation | None
    """None: the model is not run here; `CompareAccuracy` runs it."""
    device: Device
    trust_remote_code: bool
    layout: CheckpointLayout = "unified"
    """Of `checkpoint`; one in the layout tensorrt_llm needs `source`."""


class ProgramNeed(JobData):
    """An outside program of TensorRT-LLM and what it needs to run; known before anything runs."""

    program: str
    """A program on PATH where TensorRT-LLM is, for example `trtllm-build`."""
    tensorrt_llm: str
    """The version that must be there."""
    gpus: int = 1
    """On each node; 0 for none."""
    nodes: int = 1
    tasks: int = 1
    """Processes over all nodes; above 1 they form one MPI world."""


class ToolRun(ProgramNeed):
    """A run of such a program, for an executor."""

    arguments: tuple[str, ...]
    """Paths in them are those of this machine, and lie below `reads` or `writes`."""
    reads: tuple[Path, ...] = ()
    writes: tuple[Path, ...] = ()
    """All that the program may touch: absolute files or directories that exist."""
    environment: dict[str, str] = {}


class ToolResult(JobData):
    """Where and how an outside program ran."""

    command: tuple[str, ...]
    """The whole command line as it was started here."""
    executor: Literal["local", "container", "slurm"]
    seconds: float
    image: str | None = None
    image_digest: str | None = None
    """`sha256:…` of the container image, when there was one and it can be known."""


class Executor(Protocol):
    """Runs jobs and programs somewhere and waits for their results."""

    @property
    def device(self) -> Device | None:
        """Of the machine that jobs run on; None: of this one."""
        ...

    def run(
        self,
        request: JobRequest[ResultT],
        *,
        log: Path,
        scratch: Path,
        on_progress: Callable[[Progress], None],
    ) -> ResultT:
        """Run `request` in a worker process; its output goes to `log`, its own files to `scratch`.

        Raises:
            ToolError: the job failed; the message is the worker's one-line reason.
            HostError: the worker's environment lacks something.
            RecipeError, StoreError, InterruptedBuild: as the worker reports them.
        """
        ...

    def require(self, need: ProgramNeed) -> None:
        """Tell at once what `run_tool` would refuse before it starts the program; nothing is fetched.

        Raises:
            HostError: the program, the container program, the image or the queue is not there.
        """
        ...

    def run_tool(
        self, tool: ToolRun, *, log: Path, scratch: Path, on_progress: Callable[[Progress], None]
    ) -> ToolResult:
        """Run an outside program with `scratch` as its current directory; its output goes to `log`.

        Raises:
            ToolError: it failed; with its last lines and what is known of such a failure.
            HostError: the program, the container program, the image or the queue is not there.
            InterruptedBuild: the user interrupted; nothing of it runs on.
        """
        ...


def to_json(data: JobData) -> dict[str, Any]:
    """The JSON form of a request or result."""
    return data.model_dump(mode="json")
