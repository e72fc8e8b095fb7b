"""VRAM of a whole FLUX.1 pipeline in TensorRT: transformer, T5-XXL, CLIP-L, image decoder, scratch.

Follows NVIDIA/TensorRT demo/Diffusion (flux_pipeline.py): by default every engine stays loaded and all share
the largest engine's scratch memory; with --low-vram one engine is loaded at a time. Text encoders and decoder
are not quantized, nor is the transformer's modulation. In float16 the decoder runs in FP32 and transformers
keeps T5's `wo` matrices in FP32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bwdeploy.planner.weights.storage import gpu_bytes, plain

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bwdeploy.model.shape import ModelShape
    from bwdeploy.planner.weights.precision import StoredWeight

_T5_LAYERS, _T5_HIDDEN, _T5_FFN, _T5_VOCAB = 24, 4096, 10240, 32128
_T5_WO = _T5_LAYERS * _T5_FFN * _T5_HIDDEN
_T5_PARAMETERS = (
    _T5_LAYERS * (4 * _T5_HIDDEN * _T5_HIDDEN + 3 * _T5_HIDDEN * _T5_FFN + 2 * _T5_HIDDEN)
    + _T5_VOCAB * _T5_HIDDEN
    + _T5_HIDDEN
)
"""T5 v1.1 XXL encoder: q, k, v, o and a gated FFN in each layer, the token table: 4.76 billion."""
_CLIP_PARAMETERS = 123_060_480
"""CLIP ViT-L/14 text encoder."""
_DECODER_PARAMETERS = 83_819_683
"""AutoencoderKL with 16 latent channels."""
_IMAGE_SIDE = 1024
_PATCH = 16
"""Pixels of one side of an image token: 8 for the autoencoder, 2 for packing."""
_TEXT_TOKENS = 512
_DECODER_CHANNELS = 256
"""Of the decoder's widest tensor at full resolution: what its last upsampling writes."""
_FP32_BYTES = 4


class Component(NamedTuple):
    """One engine of the pipeline."""

    name: str
    format: str
    weights_bytes: int
    scratch_bytes: int


class PipelineMemory(NamedTuple):
    """One GPU that runs the pipeline for one 1024×1024 image."""

    components: tuple[Component, ...]

    @property
    def weights_bytes(self) -> int:
        """Of all engines."""
        return sum(component.weights_bytes for component in self.components)

    @property
    def scratch_bytes(self) -> int:
        """The buffer that all engines share."""
        return max(component.scratch_bytes for component in self.components)

    @property
    def default_bytes(self) -> int:
        """Every engine loaded."""
        return self.weights_bytes + self.scratch_bytes

    @property
    def low_vram_bytes(self) -> int:
        """One engine at a time."""
        return max(component.weights_bytes + component.scratch_bytes for component in self.components)


def plan_pipeline(shape: ModelShape, stored: Iterable[StoredWeight]) -> PipelineMemory:
    """The pipeline around a FLUX transformer whose weights are stored like this."""
    half = shape.dtype == "float16"
    decoder_bytes = _FP32_BYTES if half else 2
    return PipelineMemory(
        components=(
            _transformer(shape, tuple(stored)),
            Component("T5-XXL", shape.dtype, 2 * _T5_PARAMETERS + (2 * _T5_WO if half else 0), 0),
            Component("CLIP-L", shape.dtype, 2 * _CLIP_PARAMETERS, 0),
            Component(
                "image decoder",
                "float32" if half else shape.dtype,
                decoder_bytes * _DECODER_PARAMETERS,
                _decoder_scratch(decoder_bytes),
            ),
        )
    )


def _transformer(shape: ModelShape, stored: tuple[StoredWeight, ...]) -> Component:
    names = {part.storage.name for part in stored if part.weight.role == "ffn"}
    size, scratch = _transformer_bytes(shape, stored), _transformer_scratch(shape)
    return Component("transformer", " and ".join(sorted(names)), size, scratch)


def _transformer_bytes(shape: ModelShape, stored: Iterable[StoredWeight]) -> int:
    """With its modulation in 16 bit, as NVIDIA's FP8 and FP4 engines have it."""
    unquantized = plain(shape.dtype)
    return sum(
        gpu_bytes(
            unquantized if part.weight.role == "modulation" else part.storage,
            part.weight.rows,
            part.weight.columns,
        )
        * part.weight.tensors
        for part in stored
    )


def _transformer_scratch(shape: ModelShape) -> int:
    """A single-stream block's widest moment: the residual beside its attention and MLP halves, joined."""
    tokens = (_IMAGE_SIDE // _PATCH) ** 2 + _TEXT_TOKENS
    width = shape.layers[0].ffn.width if shape.layers else 0
    return tokens * (2 * shape.hidden + width) * 2


def _decoder_scratch(value_bytes: int) -> int:
    """The widest tensor at full resolution; in FP32 also its normalized copy.

    Assumption: 16-bit engines compute the normalization inside the convolution, FP32 engines write it out.
    """
    tensors = 2 if value_bytes == _FP32_BYTES else 1
    return tensors * _IMAGE_SIDE**2 * _DECODER_CHANNELS * value_bytes
