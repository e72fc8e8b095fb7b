"""An EAGLE3 draft in plain torch: the same figures as ModelOpt's module, in the shape that decoding needs.

At position i it reads what the target computed at i (the outputs of three of its layers, joined by `fc`) and
the embedding of token i + 1, and its own hidden state is for token i + 2. For a further drafted token that
hidden state stands where the target's would. As in TensorRT-LLM a draft as wide as its target uses the
target's embedding, and the target's head where it has none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from bwdeploy.worker.drafts.draft_tensors import SECTION, DraftTensors, read_tensors
from bwdeploy.worker.drafts.eagle3_layers import DraftLayer, Fusion, linear, rms_norm
from bwdeploy.worker.drafts.row_cache import RowCache, causal_mask
from bwdeploy.worker.failures import recipe_error
from bwdeploy.worker.hf_directory import read_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from bwdeploy.worker.drafts.target_model import TargetModel

_FEWEST_LAYERS = 6
"""With fewer layers TensorRT-LLM has no choice of its own what to capture."""
_OWN_KEYS = {"model_type", "architectures", "auto_map", "quantization_config"}
"""Of a draft's configuration; the rest describes Llama layers."""


class Eagle3Draft(nn.Module):  # type: ignore[misc]  # torch is skipped
    """One or more Llama decoder layers, the first of which reads embedding and hidden state side by side."""

    def __init__(self, config: dict[str, Any], tensors: DraftTensors, target: TargetModel) -> None:
        """Take the weights from `tensors`; `config` is the draft's config.json.

        Raises:
            RecipeError: a tensor is missing or of the wrong size.
        """
        super().__init__()
        llama = _llama_config(config)
        eagle = config.get("eagle_config") or {}
        self.capture = captured_layers(config, len(target.layers))
        self.to_target = _target_tokens(tensors, target)
        self._chains_normed = bool(eagle.get("return_hidden_post_norm") or config.get("norm_output"))
        self._fuse = Fusion(tensors, llama, len(self.capture))
        self._fuse.refuse_width(len(self.capture) * target.config.hidden_size)
        normed_residual = bool(config.get("norm_before_residual"))
        self._layers = nn.ModuleList(
            DraftLayer(tensors, llama, index, normed_residual=normed_residual)
            for index in range(llama.num_hidden_layers)
        )
        self._norm = rms_norm(tensors.take("norm.weight"), llama)
        self._rope = LlamaRotaryEmbedding(config=llama).to(target.device)
        # In a tuple, because parts of the target are no parts of this module.
        self._ends = (_embedding(tensors, llama, target), _head(tensors, llama, target))

    def features(self, captured: Tensor) -> Tensor:
        """See `Draft`; captured is [rows, tokens, layers x hidden of the target]."""
        fused: Tensor = self._fuse(captured)
        return fused

    def forward(self, hidden: Tensor, ids: Tensor, positions: Tensor, cache: RowCache) -> Tensor:
        """See `Draft`; before the last norm."""
        cache.place(positions)
        mask = causal_mask(positions, cache.length, hidden.dtype)
        rotation = self._rope(hidden, positions)
        embeds = self._ends[0](ids)
        for layer in self._layers:
            hidden = layer(hidden, embeds, rotation, mask, cache)
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """See `Draft`."""
        return self._ends[1](self._norm(hidden))

    def chained(self, hidden: Tensor) -> Tensor:
        """See `Draft`: as it is, but for drafts that were trained on normed ones."""
        normed: Tensor = self._norm(hidden) if self._chains_normed else hidden
        return normed


def load_draft(directory: Path, target: TargetModel) -> Eagle3Draft:
    """The draft in `directory` (config.json and safetensors) on the target's device, in its type.

    Raises:
        RecipeError: it is no EAGLE3 draft of Llama's kind, or one for another target.
    """
    return build_draft(read_json(directory / "config.json"), read_tensors(directory), target)


def build_draft(config: dict[str, Any], tensors: Mapping[str, Tensor], target: TargetModel) -> Eagle3Draft:
    """The draft that config.json and the exported tensors describe; the tensors are copied.

    Raises:
        RecipeError: see `load_draft`.
    """
    left = DraftTensors({name: _placed(tensor, target) for name, tensor in tensors.items()})
    draft = Eagle3Draft(config, left, target)
    left.refuse_rest()
    draft.eval()
    return draft


def captured_layers(config: Mapping[str, Any], layers: int) -> tuple[int, ...]:
    """The target's layers that a draft reads, ascending; TensorRT-LLM's choice where it does not say.

    Raises:
        RecipeError: a layer that the target has not, or too few layers to choose from.
    """
    eagle = config.get("eagle_config") or {}
    listed = eagle.get("eagle_aux_hidden_state_layer_ids") or config.get("eagle_aux_hidden_state_layer_ids")
    if not listed and layers < _FEWEST_LAYERS:
        raise recipe_error(
            SECTION,
            f"the draft does not say which layers it reads, and {layers} are too few for the usual ones",
            hint="Name them in the draft's config.json: eagle_config.eagle_aux_hidden_state_layer_ids.",
        )
    chosen = tuple(sorted(listed or (1, layers // 2 - 1, layers - 4)))
    if not 0 <= chosen[0] <= chosen[-1] < layers:
        raise recipe_error(
            SECTION,
            f"the draft reads layers {', '.join(map(str, chosen))} of the target, which has {layers}",
            hint="It was trained for another model.",
        )
    return chosen


def _placed(tensor: Tensor, target: TargetModel) -> Tensor:
    dtype = target.dtype if tensor.is_floating_point() else torch.int64
    return tensor.detach().to(device=target.device, dtype=dtype, copy=True)


def _llama_config(config: dict[str, Any]) -> Any:  # noqa: ANN401 - transformers has no types
    known = {name: value for name, value in config.items() if name not in _OWN_KEYS}
    try:
        return LlamaConfig.from_dict(known)
    except (KeyError, TypeError, ValueError) as error:
        raise recipe_error(SECTION, f"the draft's config.json is no Llama's: {error}") from error


def _target_tokens(tensors: DraftTensors, target: TargetModel) -> Tensor | None:
    """Draft token → target token; the files keep the difference of the two."""
    offsets = tensors.optional("d2t")
    if offsets is None:
        return None
    tokens = torch.arange(len(offsets), device=offsets.device) + offsets
    if bool((tokens < 0).any() or (tokens >= target.config.vocab_size).any()):
        raise recipe_error(
            SECTION,
            f"the draft's d2t names tokens outside the target's vocabulary of {target.config.vocab_size}",
            hint="It was trained for another model.",
        )
    return None if len(tokens) == target.config.vocab_size and not bool(offsets.any()) else tokens


def _embedding(tensors: DraftTensors, config: Any, target: TargetModel) -> Callable[[Tensor], Tensor]:  # noqa: ANN401
    own = tensors.optional("embed_tokens.weight")
    if config.hidden_size == target.config.hidden_size:
        return cast("Callable[[Tensor], Tensor]", target.embedding)
    if own is None:
        raise recipe_error(
            SECTION,
            f"the draft is {config.hidden_size} wide, its target {target.config.hidden_size}, and it has no "
            "embedding of its own",
            hint="It was trained for another model.",
        )
    return cast("Callable[[Tensor], Tensor]", nn.Embedding.from_pretrained(own))


def _head(tensors: DraftTensors, config: Any, target: TargetModel) -> Callable[[Tensor], Tensor]:  # noqa: ANN401
    if "lm_head.weight" in tensors:
        return cast("Callable[[Tensor], Tensor]", linear(tensors, "lm_head"))
    if config.hidden_size == target.config.hidden_size:
        return target.logits
    raise recipe_error(
        SECTION,
        f"the draft is {config.hidden_size} wide, its target {target.config.hidden_size}, and it has no "
        "lm_head of its own",
        hint="It was trained for another model.",
    )
