"""Memory of the quantization step itself: which way of running it fits where. Estimates, nothing measured.

Calibration runs the model in 16 bit with quantizers in place; it can run on one GPU, on all GPUs of the
machine, with the weights in host memory, or one layer after the other. Training (QAT, QAD) runs as its
section says: on so many GPUs of one machine, with or without activations kept. Host memory is named, not
judged: a recipe does not say how much a machine has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bwdeploy.planner.memory.activations import attention_width, ffn_width, one_gpu, value_bytes
from bwdeploy.planner.memory.gpu import capacity_bytes
from bwdeploy.planner.memory.training import training_bytes
from bwdeploy.planner.weights.precision import may_be_quantized
from bwdeploy.recipe.schema import Training

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.model.describe import DescribedModel
    from bwdeploy.model.shape import ModelShape
    from bwdeploy.recipe.schema import Layout, Recipe

_QUANTIZER_BYTES = 2 * 4
"""An FP32 amax of the weight and of the input of each quantized matrix."""
_FP32_BYTES = 4
_MAX_GPUS = 4096


class Mode(NamedTuple):
    """One way to run the step."""

    name: str
    gpus: int
    gpu_bytes: int
    """On each GPU."""
    host_bytes: int
    """In host memory; 0 when the weights stay on the GPUs."""
    how: str
    """What one has to do for it, as a hint says it; empty when it runs so by itself."""
    fits: bool | None = None
    """On the GPUs; None when the recipe names none."""


class QuantizationPlan(NamedTuple):
    """The step of one recipe."""

    method: str
    modes: tuple[Mode, ...]
    """Simplest first."""
    capacity_bytes: int | None
    gpus_needed: int | None
    """GPUs like the recipe's over which it fits without host memory; None when that is not known."""

    @property
    def chosen(self) -> Mode | None:
        """The simplest mode that fits; None when none does, or no GPU is named."""
        return next((mode for mode in self.modes if mode.fits), None)


def plan_quantization(recipe: Recipe, described: DescribedModel) -> QuantizationPlan | None:
    """The memory of the quantization step; None when there is none, or the shape is not known."""
    shape, method = described.shape, recipe.quantize.method
    if shape is None or shape.kind == "diffusion" or not recipe.quantize.quantizes:
        return None
    capacity = capacity_bytes(recipe)
    step = _Step(recipe, shape)
    modes = tuple(
        mode._replace(fits=None if capacity is None else mode.gpu_bytes <= capacity)
        for mode in (_training_modes(step) if recipe.quantize.trains else _calibration_modes(step))
    )
    return QuantizationPlan(method, modes, capacity, _gpus_needed(step, capacity))


class _Step(NamedTuple):
    """What the sizes of the step depend on."""

    recipe: Recipe
    shape: ModelShape

    @property
    def weights(self) -> int:
        """Bytes of the unquantized model; multi-token prediction layers are not loaded for it."""
        return self.shape.parameters * value_bytes(self.shape.dtype)

    @property
    def largest_layer(self) -> int:
        """Bytes of the largest layer, or of the largest table if that is larger."""
        sizes: dict[int, int] = {}
        tables = 0
        for weight in self.shape.weights:
            if weight.mtp:
                continue
            one = weight.rows * weight.columns * weight.copies
            for layer in weight.layers:
                sizes[layer] = sizes.get(layer, 0) + one
            tables = max(tables, one if not weight.layers else 0)
        return max([tables, *sizes.values()]) * value_bytes(self.shape.dtype)

    @property
    def tokens(self) -> int:
        """Of one forward pass on one GPU."""
        calibration = self.recipe.quantize.calibration
        return calibration.batch_size * calibration.seq_len

    @property
    def moment(self) -> int:
        """Bytes of the widest moment of one layer, and of the logits of every token."""
        layout = one_gpu(self.recipe.layout)
        widest = max(
            (_layer_width(self.shape, index, layout) for index in range(len(self.shape.layers))), default=0
        )
        values = self.tokens * (2 * self.shape.hidden + widest + self.shape.vocab)
        return values * value_bytes(self.shape.dtype)

    @property
    def quantizers(self) -> int:
        """Bytes of the quantizers' state, and of the FP32 copy that the largest matrix is quantized in."""
        linear = [weight for weight in self.shape.weights if may_be_quantized(weight)]
        largest = max((weight.rows * weight.columns for weight in linear), default=0)
        return sum(weight.tensors for weight in linear) * _QUANTIZER_BYTES + largest * _FP32_BYTES


def _layer_width(shape: ModelShape, index: int, layout: Layout) -> int:
    """Values of one token in the wider half of a layer."""
    layer = shape.layers[index]
    ffn = layer.ffn
    if ffn.kind == "moe":
        routed = ffn.experts_per_token * (2 * shape.hidden + ffn_width(ffn, 1))
        return max(attention_width(layer.attention, layout), routed)
    return max(attention_width(layer.attention, layout), ffn_width(ffn, 1))


def _calibration_modes(step: _Step) -> Iterator[Mode]:
    working = step.moment + step.quantizers
    yield Mode("one GPU", 1, step.weights + working, 0, "")
    gpus = step.recipe.layout.gpus_per_node
    if gpus > 1:
        # Whole layers are dealt out, so one GPU may hold one more than its share.
        share = step.weights // gpus + step.largest_layer
        yield Mode(f"all {gpus} GPUs of a node", gpus, share + working, 0, "")
    yield Mode(
        "CPU offload", 1, 2 * step.largest_layer + working, step.weights, "offload the weights to the CPU"
    )
    kept = _kept_states(step) + step.largest_layer
    yield Mode("one layer at a time", 1, step.largest_layer + working, kept, "calibrate one layer at a time")


def _kept_states(step: _Step) -> int:
    """Hidden states of all samples between two layers: into the one, out of the other."""
    calibration = step.recipe.quantize.calibration
    tokens = calibration.samples * calibration.seq_len
    return 2 * tokens * step.shape.hidden * value_bytes(step.shape.dtype)


def _training_modes(step: _Step) -> Iterator[Mode]:
    training = step.recipe.quantize.training or Training()
    node = step.recipe.layout.gpus_per_node
    kept = training.gradient_checkpointing
    yield _training_mode(step, training.gpus, checkpointing=kept, how="")
    anew = "set quantize.training.gradient_checkpointing: true"
    if not kept:
        yield _training_mode(step, training.gpus, checkpointing=True, how=anew)
    if node > training.gpus:
        how = f"set quantize.training.gpus: {node}" if kept else f"{anew} and gpus: {node}"
        yield _training_mode(step, node, checkpointing=True, how=how)


def _training_mode(step: _Step, gpus: int, *, checkpointing: bool, how: str) -> Mode:
    name = "one GPU" if gpus == 1 else f"{gpus} GPUs, fully sharded"
    if checkpointing:
        name += ", gradient checkpointing"
    return Mode(name, gpus, _training_bytes(step, gpus, checkpointing=checkpointing), 0, how)


def _training_bytes(step: _Step, gpus: int, *, checkpointing: bool = True) -> int:
    return training_bytes(step.recipe, step.shape, gpus=gpus, checkpointing=checkpointing)


def _gpus_needed(step: _Step, capacity: int | None) -> int | None:
    """The smallest power of two over which the step fits; None when one layer is too large already."""
    if capacity is None:
        return None
    gpus = 1
    while gpus <= _MAX_GPUS:
        if step.recipe.quantize.trains:
            size = _training_bytes(step, gpus)
        else:
            spread = step.weights if gpus == 1 else step.weights // gpus + step.largest_layer
            size = spread + step.moment + step.quantizers
        if size <= capacity:
            return gpus
        gpus *= 2
    return None
