"""Write the quantized model as a unified Hugging Face checkpoint that every reader can load.

ModelOpt packs the weights; the rest is repaired here: no float32 leftovers, the source's own tokenizer files
and generation settings, `rope_theta` and `torch_dtype` where older readers look, and readable file modes.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bwdeploy.errors import ToolError
from bwdeploy.worker import hf_directory

if TYPE_CHECKING:
    from pathlib import Path

_SCALES = ("weight_scale", "weight_scale_2", "input_scale", "k_scale", "v_scale", "k_bias", "v_bias")


def export_checkpoint(
    model: Any,  # noqa: ANN401 - a transformers model
    *,
    source: Path,
    out: Path,
    code: bool,
    from_float32: bool = False,
) -> None:
    """Export `model` (quantized, calibrated) into the existing directory `out`.

    `from_float32` packs the weights as they are, without rounding them to bf16 first: training moves them by
    less than that. What stays unquantized is written as bf16 in any case.

    Raises:
        ToolError: ModelOpt cannot export this combination of model and format.
    """
    torch = import_module("torch")
    export = import_module("modelopt.torch.export")
    if not from_float32 and not _is_smoothed(model):
        # Parameters only: model.to() would also round the calibrated ranges, which are float32 buffers.
        for parameter in model.parameters():
            if parameter.is_floating_point():
                parameter.data = parameter.data.to(torch.bfloat16)
    try:
        with torch.no_grad():
            dtype = torch.float32 if from_float32 else torch.bfloat16
            export.export_hf_checkpoint(model, dtype=dtype, export_dir=out)
    except NotImplementedError as error:
        raise ToolError(
            f"ModelOpt cannot export this format for this model: {error}.",
            hint="Choose another quantize.format.",
        ) from error
    for path in sorted(out.glob("*.safetensors")):
        _narrow(path)
    hf_directory.copy_tokenizer(source, out)
    hf_directory.copy_generation_config(source, out)
    if code:
        hf_directory.copy_remote_code(source, out)
    hf_directory.complete_config(out)
    hf_directory.make_readable(out)


def _is_smoothed(model: Any) -> bool:  # noqa: ANN401
    """Whether AWQ has left float32 smoothing vectors, which the export multiplies into float32 weights."""
    return any(hasattr(module, "_pre_quant_scale") for module in model.modules())


def _narrow(path: Path) -> None:
    """Round what is still float32 in a weight file to bf16; scales stay as they are."""
    torch = import_module("torch")
    safetensors = import_module("safetensors")
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        wide = [name for name in file.keys() if _is_wide(name, file.get_slice(name).get_dtype())]  # noqa: SIM118
        if not wide:
            return
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    for name in wide:
        tensors[name] = tensors[name].to(torch.bfloat16)
    narrowed = path.with_suffix(".narrowed")
    import_module("safetensors.torch").save_file(tensors, narrowed, metadata=metadata)
    narrowed.replace(path)


def _is_wide(name: str, dtype: str) -> bool:
    return dtype == "F32" and name.rpartition(".")[2] not in _SCALES


def exported_algorithms(out: Path) -> tuple[str, str | None]:
    """quant_algo and kv_cache_quant_algo, as the export wrote them.

    Raises:
        ToolError: the export carries no quantization.
    """
    path = out / "hf_quant_config.json"
    section = hf_directory.read_json(path)["quantization"] if path.exists() else {}
    if not section.get("quant_algo"):
        raise ToolError(
            "ModelOpt exported an unquantized checkpoint.",
            hint="No layer was quantized; see the log for the layers it found.",
        )
    return str(section["quant_algo"]), section.get("kv_cache_quant_algo")
