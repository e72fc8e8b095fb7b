"""The EAGLE3 draft to train: ModelOpt's speculative module put beside the target.

ModelOpt builds the draft and captures the target's hidden states. Added here: the target's own shape instead
of the defaults for large models, an output head that starts as the target's, the map of a reduced
vocabulary (which ModelOpt leaves at zero), a first layer that computes what is served, and float32 weights.
"""

from __future__ import annotations

from collections import Counter
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from bwdeploy.worker.drafts.conversations import SECTION
from bwdeploy.worker.drafts.shape import default_layers
from bwdeploy.worker.drafts.target_model import text_config
from bwdeploy.worker.failures import recipe_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from bwdeploy.recipe.schema import DraftTraining
    from bwdeploy.worker.drafts.sequences import TokenSequence

_CAPTURED = 3
_FUSION_NOISE = 0.3


class EagleModel(NamedTuple):
    """A target with its draft."""

    model: Any
    """The target, with ModelOpt's methods around the draft."""
    draft: Any
    """ModelOpt's EagleModule in float32: the only thing that is trained."""
    vocabulary: Tensor | None
    """int64: the target's token of each token of the draft; None when they are the same."""
    hidden_layers: tuple[int, ...]
    rope_theta: float


def captured_layers(training: DraftTraining, layers: int) -> tuple[int, ...]:
    """The low, middle and high layer whose output the draft reads, ascending.

    Raises:
        RecipeError: the target does not have such layers, or not three.
    """
    chosen = training.hidden_layers or default_layers(layers)
    ascending = tuple(sorted(set(chosen)))
    fits = len(ascending) == _CAPTURED and ascending[0] >= 0 and ascending[-1] < layers
    if training.hidden_layers is None and not fits and layers >= _CAPTURED:
        return (0, layers // 2, layers - 1)  # too few layers for the usual choice
    if fits:
        return ascending
    raise recipe_error(
        f"{SECTION}.hidden_layers",
        f"{list(chosen)} are not three different layers of a model that has {layers} (0 to {layers - 1})",
        hint="Name a low, a middle and a high layer."
        if layers >= _CAPTURED
        else "EAGLE3 needs three layers.",
    )


def draft_vocabulary(training: DraftTraining, size: int, sequences: Sequence[TokenSequence]) -> Tensor | None:
    """The most frequent tokens of the answers, ascending; None when the draft has the whole vocabulary.

    Raises:
        RecipeError: more tokens are wanted than the target has.
    """
    wanted = training.draft_vocab
    if wanted is None or wanted == size:
        return None
    if wanted > size:
        raise recipe_error(
            f"{SECTION}.draft_vocab",
            f"{wanted} tokens are wanted, but the model's vocabulary has {size}",
            hint="Leave draft_vocab out for the whole vocabulary.",
        )
    counts = Counter(
        token
        for sequence in sequences
        for start, end in sequence.answers
        for token in sequence.tokens[start:end]
    )
    # Low ids, the most frequent merges of the tokenizer, fill up what the answers do not use.
    ranked = sorted(range(size), key=lambda token: (-counts[token], token))
    return torch.tensor(sorted(ranked[:wanted]), dtype=torch.int64)


def attach_draft(
    model: Any,  # noqa: ANN401 - a transformers model
    training: DraftTraining,
    vocabulary: Tensor | None,
) -> EagleModel:
    """Put an untrained draft beside `model`, which is changed; the same for the same seed.

    Raises:
        RecipeError: `hidden_layers` does not fit the target.
    """
    config = text_config(model)
    config.dtype = model.dtype  # ModelOpt makes its attention masks of this type
    layers = captured_layers(training, config.num_hidden_layers)
    architecture = _architecture(config, training, layers, vocabulary)
    torch.manual_seed(training.seed)
    converted = import_module("modelopt.torch.speculative").convert(
        model,
        [
            (
                "eagle",
                {
                    "eagle_ttt_steps": training.ttt_steps,
                    "eagle_use_torch_compile": False,
                    "eagle_export_rope_scaling": {},
                    "eagle_architecture_config": architecture,
                },
            )
        ],
    )
    draft = converted.eagle_module.float()
    draft._maybe_init_rope(device=converted.device)  # noqa: SLF001 - ModelOpt leaves it to its callers
    _normalize_once(draft)
    kept = None if vocabulary is None else vocabulary.to(converted.device)
    with torch.no_grad():
        _start_from_target(converted, draft, kept)
    return EagleModel(converted, draft, kept, layers, architecture["rope_theta"])


def _architecture(
    config: Any,  # noqa: ANN401 - a transformers configuration
    training: DraftTraining,
    layers: tuple[int, ...],
    vocabulary: Tensor | None,
) -> dict[str, Any]:
    heads = config.num_attention_heads
    theta = _rope_theta(config)
    return {
        "num_hidden_layers": training.layers,
        "intermediate_size": training.ffn_width or config.intermediate_size,
        "num_attention_heads": heads,
        "num_key_value_heads": getattr(config, "num_key_value_heads", None) or heads,
        "head_dim": getattr(config, "head_dim", None) or config.hidden_size // heads,
        "rms_norm_eps": getattr(config, "rms_norm_eps", 1e-5),
        "rope_theta": theta,
        "rope_scaling": {"rope_type": "default", "rope_theta": theta},
        "draft_vocab_size": config.vocab_size if vocabulary is None else len(vocabulary),
        "use_aux_hidden_state": True,
        "use_last_layernorm": True,
        "has_lm_head": True,
        "eagle_aux_hidden_state_layer_ids": list(layers),
    }


def _rope_theta(config: Any) -> float:  # noqa: ANN401
    """Of the target, whichever release of transformers wrote it."""
    for name in ("rope_parameters", "rope_scaling"):
        place = getattr(config, name, None) or {}
        # A flat mapping, or one for each kind of layer.
        theta = place.get("rope_theta") or (place.get("full_attention") or {}).get("rope_theta")
        if theta is not None:
            return float(theta)
    return float(getattr(config, "rope_theta", None) or 10000.0)


def _normalize_once(draft: Any) -> None:  # noqa: ANN401 - ModelOpt's EagleModule
    """Let the first layer's input_layernorm see embeddings only, as TensorRT-LLM serves the draft.

    ModelOpt 0.47 gives it to transformers' decoder layer, which sends the hidden state through it as well,
    before hidden_norm: unseen while its weights are 1, another model once they are trained.
    """
    norm = draft.layers[0].input_layernorm
    normalize = norm.forward
    norm.forward = lambda states: normalize(states) if states is draft._input_embeds else states  # noqa: SLF001


def _start_from_target(model: Any, draft: Any, vocabulary: Tensor | None) -> None:  # noqa: ANN401
    # Held-out loss on SmolLM2 after 84 steps: 17.2 with the target's last norm copied too, 16.5 without it,
    # 14.7 when the draft also begins by passing the highest captured layer on.
    draft.fc.weight.mul_(_FUSION_NOISE)
    draft.fc.weight[:, -draft.fc.out_features :].add_(torch.eye(draft.fc.out_features, device=model.device))
    head = model.get_output_embeddings().weight
    draft.lm_head.weight.copy_(head if vocabulary is None else head[vocabulary])
    if vocabulary is not None:
        draft.d2t.copy_(vocabulary - torch.arange(len(vocabulary), device=vocabulary.device))
