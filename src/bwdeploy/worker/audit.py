"""Audit of an exported checkpoint: files, tensors, distance from the source, and perplexity beside it.

Reports what was measured and what is wrong; whether that is acceptable is decided by the gate. Works for
quantized, prequantized and unquantized checkpoints. A checkpoint that cannot be opened gives a report with
that finding, not an exception. One in TensorRT-LLM's layout is checked rank by rank, then joined and audited
as any other.
"""

from __future__ import annotations

import gc
import time
from contextlib import contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from bwdeploy.errors import ToolError
from bwdeploy.pipeline.jobs import Audit, AuditFinding, AuditReport, Progress
from bwdeploy.worker import audit_files, audit_labels, audit_scales, audit_tensors
from bwdeploy.worker.accuracy.text import held_out_sequences
from bwdeploy.worker.compare import Comparison, compare_weights
from bwdeploy.worker.perplexity import perplexity
from bwdeploy.worker.process import peak_memory_bytes
from bwdeploy.worker.ranks.checks import UNJOINABLE, check_ranks
from bwdeploy.worker.ranks.files import RankFiles
from bwdeploy.worker.ranks.join import join
from bwdeploy.worker.ranks.source import read_source
from bwdeploy_runtime.checkpoint import load_model
from bwdeploy_runtime.quantization import CheckpointError, QuantizationConfig, TensorReader, read_quantization

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from bwdeploy.recipe.schema import Evaluation


def run(request: Audit, report: Callable[[Progress], None]) -> AuditReport:
    """Audit `request.checkpoint` against `request.source`.

    Raises:
        RecipeError: the evaluation data cannot be read or is too short.
        ToolError: the *source* cannot be read.
    """
    try:
        if request.layout == "tensorrt_llm":
            return _audit_ranks(request, report)
        return _Auditor(request, report).run()
    except CheckpointError as error:
        raise ToolError(
            f"The source model cannot be read: {error}.", hint="Is model.source whole?"
        ) from error


def _audit_ranks(request: Audit, report: Callable[[Progress], None]) -> AuditReport:
    """The findings of the ranks, and the audit of what they are together.

    Raises:
        ToolError: no source to compare with.
    """
    if request.source is None:
        raise ToolError("An audit of rank files needs the source model.", hint="Keep model.source readable.")
    started = time.monotonic()
    report(Progress(phase="inspect ranks"))
    source = read_source(request.source, trust_remote_code=request.trust_remote_code)
    found = check_ranks(request.checkpoint, source)
    inspected = time.monotonic()
    if any(one.check in UNJOINABLE for one in found):
        audited = _Auditor(request, report).report_findings()
        return audited.model_copy(update={"findings": tuple(found)})
    # The worker's directory is the job's own; the store beside the checkpoint may be read-only.
    with TemporaryDirectory(prefix="joined-", dir=Path.cwd()) as place:
        joined = Path(place)
        with RankFiles(request.checkpoint) as ranks:
            join(ranks, source=request.source, out=joined, report=report)
        ready = time.monotonic()
        changes = {"checkpoint": joined, "layout": "unified"}
        audited = _Auditor(request.model_copy(update=changes), report).run()
        there, here = str(joined), str(request.checkpoint)
        found += [
            one.model_copy(update={"message": one.message.replace(there, here)}) for one in audited.findings
        ]
    seconds = {"inspect ranks": round(inspected - started, 2), "join": round(ready - inspected, 2)}
    return audited.model_copy(update={"findings": tuple(found), "seconds": seconds | audited.seconds})


class _Auditor:
    """One audit in progress: what is known so far."""

    def __init__(self, request: Audit, report: Callable[[Progress], None]) -> None:
        self.request = request
        self.report = report
        self.findings: list[AuditFinding] = []
        self.seconds: dict[str, float] = {}
        self.census = audit_tensors.TensorCensus()
        self.comparison = Comparison()
        self.quantization = QuantizationConfig(layers={})
        self.perplexities: tuple[float | None, float | None] = (None, None)
        self.tokens = 0
        self.emulated = 0

    def run(self) -> AuditReport:
        place = self.request.source
        with TensorReader(place) if place else nullcontext() as source:
            try:
                self._inspect(source)
            except CheckpointError as error:
                self.findings.append(audit_files.finding("checkpoint-unreadable", str(error)))
        fatal = any(entry.severity == "error" and entry.check in _FATAL for entry in self.findings)
        if self.request.evaluation is not None and not fatal:
            self._measure(self.request.evaluation)
        return self.report_findings()

    @contextmanager
    def _phase(self, name: str) -> Iterator[Callable[[int, int], None]]:
        started = time.monotonic()
        self.report(Progress(phase=name))
        yield lambda done, total: self.report(Progress(phase=name, done=done, total=total))
        self.seconds[name] = round(time.monotonic() - started, 2)

    def _inspect(self, source: TensorReader | None) -> None:
        request = self.request
        with self._phase("inspect"), TensorReader(request.checkpoint) as reader:
            self.quantization = read_quantization(request.checkpoint)
            self.findings += audit_files.check_files(request, self.quantization)
            self.census, findings = audit_tensors.take_census(reader)
            self.findings += findings
            if source is not None:
                self.findings += audit_tensors.check_leftovers(reader, source, self.census)
            self.findings += audit_scales.check_scales(reader, self.census, self.quantization)
            algo = self.quantization.quant_algo
            self.findings += audit_tensors.check_size(self.census, reader, request.format, algo)
            shape = audit_tensors.model_shape(
                request.checkpoint, reader.names(), trust_remote_code=request.trust_remote_code
            )
            self.findings += audit_files.check_exclusions(self.quantization, shape.modules)
            self.findings += audit_tensors.check_quantized_set(self.census, self.quantization, shape)
            self.findings += audit_labels.check_labels(reader, self.census, self.quantization)
            self.findings += audit_labels.check_second_config(
                request.checkpoint, self.quantization, shape.linears
            )
            self.findings += audit_tensors.check_names_and_shapes(reader, source, self.census, shape)
        if source is None:
            return
        with self._phase("compare") as progress, TensorReader(request.checkpoint) as reader:
            self.comparison = compare_weights(reader, source, self.census, self.quantization, progress)
            self.findings += self.comparison.findings

    def _measure(self, evaluation: Evaluation) -> None:
        request = self.request
        sequences = held_out_sequences(
            evaluation, request.source or request.checkpoint, trust_remote_code=request.trust_remote_code
        )
        self.tokens = sequences.shape[0] * (sequences.shape[1] - 1)
        before = None
        if self.request.source is not None:
            with self._phase("perplexity of source") as progress:
                before = self._perplexity(self.request.source, sequences, progress)
        if before is not None and self.request.source == self.request.checkpoint:
            self.perplexities = (before, before)
            return
        with self._phase("perplexity of checkpoint") as progress:
            try:
                after = self._perplexity(self.request.checkpoint, sequences, progress)
            except CheckpointError as error:
                self.findings.append(audit_files.finding("checkpoint-unreadable", str(error)))
                after = None
        self.perplexities = (before, after)

    def _perplexity(
        self, directory: Path, sequences: Tensor, progress: Callable[[int, int], None]
    ) -> float | None:
        torch = import_module("torch")
        on_gpu = self.request.device == "cuda"
        model, info = load_model(
            directory,
            device=self.request.device,
            dtype=torch.bfloat16 if on_gpu else torch.float32,
            emulate_activations=True,
            trust_remote_code=self.request.trust_remote_code,
        )
        self.emulated = info.emulated_inputs
        value = perplexity(model, sequences, progress)
        del model
        gc.collect()  # modules hold reference cycles; the next model must not stand beside this one
        if value != value:  # noqa: PLR0124 - NaN
            message = f"{directory} computes NaN or infinity"
            self.findings.append(audit_files.finding("perplexity-not-finite", message))
            return None
        return value

    def report_findings(self) -> AuditReport:
        """What is known so far."""
        census = self.census
        quantized = census.quantized_parameters
        return AuditReport(
            tensors=census.tensors,
            parameters=census.parameters,
            bits_per_parameter=round(census.bits / max(1, census.parameters), 4),
            bits_per_quantized_parameter=round(census.quantized_bits / quantized, 4) if quantized else None,
            dtype_census=census.dtypes,
            quant_algo=self.quantization.quant_algo,
            kv_cache_quant_algo=self.quantization.kv_cache_quant_algo,
            findings=tuple(self.findings),
            compared_tensors=len(self.comparison.errors),
            worst_tensors=self.comparison.worst,
            tensor_errors=tuple(self.comparison.errors),
            source_perplexity=self.perplexities[0],
            quantized_perplexity=self.perplexities[1],
            evaluated_tokens=self.tokens,
            activations="quantized" if self.emulated else "unquantized",
            seconds=self.seconds,
            peak_memory_bytes=peak_memory_bytes(),
        )


# With one of these, the model cannot be run.
_FATAL = {
    "checkpoint-unreadable",
    "layout-unknown",
    "tensor-missing",
    "tensor-unexpected",
    "shape-differs",
    "weight-unreadable",
}
