"""Which tensor of a rank is which part of which tensor of the model: names, shapes and cuts.

Layers are numbered anew in each stage. Rows are output features: q, k, v, gate, up, the embedding and the
head are cut by rows, the output and down projections by columns; norms, output biases and single scales are
the same on all ranks of a stage. With fewer KV heads than ranks, neighboring ranks hold the same head. Only
names and numbers here, no tensor is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from bwdeploy.facts.rank_export import NVFP4_BLOCK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bwdeploy.worker.ranks.cut import Cut

EMBEDDING = "transformer.vocab_embedding.weight"
HEAD = "lm_head.weight"
PLAIN = frozenset({"BF16", "F16", "F32"})
Storage = Literal["plain", "fp8", "fp8_channel", "nvfp4"]
ALGORITHMS: dict[Storage, str | None] = {
    "plain": None,
    "fp8": "FP8",
    "fp8_channel": "FP8_PER_CHANNEL_PER_TOKEN",
    "nvfp4": "NVFP4",
}
_ROWS, _COLUMNS = 0, 1
_MATRICES: dict[str, tuple[int, tuple[str, ...]]] = {
    "attention.qkv": (_ROWS, ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),
    "attention.dense": (_COLUMNS, ("self_attn.o_proj",)),
    # TensorRT-LLM's fc is what the activation is applied to: the gate of Hugging Face's names.
    "mlp.fc": (_ROWS, ("mlp.gate_proj",)),
    "mlp.gate": (_ROWS, ("mlp.up_proj",)),
    "mlp.proj": (_COLUMNS, ("mlp.down_proj",)),
}
_NORMS = {
    "input_layernorm": "input_layernorm",
    "post_layernorm": "post_attention_layernorm",
    "attention.q_layernorm": "self_attn.q_norm",
    "attention.k_layernorm": "self_attn.k_norm",
}
_LEAVES = {
    "weight": "weight",
    "bias": "bias",
    "weights_scaling_factor": "weight_scale",
    "weights_scaling_factor_2": "weight_scale_2",
    "activation_scaling_factor": "input_scale",
    "per_channel_scale": "weight_scale",
}
_SCALES = ("scaling_factor", "scaling_factor_2", "per_channel_scale")


class Target(NamedTuple):
    """A tensor of the model, in Hugging Face's names, that part of a rank's tensor belongs to."""

    name: str
    rows: slice | None = None
    """Of the rank's tensor; None: all."""
    copies: int = 1
    """Neighboring ranks that hold the same part."""


class RankTensor(NamedTuple):
    """One tensor of a rank file."""

    name: str
    shape: tuple[int, ...]
    dtypes: frozenset[str]
    cut: int | None
    """Dimension along which the ranks of a stage hold different parts; None: they all hold the same."""
    targets: tuple[Target, ...]
    optional: bool = False


def stage_tensors(cut: Cut, stage: int, storage: Callable[[str], Storage]) -> Iterator[RankTensor]:
    """All tensors of each rank of a stage; `storage` tells how the weight of a module (`….qkv`) is stored."""
    if stage == 0:
        yield _table(EMBEDDING, "model.embed_tokens.weight", cut)
    for local in range(cut.stage_layers):
        here, model = f"transformer.layers.{local}", f"model.layers.{stage * cut.stage_layers + local}"
        yield from _norms(cut, here, model)
        for module in _MATRICES:
            yield from _matrix(cut, here, model, module=module, storage=storage(f"{here}.{module}"))
        if cut.kv_cache:
            yield from _kv_scales(here, model)
    if stage == cut.pp - 1:
        yield RankTensor(
            "transformer.ln_f.weight", (cut.hidden,), PLAIN, None, (Target("model.norm.weight"),)
        )
        yield _table(HEAD, "lm_head.weight", cut)


def linear_modules(cut: Cut) -> tuple[str, ...]:
    """Linear layers of a stage by the names of its ranks, the head not among them."""
    return tuple(
        f"transformer.layers.{local}.{module}" for local in range(cut.stage_layers) for module in _MATRICES
    )


def model_modules(cut: Cut, stage: int, module: str) -> tuple[str, ...]:
    """The model's linear layers, in Hugging Face's names, that a linear layer of a stage is made of."""
    local, _, name = module.removeprefix("transformer.layers.").partition(".")
    layer = stage * cut.stage_layers + int(local)
    return tuple(f"model.layers.{layer}.{part}" for part in _MATRICES[name][1])


def storage_of(module: str, dtype_of: Callable[[str], str | None]) -> Storage:
    """How the weight of a module is stored, from the dtypes of the tensors that are there."""
    dtype = dtype_of(f"{module}.weight")
    if dtype == "U8":
        return "nvfp4"
    if dtype == "F8_E4M3":
        return "fp8_channel" if dtype_of(f"{module}.per_channel_scale") else "fp8"
    return "plain"


def is_rank_scale(name: str) -> bool:
    """Whether a tensor of a rank file belongs to the quantization and not to the model."""
    return name.endswith(_SCALES)


def _table(name: str, target: str, cut: Cut) -> RankTensor:
    shape = (cut.vocab_rows, cut.hidden)
    optional = name == HEAD and cut.tied
    return RankTensor(name, shape, PLAIN, _ROWS, (Target(target),), optional)


def _norms(cut: Cut, here: str, model: str) -> Iterator[RankTensor]:
    for name, target in _NORMS.items():
        of_heads = name.startswith("attention.")
        if of_heads and not cut.qk_norm:
            continue
        shape = (cut.head_size if of_heads else cut.hidden,)
        yield RankTensor(f"{here}.{name}.weight", shape, PLAIN, None, (Target(f"{model}.{target}.weight"),))


def _matrix(cut: Cut, here: str, model: str, *, module: str, storage: Storage) -> Iterator[RankTensor]:
    axis, parts = _MATRICES[module]
    rows, columns = _local_shape(cut, module)
    stored = columns // 2 if storage == "nvfp4" else columns

    def tensor(leaf: str, shape: tuple[int, ...], dtypes: frozenset[str], along: int | None) -> RankTensor:
        targets = tuple(
            Target(f"{model}.{part}.{_LEAVES[leaf]}", rows if along == _ROWS else None, copies)
            for part, rows, copies in _parts(cut, module, parts)
        )
        return RankTensor(f"{here}.{module}.{leaf}", shape, dtypes, along, targets)

    yield tensor("weight", (rows, stored), _WEIGHT_DTYPES[storage], axis)
    along_rows = _ROWS if axis == _ROWS else None
    if _has_bias(cut, module):
        yield tensor("bias", (rows,), PLAIN, along_rows)
    if storage == "nvfp4":
        yield tensor("weights_scaling_factor", (rows, columns // NVFP4_BLOCK), frozenset({"F8_E4M3"}), axis)
        yield tensor("weights_scaling_factor_2", (), _F32, None)
    if storage == "fp8_channel":
        yield tensor("per_channel_scale", (rows,), _F32, along_rows)
    if storage == "fp8":
        yield tensor("weights_scaling_factor", (), _F32, None)
    if storage in {"fp8", "nvfp4"}:
        yield tensor("activation_scaling_factor", (), _F32, None)


_F32 = frozenset({"F32"})
_WEIGHT_DTYPES: dict[Storage, frozenset[str]] = {
    "plain": PLAIN,
    "fp8": frozenset({"F8_E4M3"}),
    "fp8_channel": frozenset({"F8_E4M3"}),
    "nvfp4": frozenset({"U8"}),
}


def _local_shape(cut: Cut, module: str) -> tuple[int, int]:
    """Output and input features of a rank's part."""
    query, keys = cut.heads // cut.tp * cut.head_size, _kv_rows(cut)
    return {
        "attention.qkv": (query + 2 * keys, cut.hidden),
        "attention.dense": (cut.hidden, query),
        "mlp.fc": (cut.ffn // cut.tp, cut.hidden),
        "mlp.gate": (cut.ffn // cut.tp, cut.hidden),
        "mlp.proj": (cut.hidden, cut.ffn // cut.tp),
    }[module]


def _kv_rows(cut: Cut) -> int:
    return max(1, cut.kv_heads // cut.tp) * cut.head_size


def _parts(cut: Cut, module: str, parts: tuple[str, ...]) -> Iterator[tuple[str, slice | None, int]]:
    if module != "attention.qkv":
        yield parts[0], None, 1
        return
    query, keys = cut.heads // cut.tp * cut.head_size, _kv_rows(cut)
    yield parts[0], slice(0, query), 1
    yield parts[1], slice(query, query + keys), cut.kv_copies
    yield parts[2], slice(query + keys, query + 2 * keys), cut.kv_copies


def _has_bias(cut: Cut, module: str) -> bool:
    if module == "attention.dense":
        return cut.output_bias
    return cut.attention_bias if module == "attention.qkv" else cut.mlp_bias


def _kv_scales(here: str, model: str) -> Iterator[RankTensor]:
    keys, values = Target(f"{model}.self_attn.k_proj.k_scale"), Target(f"{model}.self_attn.v_proj.v_scale")
    # trtllm-build makes one scale of the two; some converters write only that one.
    yield RankTensor(f"{here}.attention.kv_cache_scaling_factor", (), _F32, None, (keys, values))
    yield RankTensor(f"{here}.attention.k_cache_scaling_factor", (), _F32, None, (keys,), optional=True)
    yield RankTensor(f"{here}.attention.v_cache_scaling_factor", (), _F32, None, (values,), optional=True)
