"""The draft inside a checkpoint: a multi-token prediction layer under DeepSeek-V3's names, run as a chain.

At position i it joins the target's normed hidden state of i and the embedding of token i + 1 by `eh_proj`,
runs one more decoder layer of the target's own kind, and `shared_head` tells token i + 2. TensorRT-LLM chains
the layer's normed output when one layer drafts several tokens; so does this. Source: DeepSeek-V3 technical
report, section 2.2; tensorrt_llm/_torch/models/modeling_deepseekv3.py.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from bwdeploy.worker.drafts.draft_tensors import DraftTensors
from bwdeploy.worker.drafts.eagle3_layers import linear, rms_norm
from bwdeploy.worker.drafts.row_cache import RowCache, causal_mask
from bwdeploy.worker.failures import recipe_error
from bwdeploy_runtime.quantization import CheckpointError, TensorReader, is_scale, layout_of, read_weight

if TYPE_CHECKING:
    from pathlib import Path

    from bwdeploy.worker.drafts.target_model import TargetModel

_SECTION = "speculative.method"
_JOIN = re.compile(r"^(?P<layer>.*\blayers\.\d+\.)eh_proj\.weight$")
_EXPERT = re.compile(r"^mlp\.experts\.(\d+)\.(gate|up|down)_proj\.weight$")
_UNUSED = "embed_tokens.weight"
"""A copy of the target's."""


class MtpDraft(nn.Module):  # type: ignore[misc]  # torch is skipped
    """One prediction layer; a `Draft` for decoding."""

    capture: tuple[int, ...] = ()
    to_target: Tensor | None = None

    def __init__(self, tensors: DraftTensors, target: TargetModel) -> None:
        """Take the weights of one layer, their names without its prefix.

        Raises:
            RecipeError: a tensor is missing or of the wrong size.
        """
        super().__init__()
        self._join = linear(tensors, "eh_proj")
        self._embed_norm = rms_norm(tensors.take("enorm.weight"), target.config)
        self._hidden_norm = rms_norm(tensors.take("hnorm.weight"), target.config)
        self._norm = rms_norm(tensors.take("shared_head.norm.weight"), target.config)
        own_head = "shared_head.head.weight" in tensors
        head = linear(tensors, "shared_head.head") if own_head else target.logits
        tensors.optional(_UNUSED)
        self._layer = _decoder_layer(tensors.rest(), target)
        # In a tuple, because parts of the target are no parts of this module.
        self._shared = (target.embedding, target.rotary, head)

    def features(self, captured: Tensor) -> Tensor:
        """See `Draft`: the target's hidden states after its last norm, as they are."""
        return captured

    def forward(self, hidden: Tensor, ids: Tensor, positions: Tensor, cache: RowCache) -> Tensor:
        """See `Draft`; after the norm of the shared head."""
        embedding, rotary, _ = self._shared
        cache.place(positions)
        joined = self._join(torch.cat((self._embed_norm(embedding(ids)), self._hidden_norm(hidden)), dim=-1))
        output = self._layer(
            joined,
            attention_mask=causal_mask(positions, cache.length, joined.dtype),
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            position_embeddings=rotary(joined, positions),
        )
        normed: Tensor = self._norm(output if isinstance(output, Tensor) else output[0])
        return normed

    def logits(self, hidden: Tensor) -> Tensor:
        """See `Draft`."""
        logits: Tensor = self._shared[2](hidden)
        return logits

    def chained(self, hidden: Tensor) -> Tensor:
        """See `Draft`: as it is."""
        return hidden


def load_mtp(directory: Path, target: TargetModel) -> MtpDraft:
    """The prediction layer of the checkpoint in `directory`, on the target's device, in its type.

    Raises:
        RecipeError: the checkpoint has none, several, or one of another make.
    """
    try:
        with TensorReader(directory) as reader:
            prefix = _only_layer(list(reader.names()))
            names = [name for name in reader.names() if name.startswith(prefix) and not is_scale(name)]
            tensors = {name: read_weight(reader, name, layout_of(reader, name)) for name in names}
    except CheckpointError as error:
        raise recipe_error(_SECTION, f"the prediction layer cannot be read: {error}") from error
    placed = {
        name.removeprefix(prefix): tensor.to(device=target.device, dtype=target.dtype)
        for name, tensor in tensors.items()
    }
    draft = MtpDraft(DraftTensors(placed), target)
    draft.eval()
    return draft


def _only_layer(names: list[str]) -> str:
    """The prefix of the one layer that joins hidden states and embeddings."""
    found = sorted({match["layer"] for name in names if (match := _JOIN.match(name))})
    if not found:
        raise recipe_error(
            _SECTION,
            "the checkpoint has no multi-token prediction layer (no tensor named eh_proj)",
            hint="Use method: eagle3, or a checkpoint that kept the model's prediction layers.",
        )
    if len(found) > 1:
        raise recipe_error(
            _SECTION,
            f"the checkpoint has {len(found)} multi-token prediction layers; only one can be measured",
            hint="Set speculative.draft_len to a number and leave measure out.",
        )
    return found[0]


def _decoder_layer(tensors: dict[str, Tensor], target: TargetModel) -> nn.Module:
    """A layer of the target's kind (its last one's, so of experts where it has any) with these weights."""
    last = len(target.layers) - 1
    with torch.device(target.device):
        layer: Any = type(target.layers[last])(target.config, last)
    layer.to(target.dtype)
    try:
        layer.load_state_dict(_with_joined_experts(tensors, layer.state_dict()), strict=True)
    except (RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:300]
        raise recipe_error(
            _SECTION,
            f"the prediction layer is none of {type(layer).__name__}: {reason}",
            hint="Set speculative.draft_len to a number and leave measure out.",
        ) from error
    layer.requires_grad_(requires_grad=False)
    return cast("nn.Module", layer)


def _with_joined_experts(tensors: dict[str, Tensor], wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """Experts in one tensor where the module keeps them so: checkpoints store them one by one."""
    if "mlp.experts.gate_up_proj" not in wanted or "mlp.experts.gate_up_proj" in tensors:
        return tensors
    found = {name: match for name in tensors if (match := _EXPERT.match(name))}
    count = 1 + max((int(match[1]) for match in found.values()), default=-1)

    def stacked(part: str) -> Tensor:
        return torch.stack([tensors[f"mlp.experts.{index}.{part}_proj.weight"] for index in range(count)])

    joined = {
        "mlp.experts.gate_up_proj": torch.cat((stacked("gate"), stacked("up")), dim=1),
        "mlp.experts.down_proj": stacked("down"),
    }
    return {name: tensor for name, tensor in tensors.items() if name not in found} | joined
