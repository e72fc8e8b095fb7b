"""Post-training quantization with ModelOpt, on a GPU where the job says so and on a CPU otherwise.

On a CPU the model runs in float32 (bf16 is six times slower there) and the block formats' rounding comes from
`cpu_quantizers`. Only the decoder runs during calibration while the output head stays unquantized, as its
logits are not needed. Export and its repairs are in `export`.
"""

from __future__ import annotations

import logging
import math
import time
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from bwdeploy.errors import HostError
from bwdeploy.pipeline.jobs import Progress, QuantizePtq, QuantizeResult
from bwdeploy.worker import quant_config
from bwdeploy.worker.calibration import TextRequest, model_sequences
from bwdeploy.worker.export import export_checkpoint, exported_algorithms
from bwdeploy.worker.failures import recipe_error
from bwdeploy.worker.hf_directory import read_json
from bwdeploy.worker.process import peak_memory_bytes, return_free_memory
from bwdeploy.worker.ranks.export import ExportPlan, export_ranks
from bwdeploy.worker.ranks.refusals import refuse_quantization
from bwdeploy.worker.ranks.source import read_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from torch import Tensor

    from bwdeploy.worker.calibration import Part

_LOG = logging.getLogger(__name__)
_STACKED = 3


def run(request: QuantizePtq, report: Callable[[Progress], None]) -> QuantizeResult:
    """Quantize `request.source` into the existing, empty directory `request.out`.

    Raises:
        RecipeError: format, recipe, overrides or calibration data do not fit this model.
        HostError: no CUDA device although the job wants one.
    """
    quant_config.check_words(request)
    refuse_wrong_device(request.device)
    refuse_quantized_source(request.source)
    if request.layout == "tensorrt_llm":
        refuse_quantization(request, read_source(request.source, trust_remote_code=request.trust_remote_code))
    clock = Clock()
    with clock.phase("import", report):
        mtq = import_module("modelopt.torch.quantization")
    with clock.phase("load", report):
        model = load_model(request)
    config = quant_config.build_config(request, layer_widths(model))
    forward_loop = CalibrationLoop(request, report, head=quant_config.quantizes(config, "lm_head"))
    no_grad = import_module("torch").no_grad
    with clock.phase("calibrate", report), no_grad(), rounding(request, config):
        model = apply_quantizers(mtq, model, config, forward_loop)
        modules = count_quantized(model)
    with clock.phase("export", report):
        quant_algo, kv_algo = _export(request, model)
    return QuantizeResult(
        quant_algo=quant_algo,
        kv_cache_quant_algo=kv_algo,
        quantized_modules=modules,
        device=device_name(request.device),
        modelopt_version=version("nvidia-modelopt"),
        torch_version=version("torch"),
        transformers_version=version("transformers"),
        calibration_tokens=forward_loop.tokens,
        seconds=clock.seconds,
        peak_memory_bytes=peak_memory_bytes(),
        peak_gpu_memory_bytes=peak_gpu_memory(request.device),
    )


def _export(request: QuantizePtq, model: Any) -> tuple[str, str | None]:  # noqa: ANN401 - transformers
    """Write the checkpoint in the layout that is wanted; its quant_algo and kv_cache_quant_algo."""
    if request.layout == "unified":
        export_checkpoint(model, source=request.source, out=request.out, code=request.trust_remote_code)
        return exported_algorithms(request.out)
    described = read_source(request.source, trust_remote_code=request.trust_remote_code)
    plan = ExportPlan(request.source, described, request.out, request.tp, request.pp)
    _, quantization = export_ranks(model, plan)
    return str(quantization.algorithm), quantization.section["kv_cache_quant_algo"]


class Clock:
    """Wall time by phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str, report: Callable[[Progress], None]) -> Iterator[None]:
        """Report the phase and take its time."""
        report(Progress(phase=name))
        started = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - started, 2)


class CalibrationLoop:
    """ModelOpt's forward loop: every calibration batch once; an algorithm may ask for several passes."""

    def __init__(
        self,
        request: QuantizePtq,
        report: Callable[[Progress], None],
        *,
        head: bool,
        part: Part = "calibration",
    ) -> None:
        self._request = request
        self._part: Part = part
        self._report = report
        self._head = head
        self._passes = 0
        self._batches: tuple[Tensor, ...] | None = None

    @property
    def tokens(self) -> int:
        """Tokens of the calibration set; 0 when the format needed none."""
        return sum(batch.numel() for batch in self._batches or ())

    def __call__(self, model: Any) -> None:  # noqa: ANN401 - a transformers model
        """Run every batch through `model`."""
        # Read here, not earlier: weight-only formats never ask, and then need no text.
        if self._batches is None:
            self._batches = calibration_batches(self._request, part=self._part)
        self._passes += 1
        phase = "calibrate" if self._passes == 1 else f"calibrate (pass {self._passes})"
        body = model if self._head else getattr(model, "base_model", model)
        for number, batch in enumerate(self._batches):
            self._report(Progress(phase=phase, done=number, total=len(self._batches)))
            body(input_ids=batch.to(model.device), use_cache=False)
            return_free_memory()
        self._report(Progress(phase=phase, done=len(self._batches), total=len(self._batches)))


def calibration_batches(request: QuantizePtq, *, part: Part = "calibration") -> tuple[Tensor, ...]:
    """The calibration text as int64 [batch_size, seq_len] each.

    Raises:
        RecipeError: the data set cannot be read or is too short.
    """
    calibration = request.calibration
    wanted = TextRequest.of("quantize.calibration", calibration, samples=calibration.samples, part=part)
    sequences = model_sequences(request.source, wanted, trust_remote_code=request.trust_remote_code)
    return tuple(sequences.split(calibration.batch_size))


def refuse_wrong_device(device: str) -> None:
    """Refuse a job for a GPU where torch sees none.

    Raises:
        HostError: there is none.
    """
    if device == "cuda" and not import_module("torch").cuda.is_available():
        raise HostError(
            "The job asks for a CUDA device, but torch sees none.",
            hint="Check nvidia-smi and that torch is a CUDA build, or build on the CPU.",
        )


def refuse_quantized_source(source: Path) -> None:
    """Refuse to quantize twice.

    Raises:
        RecipeError: the source is quantized.
    """
    if "quantization_config" in read_json(source / "config.json"):
        raise recipe_error(
            "quantize.method",
            "the source model is already quantized",
            hint="Use method: prequantized, or start from the bf16 model.",
        )


def load_model(request: QuantizePtq) -> Any:  # noqa: ANN401 - a transformers model
    """The source model for inference: bf16 over all GPUs, or float32 on a CPU."""
    torch = import_module("torch")
    transformers = import_module("transformers")
    on_gpu = request.device == "cuda"
    # Spread over every GPU of this host; on a CPU no placement at all, which would need accelerate.
    placement: dict[str, Any] = {"device_map": "auto"} if on_gpu else {}
    model = transformers.AutoModelForCausalLM.from_pretrained(
        request.source,
        dtype=torch.bfloat16 if on_gpu else torch.float32,
        trust_remote_code=request.trust_remote_code,
        use_safetensors=True,
        **placement,
    )
    return model.eval()


def layer_widths(model: Any) -> dict[str, int]:  # noqa: ANN401
    """Input width of every linear layer by name, and of every block of routed experts in one tensor."""
    torch = import_module("torch")
    widths: dict[str, int] = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            widths[name] = module.in_features
        elif name.endswith(quant_config.EXPERTS):
            stacked = [
                parameter for parameter in module.parameters(recurse=False) if parameter.dim() == _STACKED
            ]
            widths[name] = math.gcd(*(parameter.shape[-1] for parameter in stacked))
    return {name: width for name, width in widths.items() if width}


@contextmanager
def rounding(request: QuantizePtq, config: dict[str, Any]) -> Iterator[None]:
    """On a CPU, give ModelOpt the rounding that its kernels only have for CUDA."""
    if request.device == "cuda":
        yield
        return
    cpu = import_module("bwdeploy.worker.cpu_quantizers")
    config["quant_cfg"] = cpu.select_backend(config["quant_cfg"])
    with cpu.cpu_rounding():
        yield


def apply_quantizers(
    mtq: Any,  # noqa: ANN401
    model: Any,  # noqa: ANN401
    config: dict[str, Any],
    forward_loop: CalibrationLoop,
) -> Any:  # noqa: ANN401
    """ModelOpt's `quantize`.

    Raises:
        RecipeError: the format quantizes nothing in this model.
    """
    try:
        return mtq.quantize(model, config, forward_loop)
    except RuntimeError as error:
        if "no weight quantizer is enabled" not in str(error):
            raise
        raise recipe_error(
            "quantize.format",
            "this format quantizes nothing in this model: none of its patterns matches a layer",
            hint="Experts-only formats need a mixture-of-experts model; try nvfp4 or nvfp4_mlp_only.",
        ) from error


def count_quantized(model: Any) -> int:  # noqa: ANN401
    """Weight quantizers that are on."""
    return sum(
        "weight_quantizer" in name and getattr(module, "is_enabled", False)
        for name, module in model.named_modules()
    )


def peak_gpu_memory(device: str) -> int:
    """The most that any one GPU held."""
    if device != "cuda":
        return 0
    cuda = import_module("torch").cuda
    return max(int(cuda.max_memory_allocated(index)) for index in range(cuda.device_count()))


def device_name(device: str) -> str:
    """The first GPU's name, or `cpu`."""
    return str(import_module("torch").cuda.get_device_name()) if device == "cuda" else "cpu"
