"""Audit of a draft's tensors: that those its configuration asks for are there, whole, and hold numbers.

Expected names and shapes are those of a Llama-like draft. Other decoders (MLA) are known by their own names
and only looked at value by value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.worker.audit_files import finding
from bwdeploy.worker.drafts.shape import MAPS, stored_dtype
from bwdeploy_runtime.quantization import is_scale

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bwdeploy.pipeline.jobs import AuditFinding
    from bwdeploy.pipeline.training_jobs import DraftShape
    from bwdeploy.worker.drafts.shape import DraftFiles
    from bwdeploy.worker.drafts.target import Target
    from bwdeploy_runtime.quantization import TensorReader

_FLOATS = {"BF16", "F16", "F32", "F64"}
_OPTIONAL = (".bias", "layers.0.input_layernorm.weight")
_SHOWN = 4


def check_dtypes(files: DraftFiles, target: Target) -> Iterator[AuditFinding]:
    """What is stored, what the configuration says, and what the target computes in."""
    stored = stored_dtype(files)
    kinds = sorted({header.dtype for name, header in files.tensors.items() if name not in MAPS})
    said = str(files.config.get("dtype") or files.config.get("torch_dtype") or "")
    if set(kinds) - _FLOATS:
        yield finding(
            "draft-quantized",
            f"weights are stored as {', '.join(kinds)}",
            severity="warning",
            hint="A quantized draft loads only where TensorRT-LLM knows its scales, which nobody checked.",
        )
    elif said and said.removeprefix("torch.") != stored:
        yield finding(
            "draft-dtype",
            f"weights are stored as {stored}, config.json says {said}",
            severity="warning",
            hint="ModelOpt's exporter keeps the float32 of the training: cast the weights.",
        )
    elif stored != target.dtype:
        yield finding(
            "draft-dtype",
            f"the draft is {stored}, the target computes in {target.dtype}",
            severity="warning",
            hint="Hidden states of a bfloat16 model can overflow in float16: convert the draft.",
        )


def check_names_and_shapes(files: DraftFiles, shape: DraftShape, target: Target) -> Iterator[AuditFinding]:
    """Tensors that are missing, unexpected or of another size than the configuration asks for."""
    if any("kv_a_proj" in name for name in files.tensors):
        message = "the draft is no Llama-like decoder: names and sizes of its tensors were not compared"
        yield finding("draft-tensors-not-checked", message, severity="info")
        return
    expected = expected_tensors(files, shape, target)
    missing = [name for name in expected if name not in files.tensors and not name.endswith(_OPTIONAL)]
    if missing:
        yield finding(
            "draft-tensor-missing",
            f"{_listed(missing)} missing",
            hint="The export broke off, or config.json belongs to another draft.",
        )
    known = {*expected, "embed_tokens.weight", *MAPS}
    known |= {name for name in files.tensors if name.endswith(_OPTIONAL) or is_scale(name)}
    unexpected = [name for name in files.tensors if name not in known]
    if unexpected:
        yield finding(
            "draft-tensor-unexpected",
            f"{_listed(unexpected)} no part of an EAGLE3 draft of {shape.layers} layer(s)",
            severity="warning",
            hint="More layers than config.json says, or tensors of another method: they are not loaded.",
        )
    for name, wanted in expected.items():
        header = files.tensors.get(name)
        if header is not None and header.shape != wanted and header.dtype in _FLOATS:
            yield finding(
                "draft-tensor-shape",
                f"{files.stored_names[name]} has shape {header.shape}, config.json asks for {wanted}",
                tensor=files.stored_names[name],
                hint="config.json and weights come from two different drafts.",
            )


def expected_tensors(files: DraftFiles, shape: DraftShape, target: Target) -> dict[str, tuple[int, ...]]:
    """Names and shapes that the configuration asks for, by ModelOpt's names."""
    hidden = shape.hidden_size
    heads = files.number("num_attention_heads") or 1
    width = files.number("head_dim") or hidden // heads
    keys = (files.number("num_key_value_heads") or heads) * width
    expected: dict[str, tuple[int, ...]] = {
        "fc.weight": (hidden, len(shape.hidden_layers) * target.hidden_size),
        "norm.weight": (hidden,),
        "layers.0.hidden_norm.weight": (hidden,),
    }
    for layer in range(min(shape.layers, len(files.tensors))):  # whatever number config.json says
        place, read = f"layers.{layer}", hidden if layer else 2 * hidden
        expected |= {
            f"{place}.input_layernorm.weight": (hidden,),
            f"{place}.post_attention_layernorm.weight": (hidden,),
            f"{place}.self_attn.q_proj.weight": (heads * width, read),
            f"{place}.self_attn.k_proj.weight": (keys, read),
            f"{place}.self_attn.v_proj.weight": (keys, read),
            f"{place}.self_attn.o_proj.weight": (hidden, heads * width),
            f"{place}.mlp.gate_proj.weight": (shape.ffn_width, hidden),
            f"{place}.mlp.up_proj.weight": (shape.ffn_width, hidden),
            f"{place}.mlp.down_proj.weight": (hidden, shape.ffn_width),
        }
    # Without a head of its own the draft takes the target's, which must then fit.
    own_head = "lm_head.weight" in files.tensors or shape.draft_vocab_size != target.vocab_size
    if own_head or hidden != target.hidden_size:
        expected["lm_head.weight"] = (shape.draft_vocab_size, hidden)
    if hidden != target.hidden_size or "embed_tokens.weight" in files.tensors:
        expected["embed_tokens.weight"] = (shape.vocab_size, hidden)
    return expected


def check_values(
    files: DraftFiles, reader: TensorReader, progress: Callable[[int, int], None]
) -> Iterator[AuditFinding]:
    """Weights that hold NaN or infinity, and weights that are all zero."""
    names = [name for name in files.tensors if name not in MAPS and files.tensors[name].dtype in _FLOATS]
    for done, name in enumerate(names):
        progress(done, len(names))
        stored = files.stored_names[name]
        tensor = reader.tensor(stored)
        if not bool(tensor.isfinite().all()):
            yield finding(
                "draft-not-finite",
                f"{stored} holds NaN or infinity",
                tensor=stored,
                hint="The training diverged, or a number overflowed when it was cast to float16.",
            )
        elif not bool(tensor.any()) and not name.endswith(".bias"):
            yield finding(
                "draft-all-zero",
                f"{stored} is all zeros",
                tensor=stored,
                hint="It was never trained or never written: export the draft again, or get the file again.",
            )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}: {'is' if len(names) == 1 else 'are'}"
