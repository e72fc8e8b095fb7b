"""A TensorRT-LLM checkpoint as data: its config.json, its ranks and which of their files are there.

Also says which of the three kinds a config.json is of, by the keys that TensorRT-LLM itself goes by. Weights
are not opened here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from bwdeploy.engines.document import EngineError, config_of, read_config, section, text, whole

if TYPE_CHECKING:
    from pathlib import Path

Kind = Literal["engine", "rank_checkpoint", "hugging_face"]
_REQUIRED = ("num_hidden_layers", "num_attention_heads", "hidden_size")
_MAX_RANKS = 1024
_SUFFIX = "safetensors"


class Mapping(NamedTuple):
    """How a model is cut into ranks."""

    world_size: int
    tp: int
    pp: int
    cp: int
    moe_ep: int
    """Expert parallel ranks inside tp."""


class RankCheckpoint(NamedTuple):
    """A TensorRT-LLM checkpoint."""

    file: Path
    """Its config.json."""
    architecture: str
    dtype: str
    logits_dtype: str
    mapping: Mapping
    quant_algo: str | None
    kv_cache_quant_algo: str | None
    config: dict[str, Any]
    """All of config.json."""
    ranks: tuple[int, ...]
    """Whose file is there; empty when only a config.json was read."""
    missing_ranks: tuple[int, ...]
    """Whose file is missing or empty; of a config.json alone that is unknown, and this is empty."""

    @property
    def missing_files(self) -> tuple[str, ...]:
        """The names of those files."""
        return tuple(rank_file(rank, _SUFFIX) for rank in self.missing_ranks)


def recognize(config: dict[str, Any]) -> Kind:
    """What a config.json is of."""
    if "pretrained_config" in config and "build_config" in config:
        return "engine"
    if "architecture" in config and "dtype" in config:
        return "rank_checkpoint"
    return "hugging_face"


def is_engine(place: Path) -> bool:
    """Whether `place` is an engine directory or the config.json of one; False for what cannot be read."""
    return _kind_at(place) == "engine"


def is_rank_checkpoint(place: Path) -> bool:
    """Whether `place` is a TensorRT-LLM checkpoint or its config.json; False for what cannot be read."""
    return _kind_at(place) == "rank_checkpoint"


def read_rank_checkpoint(place: Path) -> RankCheckpoint:
    """The checkpoint in the directory `place`, or the one whose config.json `place` is.

    Raises:
        EngineError: there is no config.json, it cannot be read, or it is of something else.
    """
    config, file = read_config(place), config_of(place)
    kind = recognize(config)
    if kind != "rank_checkpoint":
        raise _other(file, kind)
    missing = [name for name in _REQUIRED if whole(config, name, file) is None]
    if missing:
        message = f"{file} lacks {', '.join(missing)}"
        raise EngineError(message, hint="make the checkpoint again; trtllm-build cannot read this one")
    mapping = read_mapping(config, file)
    quantization = section(config, "quantization", file)
    ranks, missing_ranks = ranks_at(place, mapping, _SUFFIX)
    return RankCheckpoint(
        file=file,
        architecture=text(config, "architecture", file) or "",
        dtype=text(config, "dtype", file) or "",
        logits_dtype=text(config, "logits_dtype", file) or "float32",
        mapping=mapping,
        quant_algo=text(quantization, "quant_algo", file),
        kv_cache_quant_algo=text(quantization, "kv_cache_quant_algo", file),
        config=config,
        ranks=ranks,
        missing_ranks=missing_ranks,
    )


def read_mapping(config: dict[str, Any], file: Path) -> Mapping:
    """The section `mapping` of a checkpoint, or of the checkpoint inside an engine.

    Raises:
        EngineError: it contradicts itself.
    """
    found = section(config, "mapping", file)
    tp, pp, cp, moe_ep = (
        whole(found, name, file, default=1) or 1 for name in ("tp_size", "pp_size", "cp_size", "moe_ep_size")
    )
    world = whole(found, "world_size", file, default=tp * pp * cp)
    if world != tp * pp * cp or world > _MAX_RANKS:
        message = f"{file}: mapping.world_size is {world}, but tp {tp} x pp {pp} x cp {cp} = {tp * pp * cp}"
        raise EngineError(message, hint="make the checkpoint again; its ranks do not add up")
    return Mapping(world_size=world, tp=tp, pp=pp, cp=cp, moe_ep=moe_ep)


def rank_file(rank: int, suffix: str) -> str:
    """The name of a rank's file: `suffix` is engine or safetensors."""
    return f"rank{rank}.{suffix}"


def ranks_at(place: Path, mapping: Mapping, suffix: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The ranks whose file is in the directory `place`, and those whose file is missing or empty.

    Of a config.json alone neither is known, and both are empty.
    """
    if not place.is_dir():
        return (), ()
    files = {rank: place / rank_file(rank, suffix) for rank in range(mapping.world_size)}
    there = tuple(rank for rank, file in files.items() if file.is_file() and file.stat().st_size)
    return there, tuple(rank for rank in files if rank not in set(there))


def _kind_at(place: Path) -> Kind | None:
    try:
        return recognize(read_config(place))
    except (EngineError, OSError):
        return None


def _other(file: Path, kind: Kind) -> EngineError:
    if kind == "engine":
        return EngineError(
            f"{file} is of an engine, not of a checkpoint", hint="name the checkpoint it was built from"
        )
    return EngineError(
        f"{file} is of no TensorRT-LLM checkpoint: it has no architecture and dtype",
        hint="convert the model first: trtllm-build reads no Hugging Face directory",
    )
