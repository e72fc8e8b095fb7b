"""The target as decoding needs it: its decoder with a cache by position, chosen layers' outputs, its head.

Only `get_decoder()`, the embedding and the output head of the transformers model are called, never its own
`forward`: so a model that ModelOpt converted for training can be measured too, and a prefill computes no
logits. Captured are the outputs of decoder layers, 0-based and in ascending order, as ModelOpt's hooks and
TensorRT-LLM's `layers_to_capture` do.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import torch
import transformers

from bwdeploy.errors import ToolError
from bwdeploy.worker.drafts.row_cache import RowCache, causal_mask
from bwdeploy.worker.drafts.shared_rounding import share_roundings
from bwdeploy.worker.failures import recipe_error
from bwdeploy.worker.hf_directory import read_json
from bwdeploy_runtime.checkpoint import CheckpointError, load_model

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from torch import Tensor, nn

_ATTENTION = ("sdpa", "eager")
"""The implementations that add a mask of four dimensions as it is."""
_LAYER_TYPES = {"full_attention", "sliding_attention"}


class TargetModel:
    """A causal language model of transformers, run with a `RowCache`."""

    def __init__(self, model: Any) -> None:  # noqa: ANN401 - transformers has no types
        """Wrap `model`, which stays as it is.

        Raises:
            RecipeError: its attention cannot be run by position.
        """
        self.model = model
        self._decoder = model.get_decoder()
        self._head = model.get_output_embeddings()
        self.config = model.config.get_text_config()
        self._kinds = set(getattr(self.config, "layer_types", None) or ())
        _refuse_attention(self.config, self._kinds)

    @property
    def device(self) -> torch.device:
        """Where ids go."""
        return cast("torch.device", self.embedding.weight.device)

    @property
    def dtype(self) -> torch.dtype:
        """Of hidden states."""
        return cast("torch.dtype", self.embedding.weight.dtype)

    @property
    def embedding(self) -> nn.Module:
        """Token ids to hidden states."""
        return cast("nn.Module", self.model.get_input_embeddings())

    @property
    def rotary(self) -> nn.Module:
        """(Hidden states, positions) to what rotates queries and keys, for all layers."""
        return cast("nn.Module", self._decoder.rotary_emb)

    @property
    def layers(self) -> nn.ModuleList:
        """The decoder layers."""
        return cast("nn.ModuleList", self._decoder.layers)

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Tokens that end an answer."""
        settings = getattr(self.model, "generation_config", None) or self.config
        found = getattr(settings, "eos_token_id", None)
        found = self.config.eos_token_id if found is None else found
        return () if found is None else (found,) if isinstance(found, int) else tuple(found)

    def forward(
        self, ids: Tensor, positions: Tensor, cache: RowCache, capture: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Hidden states after the last norm [rows, tokens, hidden], and what is captured.

        `ids` and `positions` are int64 [rows, tokens]. Captured: [rows, tokens, layers x hidden], ascending
        by layer; without layers the hidden states themselves.
        """
        cache.place(positions)
        with self._capturing(capture) as captured:
            hidden: Tensor = self._decoder(
                input_ids=ids,
                attention_mask=self._mask(positions, cache.length),
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state
        return hidden, torch.cat(captured, dim=-1) if captured else hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """[…, vocabulary], with the scalings of some families' heads (Gemma, Granite, Cohere)."""
        logits: Tensor = self._head(hidden)
        factor = getattr(self.config, "logit_scale", None) or 1.0
        factor /= getattr(self.config, "logits_scaling", None) or 1.0
        if factor != 1.0:
            logits = logits * factor
        cap = getattr(self.config, "final_logit_softcapping", None)
        return torch.tanh(logits / cap) * cap if cap else logits

    @contextmanager
    def _capturing(self, layers: Sequence[int]) -> Iterator[list[Tensor]]:
        captured: list[Tensor] = []

        def keep(_layer: object, _inputs: object, output: Any) -> None:  # noqa: ANN401
            captured.append(output if isinstance(output, torch.Tensor) else output[0])

        hooks = [self.layers[index].register_forward_hook(keep) for index in sorted(layers)]
        try:
            yield captured
        finally:
            for hook in hooks:
                hook.remove()

    def _mask(self, positions: Tensor, length: int) -> Tensor | dict[str, Tensor]:
        window = getattr(self.config, "sliding_window", None)
        if "sliding_attention" in self._kinds:
            return {
                "full_attention": causal_mask(positions, length, self.dtype),
                "sliding_attention": causal_mask(positions, length, self.dtype, window=window),
            }
        everywhere = window if not self._kinds and getattr(self.config, "use_sliding_window", True) else None
        return causal_mask(positions, length, self.dtype, window=everywhere)


def load_target(directory: Path, *, device: str, trust_remote_code: bool) -> nn.Module:
    """The checkpoint as it will be served: dequantized, with the inputs of quantized layers rounded.

    In bf16 on a GPU, in float32 on a CPU (bf16 is six times slower there).

    Raises:
        ToolError: the checkpoint cannot be read.
    """
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    if not _is_quantized(directory):
        model = transformers.AutoModelForCausalLM.from_pretrained(
            directory, dtype=dtype, trust_remote_code=trust_remote_code, use_safetensors=True
        )
        return cast("nn.Module", model.to(device).eval())
    try:
        quantized, _ = load_model(directory, device=device, dtype=dtype, trust_remote_code=trust_remote_code)
    except CheckpointError as error:
        raise ToolError(f"The target cannot be run here: {error}.") from error
    if (directory / "generation_config.json").is_file():
        quantized.generation_config = transformers.GenerationConfig.from_pretrained(directory)
    share_roundings(quantized)
    return quantized


def text_config(model: Any) -> Any:  # noqa: ANN401 - a transformers model and its configuration
    """Of the part that reads text, where a model has others."""
    return getattr(model.config, "text_config", None) or model.config


def _is_quantized(directory: Path) -> bool:
    described = "quantization_config" in read_json(directory / "config.json")
    return described or (directory / "hf_quant_config.json").is_file()


def _refuse_attention(config: Any, kinds: set[str]) -> None:  # noqa: ANN401
    others = kinds - _LAYER_TYPES
    implementation = getattr(config, "_attn_implementation", None)
    if not others and implementation in _ATTENTION:
        return
    what = f"layers of {', '.join(sorted(others))}" if others else f"attention {implementation}"
    raise recipe_error(
        "speculative.measure",
        f"a draft for a model with {what} cannot be measured here: its past cannot be addressed by position",
        hint="Set speculative.draft_len to a number and leave measure out.",
    )
