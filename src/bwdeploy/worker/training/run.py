"""Quantization with training (qat, qad) or search (auto): the worker's entry for all three.

The order of a training: load in float32, calibrate, fuse scales, train, take the best step's weights, pack
them from float32, read the files back and measure them on the same validation text. What was trained is what
ships.
"""

from __future__ import annotations

import gc
from functools import cached_property
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, cast

from bwdeploy.errors import HostError
from bwdeploy.pipeline.training_jobs import TrainedResult, TrainingCurve
from bwdeploy.worker import quant_config, quantize
from bwdeploy.worker.export import export_checkpoint, exported_algorithms
from bwdeploy.worker.failures import recipe_error
from bwdeploy.worker.perplexity import perplexity_of
from bwdeploy.worker.process import peak_memory_bytes
from bwdeploy.worker.process_group import run_in_group
from bwdeploy.worker.training import session
from bwdeploy.worker.training.master import load_master, ready_for_export, restore_tensors
from bwdeploy.worker.training.search import run_search
from bwdeploy.worker.training.stopping import best_step
from bwdeploy.worker.training.text import compared_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from bwdeploy.pipeline.jobs import Progress
    from bwdeploy.pipeline.training_jobs import QuantizeTrained
    from bwdeploy.worker.training.state import TrainingRecord

_PART = f"{session.__name__}:{session.train_as_rank.__name__}"
_METRICS = {"qat": "perplexity", "qad": "kl_divergence"}


def run(request: QuantizeTrained, report: Callable[[Progress], None]) -> TrainedResult:
    """Quantize `request.source` into the existing, empty directory `request.out`.

    Raises:
        RecipeError: format, recipe, overrides, data or search do not fit this model.
        HostError: no CUDA device although the job wants one, fewer than it wants, or too little memory.
        ToolError: the training diverges, or ModelOpt cannot search or export this.
    """
    if request.method == "auto":
        return run_search(request, report)
    _refuse(request)
    with session.rounding_on(request.device):
        return _Training(request, report).run()


def _refuse(request: QuantizeTrained) -> None:
    quant_config.check_words(request)
    quantize.refuse_wrong_device(request.device)
    quantize.refuse_quantized_source(request.source)
    training = session.settings_of(request)
    if request.layout != "unified":
        raise recipe_error(
            "quantize.method",
            f"{request.method} writes checkpoints for the PyTorch backend; the files for trtllm-build are "
            "packed from bf16, which would undo the training",
            hint="Set engine.backend: pytorch, or quantize.method: ptq.",
        )
    if training.batch_size % training.gpus:
        raise recipe_error(
            "quantize.training.batch_size",
            f"{training.batch_size} sequences cannot be shared evenly by {training.gpus} GPUs",
            hint=f"Choose a multiple of {training.gpus}.",
        )
    if request.device == "cuda":
        there = import_module("torch").cuda.device_count()
        if there < training.gpus:
            raise HostError(
                f"The training wants {training.gpus} GPUs, but this machine has {there}.",
                hint="Lower quantize.training.gpus.",
            )


class _Training:
    """One training, from its source to its checkpoint."""

    def __init__(self, request: QuantizeTrained, report: Callable[[Progress], None]) -> None:
        self._request = request
        self._report = report
        self._clock = quantize.Clock()
        self._state = session.state_of(request)

    def run(self) -> TrainedResult:
        """Train, export, measure."""
        newest = self._state.newest()
        with self._clock.phase("train", self._report):
            model, tokens, peak = self._trained()
        record = self._state.newest()
        if record is None:  # a training that ends without an error has kept its end
            raise RuntimeError(f"no checkpoint in {self._request.state}")
        best = best_step(record.points)
        modules = quantize.count_quantized(model)
        with self._clock.phase("export", self._report):
            restore_tensors(model, self._state.model(best))
            trained = self._likelihoods(model)
            ready_for_export(model)
            export_checkpoint(
                model,
                source=self._request.source,
                out=self._request.out,
                code=self._request.trust_remote_code,
                from_float32=True,
            )
        del model
        gc.collect()
        with self._clock.phase("validate export", self._report):
            exported = self._exported_likelihoods()
        quant_algo, kv_algo = exported_algorithms(self._request.out)
        return TrainedResult(
            quant_algo=quant_algo,
            kv_cache_quant_algo=kv_algo,
            quantized_modules=modules,
            device=quantize.device_name(self._request.device),
            modelopt_version=version("nvidia-modelopt"),
            torch_version=version("torch"),
            transformers_version=version("transformers"),
            calibration_tokens=tokens,
            seconds=self._clock.seconds,
            peak_memory_bytes=max(peak_memory_bytes(), peak.host),
            peak_gpu_memory_bytes=max(quantize.peak_gpu_memory(self._request.device), peak.gpu),
            curve=self._curve(record, newest),
            perplexity_before=record.perplexities[0],
            perplexity_trained=record.perplexities[best],
            perplexity_exported=self._validation_perplexity(exported),
            likelihoods_trained=trained,
            likelihoods_exported=exported,
        )

    def _trained(self) -> tuple[Any, int, session.PeakMemory]:
        """A model of this request, on its device; its weights are those of any step."""
        ranks = session.settings_of(self._request).gpus
        peak = session.PeakMemory(host=0, gpu=0)
        try:
            if ranks > 1:
                told = run_in_group(self._request, _PART, self._report, processes=ranks)
                peak = session.PeakMemory.model_validate(told)
                return *load_master(self._request, self._report), peak
            trained = session.train_here(self._request, self._report)
        except import_module("torch").OutOfMemoryError as error:
            raise HostError(
                f"The GPU's memory is too small for the training: {str(error).splitlines()[0]}",
                hint="Lower quantize.training.batch_size or seq_len, or raise quantize.training.gpus.",
            ) from error
        return trained.model, trained.calibration_tokens, peak

    def _exported_likelihoods(self) -> tuple[float, ...]:
        request = self._request
        model, _ = import_module("bwdeploy_runtime.checkpoint").load_model(
            request.out,
            device=request.device,
            # As in training, where autocast rounds what is multiplied and the residual stream stays float32:
            # a stream of bf16 alone moves the perplexity by more than the export may.
            dtype=import_module("torch").float32,
            emulate_activations=True,
            trust_remote_code=request.trust_remote_code,
        )
        return self._likelihoods(model)

    def _validation_perplexity(self, likelihoods: tuple[float, ...]) -> float:
        validated = likelihoods[: session.settings_of(self._request).validation_samples]
        return perplexity_of(sum(validated) / len(validated))

    def _likelihoods(self, model: Any) -> tuple[float, ...]:  # noqa: ANN401 - a transformers model
        validation = import_module("bwdeploy.worker.training.validation")
        text = validation.Validation(self._compared, device=str(model.device))
        return cast("tuple[float, ...]", text.likelihoods(model))

    @cached_property
    def _compared(self) -> Any:  # noqa: ANN401 - a tensor
        return compared_text(self._request, session.settings_of(self._request))

    def _curve(self, record: TrainingRecord, newest: TrainingRecord | None) -> TrainingCurve:
        return TrainingCurve(
            metric=_METRICS[self._request.method],
            points=record.points,
            steps=record.step,
            best_step=best_step(record.points),
            stopped=record.stopped or "steps",
            resumed_at=None if newest is None else newest.step,
            gpus=session.settings_of(self._request).gpus,
        )
