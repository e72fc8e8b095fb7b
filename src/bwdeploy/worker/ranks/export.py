"""Write a model as a TensorRT-LLM checkpoint with ModelOpt, and repair what ModelOpt leaves wrong.

ModelOpt cuts and packs the weights. The configuration is then put right from the model's own: transformers 5
hides rotary base and scaling from it, biases, query norms, tied embeddings and the kind of Qwen are not said,
logits are called float16, and the description of the quantization covers the last rank only. The tokenizer
lies beside, as serving needs it.
"""

from __future__ import annotations

import json
import time
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from bwdeploy.errors import ToolError
from bwdeploy.facts.rank_export import rank_export
from bwdeploy.pipeline.jobs import ExportRanks, Progress, RanksResult
from bwdeploy.worker import hf_directory
from bwdeploy.worker.failures import recipe_error
from bwdeploy.worker.process import peak_memory_bytes, write_atomically
from bwdeploy.worker.ranks.files import rank_file
from bwdeploy.worker.ranks.quantization import (
    RankQuantization,
    describe_quantization,
    refuse_algorithms,
)
from bwdeploy.worker.ranks.refusals import refuse_lost_parts, refuse_model
from bwdeploy.worker.ranks.source import SourceModel, engine_config, read_source
from bwdeploy.worker.ranks.tensors import ALGORITHMS, HEAD, storage_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from torch import Tensor

_FAILURES = (NotImplementedError, AssertionError, KeyError, TypeError, RuntimeError, ValueError)
_DTYPES = {"uint8": "U8", "float8_e4m3fn": "F8_E4M3"}


class ExportPlan(NamedTuple):
    """Where the ranks come from and go to."""

    source: Path
    model: SourceModel
    out: Path
    """Existing, empty directory."""
    tp: int
    pp: int


def run(request: ExportRanks, report: Callable[[Progress], None]) -> RanksResult:
    """Cut the unquantized model of `request.source` into ranks.

    Raises:
        RecipeError: the model, tp or pp cannot be exported.
        ToolError: ModelOpt fails.
    """
    started = time.monotonic()
    if "quantization_config" in hf_directory.read_json(request.source / "config.json"):
        raise recipe_error(
            "quantize.method",
            "the source model is quantized, and ModelOpt cuts unquantized models only",
            hint="Start from the bf16 model, or set engine.converter: tensorrt_llm.",
        )
    model = read_source(request.source, trust_remote_code=request.trust_remote_code)
    refuse_model(model, tp=request.tp, pp=request.pp)
    report(Progress(phase="load"))
    loaded = import_module("transformers").AutoModelForCausalLM.from_pretrained(
        request.source,
        dtype=import_module("torch").bfloat16,
        trust_remote_code=request.trust_remote_code,
        use_safetensors=True,
    )
    report(Progress(phase="export"))
    plan = ExportPlan(request.source, model, request.out, request.tp, request.pp)
    tensors, _ = export_ranks(loaded.eval(), plan)
    return RanksResult(
        ranks=request.tp * request.pp,
        tensors=tensors,
        bytes=sum(path.stat().st_size for path in request.out.glob("rank*.safetensors")),
        seconds=round(time.monotonic() - started, 2),
        peak_memory_bytes=peak_memory_bytes(),
    )


def export_ranks(model: Any, plan: ExportPlan) -> tuple[int, RankQuantization]:  # noqa: ANN401
    """Write `model` (calibrated, or not quantized); the number of tensors, and how they are quantized.

    Raises:
        RecipeError: stages that differ, or formats without an engine.
        ToolError: ModelOpt fails.
    """
    torch = import_module("torch")
    _refuse_searched_scales(model)
    # Parameters only: model.to() would also round the calibrated ranges, which are float32 buffers.
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(torch.bfloat16)
    stages: list[dict[str, str | None]] = [{} for _ in range(plan.pp)]
    kv_cache: str | None = None
    raw: dict[str, Any] = {}
    tensors = 0
    for raw, weights in _cut(model, plan):
        claimed = _claimed(raw["quantization"])
        refuse_algorithms(claimed)
        refuse_lost_parts(plan.model, claimed)
        kv_cache = kv_cache or raw["quantization"].get("kv_cache_quant_algo")
        stages[raw["rank"] // plan.tp] |= _algorithms(weights)
        tensors += len(weights)
        path = rank_file(plan.out, raw["rank"])
        import_module("safetensors.torch").save_file(weights, path, metadata={"format": "pt"})
    quantization = describe_quantization(stages, kv_cache)
    _write_configuration(plan, raw, quantization)
    hf_directory.copy_tokenizer(plan.source, plan.out)
    hf_directory.copy_generation_config(plan.source, plan.out)
    hf_directory.make_readable(plan.out)
    return tensors, quantization


def _refuse_searched_scales(model: Any) -> None:  # noqa: ANN401
    """Block scales that were searched (4/6, MSE): the export computes those of q, k and v anew."""
    searched = import_module("modelopt.torch.quantization.nn").StaticBlockScaleQuantizer
    for name, module in model.named_modules():
        if name.endswith("q_proj.weight_quantizer") and isinstance(module, searched):
            raise recipe_error(
                "quantize",
                f"the block scales of {name} were searched; ModelOpt computes them anew for engines",
                hint="Quantize the attention with nvfp4 or not at all, or use engine.backend: pytorch.",
            )


def _cut(model: Any, plan: ExportPlan) -> Iterator[tuple[dict[str, Any], dict[str, Tensor]]]:  # noqa: ANN401
    """Each rank's configuration and tensors, as ModelOpt makes them."""
    export = import_module("modelopt.torch.export")
    torch = import_module("torch")
    decoder = rank_export().architectures[plan.model.architecture]
    try:
        with torch.no_grad():
            for config, weights, _ in export.torch_to_tensorrt_llm_checkpoint(
                model, decoder, torch.bfloat16, plan.tp, plan.pp
            ):
                # TensorRT-LLM holds single scales with one dimension, ModelOpt those of NVFP4 with none.
                yield config, {name: torch.atleast_1d(one) for name, one in weights.items()}
    except _FAILURES as error:
        raise ToolError(
            f"ModelOpt cannot cut this model for engines: {type(error).__name__}: {error}.",
            hint="The log has its traceback; engine.converter: tensorrt_llm is the other way.",
        ) from error


def _claimed(section: dict[str, Any]) -> set[str]:
    """Every quant_algo that ModelOpt names for the layers of a rank."""
    layers = section.get("quantized_layers") or {}
    named = {layer["quant_algo"] for layer in layers.values()} or {section.get("quant_algo")}
    return named - {None}


def _algorithms(weights: dict[str, Tensor]) -> dict[str, str | None]:
    """quant_algo of each linear layer, read off its tensors."""

    def dtype_of(name: str) -> str | None:
        return (
            _DTYPES.get(str(weights[name].dtype).removeprefix("torch."), "F32") if name in weights else None
        )

    if dtype_of(HEAD) in _DTYPES.values():
        raise recipe_error(
            "quantize.overrides",
            "lm_head is quantized, which engines are not known to read",
            hint="Leave lm_head in bf16.",
        )
    modules = [
        name.removesuffix(".weight")
        for name, tensor in weights.items()
        if name.startswith("transformer.layers.") and name.endswith(".weight") and tensor.dim() > 1
    ]
    return {module: ALGORITHMS[storage_of(module, dtype_of)] for module in modules}


def _write_configuration(plan: ExportPlan, raw: dict[str, Any], quantization: RankQuantization) -> None:
    config = {name: value for name, value in raw.items() if name != "rank"}
    config |= engine_config(plan.model, tp=plan.tp, pp=plan.pp) | {"quantization": quantization.section}
    dump = partial(json.dumps, indent=2)
    write_atomically(plan.out / "config.json", dump(config) + "\n")
    if quantization.layers is not None:
        write_atomically(plan.out / "quant_cfg.json", dump(quantization.layers) + "\n")
