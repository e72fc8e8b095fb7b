"""The model that is trained: float32 weights with quantizers in place, as the export will find it.

Two things would let the checkpoint differ from the model in training. The export gives the layers that
engines fuse (q, k and v; gate and up) common scales, and it rounds all that stays unquantized to bf16. So
both happens here, before the training: scales are fused by ModelOpt's own export code, and what is not
quantized is rounded and frozen, as rounding would undo its small steps. The export packs the float32 weights.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bwdeploy.worker import quant_config, quantize
from bwdeploy.worker.failures import recipe_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor

    from bwdeploy.pipeline.jobs import Progress
    from bwdeploy.pipeline.training_jobs import QuantizeTrained


_W4A8_RANGE = 6.0


def load_master(request: QuantizeTrained, report: Callable[[Progress], None]) -> tuple[Any, int]:
    """The calibrated model ready for training, and the tokens it was calibrated on.

    Raises:
        RecipeError: format, overrides or calibration data do not fit this model.
    """
    torch = import_module("torch")
    model = load_float(request, dtype=torch.float32)
    config = quant_config.build_config(request, quantize.layer_widths(model))
    loop = quantize.CalibrationLoop(
        request, report, head=quant_config.quantizes(config, "lm_head"), part="training"
    )
    mtq = import_module("modelopt.torch.quantization")
    autocast = import_module("bwdeploy.worker.training.validation").autocast
    if request.device == "cpu":
        cpu = import_module("bwdeploy.worker.cpu_quantizers")
        config["quant_cfg"] = cpu.select_backend(config["quant_cfg"])
    with torch.no_grad(), autocast(request.device):
        model = quantize.apply_quantizers(mtq, model, config, loop)
        _fuse_scales(model)
        _freeze_unquantized(model)
        _stretch_scales(model, _W4A8_RANGE)
    return model, loop.tokens


def ready_for_export(model: Any) -> None:  # noqa: ANN401
    """Undo what only the training needs."""
    with import_module("torch").no_grad():
        _stretch_scales(model, 1 / _W4A8_RANGE)


def load_float(request: QuantizeTrained, *, dtype: Any) -> Any:  # noqa: ANN401 - torch, transformers
    """The unquantized source on this process's own GPU, or on the CPU."""
    transformers = import_module("transformers")
    placement: dict[str, Any] = {}
    if request.device == "cuda":
        placement = {"device_map": {"": import_module("torch").cuda.current_device()}}
    model = transformers.AutoModelForCausalLM.from_pretrained(
        request.source,
        dtype=dtype,
        trust_remote_code=request.trust_remote_code,
        use_safetensors=True,
        **placement,
    )
    return model.eval()


def _fuse_scales(model: Any) -> None:  # noqa: ANN401
    """Do what the export does to the scales of fused layers, and for FP8 what engines do when they load."""
    export = import_module("modelopt.torch.export.unified_export_hf")
    fuse = import_module("modelopt.torch.export.quant_utils").preprocess_linear_fusion
    export.requantize_resmooth_fused_llm_layers(model)
    for names in quant_config.fused_groups(quantize.layer_widths(model)):
        fuse([model.get_submodule(name) for name in names])


def _freeze_unquantized(model: Any) -> None:  # noqa: ANN401
    torch = import_module("torch")
    trained = {id(parameter) for parameter in _quantized_weights(model)}
    if not trained:
        raise recipe_error(
            "quantize.format",
            "this format quantizes no weight, so there is nothing to train",
            hint="Choose a format that quantizes weights.",
        )
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in trained)
        if id(parameter) not in trained and parameter.is_floating_point():
            parameter.data = parameter.data.to(torch.bfloat16).to(torch.float32)
    for name, smoothing in _quantizer_buffers(model):
        if name.endswith("._pre_quant_scale"):
            smoothing.copy_(smoothing.to(torch.bfloat16))


def _stretch_scales(model: Any, factor: float) -> None:  # noqa: ANN401
    """Multiply the ranges of NVFP4 weights that meet FP8 activations.

    ModelOpt rounds such a weight with block scales up to 448, but exports it with block scales up to 448 / 6,
    as the kernels make FP8 of it (https://github.com/NVIDIA/Model-Optimizer, `get_weight_scaling_factor_2`).
    Six is no power of two, so that the scales round differently.
    """
    format_of = import_module("modelopt.torch.export.quant_utils").get_quantization_format
    for module in model.modules():
        if hasattr(module, "weight_quantizer") and format_of(module) == "w4a8_nvfp4_fp8":
            module.weight_quantizer.amax = module.weight_quantizer.amax * factor


def _quantized_weights(model: Any) -> Iterator[Tensor]:  # noqa: ANN401
    """Every parameter with a weight quantizer that is on: `weight`, or `X` beside `X_weight_quantizer`."""
    for module in model.modules():
        for name, child in module.named_children():
            before, found, _ = name.partition("weight_quantizer")
            if found and any(getattr(one, "is_enabled", False) for one in child.modules()):
                yield getattr(module, before.rstrip("_") or "weight")


def shard_again(model: Any) -> None:  # noqa: ANN401
    """Let go of what forward passes have gathered: parameters are those that the optimizer knows."""
    for module in model.modules():
        if hasattr(module, "reshard"):
            module.reshard()


def model_tensors(model: Any) -> Iterator[tuple[str, Tensor]]:  # noqa: ANN401
    """What makes the model what it is: trained weights in float32, frozen ones in bf16, all scales.

    Of a sharded model every rank has to take all of them.
    """
    torch = import_module("torch")
    for name, one in model.named_parameters():
        yield name, _whole(one if one.requires_grad else one.to(torch.bfloat16))
    for name, one in _quantizer_buffers(model):
        yield name, _whole(one)


def restore_tensors(model: Any, tensors: Iterator[tuple[str, Tensor]]) -> None:  # noqa: ANN401
    """Put what `model_tensors` gave back into a model of the same request that is not sharded."""
    slots = dict(model.named_parameters()) | dict(_quantizer_buffers(model))
    with import_module("torch").no_grad():
        for name, value in tensors:
            slots[name].copy_(value)


def optimizer_tensors(optimizer: Any, parameters: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:  # noqa: ANN401
    """The optimizer's state by parameter, `NAME/exp_avg` and so on; see `model_tensors`."""
    for name, one in parameters.items():
        for key, value in optimizer.state[one].items():
            yield f"{name}/{key}", _whole(value)


def restore_optimizer(optimizer: Any, parameters: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:  # noqa: ANN401
    """Put what `optimizer_tensors` gave back, cut as the parameters are cut."""
    for full_name, value in saved.items():
        name, _, key = full_name.rpartition("/")
        one = parameters[name]
        optimizer.state[one][key] = value if value.dim() == 0 else _cut_like(value, one)


def _quantizer_buffers(model: Any) -> Iterator[tuple[str, Tensor]]:  # noqa: ANN401
    return ((name, one) for name, one in model.named_buffers() if "_quantizer" in name)


def _whole(tensor: Any) -> Tensor:  # noqa: ANN401
    gathered: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return gathered.detach()


def _cut_like(value: Tensor, like: Any) -> Tensor:  # noqa: ANN401
    if not hasattr(like, "full_tensor"):
        return value.to(like.device)
    tensor = import_module("torch.distributed.tensor")
    cut: Tensor = tensor.distribute_tensor(value.to(like.device), like.device_mesh, like.placements)
    return cut
