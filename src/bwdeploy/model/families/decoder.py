"""A decoder-only language model, read from its configuration: layers first, then every weight."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.model.families.attention import (
    NO_ATTENTION,
    attention_weights,
    delta_net_weights,
    has_bias,
    indexer_weights,
    read_attention,
)
from bwdeploy.model.families.feed_forward import dense_weights, expert_weights, read_dense, read_experts
from bwdeploy.model.families.layer_plan import cacheless_layers, expert_layers, spans
from bwdeploy.model.fields import MAX_LAYERS, MAX_POSITIONS
from bwdeploy.model.shape import Layer, ModelShape
from bwdeploy.model.weights import Place

if TYPE_CHECKING:
    from bwdeploy.model.families.traits import Traits
    from bwdeploy.model.fields import Fields
    from bwdeploy.model.shape import Weight

NO_DTYPE = "no dtype is given: bfloat16 is assumed"
HIDDEN = ("hidden_size", "n_embd", "d_model")
_LAYERS = ("num_hidden_layers", "n_layer")
_POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len", "model_max_length")
_MTP_LAYERS = ("num_nextn_predict_layers", "mtp_num_hidden_layers")
_DTYPES = ("dtype", "torch_dtype")
_WEIGHT_DTYPES = ("bfloat16", "float16", "float32")
_MAX_MTP_LAYERS = 64


def read_decoder(
    fields: Fields, traits: Traits, *, architecture: str, model_type: str, origin: str, tied: bool
) -> ModelShape:
    """The shape that a configuration of this family describes.

    Raises:
        ShapeError: a key is missing or impossible.
    """
    hidden, vocab = fields.number(*HIDDEN), fields.number("vocab_size")
    layers = _read_layers(fields, traits, hidden)
    mtp_layers = _mtp_layers(fields, layers)
    return ModelShape(
        architecture=architecture,
        model_type=model_type,
        kind="decoder",
        hidden=hidden,
        vocab=vocab,
        layers=layers,
        mtp_layers=mtp_layers,
        weights=(
            *_embeddings(fields, traits, hidden, vocab),
            *_layer_weights(fields, traits, layers, hidden, first=0),
            *_mtp_weights(fields, traits, mtp_layers, hidden=hidden, vocab=vocab, first=len(layers)),
            *_final_weights(fields, traits, hidden, vocab, tied=tied),
        ),
        tied_embeddings=tied,
        max_positions=max_positions(fields),
        dtype=dtype_of(fields),
        origin=origin,
        assumptions=_assumptions(fields, mtp_layers),
    )


def max_positions(fields: Fields) -> int | None:
    """The longest sequence that the configuration speaks of."""
    return fields.optional(*_POSITIONS, maximum=MAX_POSITIONS)


def dtype_of(fields: Fields) -> str:
    """The type of the weights that are not quantized; bfloat16 where nothing is said of them.

    Raises:
        ShapeError: it is no type of weights.
    """
    word = fields.text(*_DTYPES).removeprefix("torch.")
    if not word or word == "auto" or word.startswith("float8"):
        return "bfloat16"
    if word not in _WEIGHT_DTYPES:
        key = next(name for name in _DTYPES if fields.has(name))
        raise fields.impossible(key, f"is {word!r}; it must be {', '.join(_WEIGHT_DTYPES)}")
    return word


def _read_layers(fields: Fields, traits: Traits, hidden: int) -> tuple[Layer, ...]:
    count = fields.number(*_LAYERS, maximum=MAX_LAYERS)
    attention = read_attention(fields, traits, hidden=hidden)
    sparse = expert_layers(fields, count)
    dense = None if all(sparse) else read_dense(fields, traits, hidden=hidden)
    experts = read_experts(fields, traits) if any(sparse) else dense
    return tuple(
        Layer(
            attention=NO_ATTENTION if cacheless else attention._replace(span=span),
            ffn=ffn,
        )
        for is_sparse, cacheless, span in zip(
            sparse, cacheless_layers(fields, traits, count), spans(fields, traits, count), strict=True
        )
        if (ffn := experts if is_sparse else dense) is not None
    )


def _mtp_layers(fields: Fields, layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """Multi-token prediction layers are built like the last layer, with the whole view."""
    count = fields.number(*_MTP_LAYERS, default=0, minimum=0, maximum=_MAX_MTP_LAYERS)
    whole = next((one for one in reversed(layers) if one.attention.kind != "none"), layers[-1])
    last = Layer(whole.attention._replace(span=None), layers[-1].ffn)
    return (last,) * count


def _embeddings(fields: Fields, traits: Traits, hidden: int, vocab: int) -> tuple[Weight, ...]:
    names, root = traits.names, Place(traits.names.root)
    found = root.matrix(names.embedding, role="embedding", rows=vocab, columns=hidden, split="rows")
    if not names.positions:
        return found
    rows = fields.number(*_POSITIONS)
    return (*found, *root.matrix(names.positions, role="embedding", rows=rows, columns=hidden))


def _final_weights(
    fields: Fields, traits: Traits, hidden: int, vocab: int, *, tied: bool
) -> tuple[Weight, ...]:
    norm = norm_weights(Place(traits.names.root), traits, (traits.names.final_norm,), hidden)
    if tied:
        return norm
    bias = has_bias(fields, traits.head_bias)
    head = Place("").matrix(
        traits.names.head, role="head", rows=vocab, columns=hidden, split="rows", bias=bias
    )
    return (*norm, *head)


def norm_weights(place: Place, traits: Traits, names: tuple[str, ...], hidden: int) -> tuple[Weight, ...]:
    """The norms of these names, of the kind that the family has."""
    if traits.norm == "none":
        return ()
    has_shift = traits.norm == "layer"
    return tuple(weight for name in names for weight in place.norm(name, size=hidden, bias=has_shift))


def _layer_weights(
    fields: Fields, traits: Traits, layers: tuple[Layer, ...], hidden: int, *, first: int, mtp: bool = False
) -> tuple[Weight, ...]:
    """Weights of all layers, those of equal layers in one group."""

    def place(numbers: list[int]) -> Place:
        root = traits.names.root + traits.names.layer
        return Place(f"{root}.", tuple(first + number for number in numbers), mtp)

    numbers = range(len(layers))
    attends = [number for number in numbers if layers[number].attention.kind != "none"]
    linear = [number for number in numbers if layers[number].attention.kind == "none"]
    dense = [number for number in numbers if layers[number].ffn.kind == "dense"]
    sparse = [number for number in numbers if layers[number].ffn.kind == "moe"]
    weights: list[Weight] = list(norm_weights(place(list(numbers)), traits, traits.layer_norms, hidden))
    if attends:
        attention, inside = layers[attends[0]].attention, place(attends).inside(traits.names.attention)
        weights += attention_weights(inside, fields, traits, attention, hidden=hidden)
        scored = _with_indexer(fields, attends, mtp=mtp)
        inside = place(scored).inside(traits.names.attention)
        weights += indexer_weights(inside, fields, attention, hidden=hidden) if scored else ()
    if linear and traits.linear:
        weights += delta_net_weights(place(linear).inside("linear_attn"), fields, traits, hidden=hidden)
    if dense:
        weights += dense_weights(place(dense), fields, traits, hidden=hidden)
    if sparse:
        weights += expert_weights(place(sparse), traits, layers[sparse[0]].ffn, hidden=hidden)
    return tuple(weights)


def _with_indexer(fields: Fields, attends: list[int], *, mtp: bool) -> list[int]:
    """GLM-5.2 shares the indexer of one layer with the next ones."""
    kinds = None if mtp else fields.words("indexer_types")
    if kinds is None:
        return attends
    return [number for number in attends if number < len(kinds) and kinds[number] == "full"]


def _mtp_weights(
    fields: Fields, traits: Traits, layers: tuple[Layer, ...], *, hidden: int, vocab: int, first: int
) -> tuple[Weight, ...]:
    """The layers after the last one, as DeepSeek writes them: a layer and its input, a head of its own."""
    if not layers:
        return ()
    numbers = tuple(first + number for number in range(len(layers)))
    place = Place(f"{traits.names.root}{traits.names.layer}.", numbers, mtp=True)
    own: tuple[Weight, ...] = ()
    if traits.mtp_tables:
        own = (
            *place.matrix("embed_tokens", role="embedding", rows=vocab, columns=hidden, split="rows"),
            *place.matrix("shared_head.head", role="head", rows=vocab, columns=hidden, split="rows"),
        )
    return (
        *place.norm("enorm", size=hidden),
        *place.norm("hnorm", size=hidden),
        *place.matrix("eh_proj", role="other", rows=hidden, columns=2 * hidden),
        *place.norm("shared_head.norm", size=hidden),
        *own,
        *_layer_weights(fields, traits, layers, hidden, first=first, mtp=True),
    )


def _assumptions(fields: Fields, mtp_layers: tuple[Layer, ...]) -> tuple[str, ...]:
    notes = []
    if not fields.has(*_DTYPES):
        notes.append(NO_DTYPE)
    if mtp_layers and not fields.has("num_nextn_predict_layers"):
        notes.append("the multi-token prediction layers are counted like the last layer")
    return tuple(notes)
