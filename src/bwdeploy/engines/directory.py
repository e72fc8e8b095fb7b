"""A TensorRT-LLM engine as data.

An engine directory holds one `rankN.engine` for each rank and a config.json with `version`,
`pretrained_config` and `build_config`. Engine files are counted, never opened: only the TensorRT that made
them can read them. What is wrong with one is said in `comparison`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from bwdeploy.engines.checkpoint import Mapping, rank_file, ranks_at, read_mapping, recognize
from bwdeploy.engines.comparison import ExpectedEngine, directory_problems, engine_problems
from bwdeploy.engines.document import EngineError, config_of, read_config, section, text, whole

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "EngineDirectory",
    "EngineError",
    "ExpectedEngine",
    "directory_problems",
    "engine_problems",
    "read_engine",
]

_SUFFIX = "engine"
_MODES = {
    1: "none",
    2: "draft_tokens_external",
    4: "medusa",
    8: "lookahead_decoding",
    16: "explicit_draft_tokens",
    32: "eagle",
}
"""tensorrt_llm/models/modeling_utils.py, SpeculativeDecodingMode: config.json holds its number."""


class EngineDirectory(NamedTuple):
    """An engine."""

    file: Path
    """Its config.json."""
    version: str | None
    """Of the TensorRT-LLM that built it; None when config.json does not say it."""
    architecture: str
    dtype: str
    pretrained_config: dict[str, Any]
    build_config: dict[str, Any]
    plugin_config: dict[str, Any]
    mapping: Mapping
    quant_algo: str | None
    kv_cache_quant_algo: str | None
    max_batch_size: int | None
    max_num_tokens: int | None
    max_seq_len: int | None
    max_input_len: int | None
    max_beam_width: int | None
    max_draft_len: int
    speculative_mode: str
    """As trtllm-build names it; `none` without."""
    ranks: tuple[int, ...]
    """Whose engine is there; empty when only a config.json was read."""
    missing_ranks: tuple[int, ...]
    """Whose engine is missing or empty; of a config.json alone that is unknown, and this is empty."""

    @property
    def missing_files(self) -> tuple[str, ...]:
        """The names of those engines."""
        return tuple(rank_file(rank, _SUFFIX) for rank in self.missing_ranks)


def read_engine(place: Path) -> EngineDirectory:
    """The engine in the directory `place`, or the one whose config.json `place` is.

    A missing rank or an unknown version is no error here: see `directory_problems`.

    Raises:
        EngineError: there is no config.json, it cannot be read, or it is of something else.
    """
    config, file = read_config(place), config_of(place)
    if recognize(config) != "engine":
        raise _no_engine(config, file)
    pretrained, build = section(config, "pretrained_config", file), section(config, "build_config", file)
    mapping, quantization = read_mapping(pretrained, file), section(pretrained, "quantization", file)
    ranks, missing_ranks = ranks_at(place, mapping, _SUFFIX)
    return EngineDirectory(
        file=file,
        version=text(config, "version", file),
        architecture=text(pretrained, "architecture", file) or "",
        dtype=text(pretrained, "dtype", file) or "",
        pretrained_config=pretrained,
        build_config=build,
        plugin_config=section(build, "plugin_config", file),
        mapping=mapping,
        quant_algo=text(quantization, "quant_algo", file),
        kv_cache_quant_algo=text(quantization, "kv_cache_quant_algo", file),
        max_batch_size=whole(build, "max_batch_size", file),
        max_num_tokens=whole(build, "max_num_tokens", file),
        max_seq_len=whole(build, "max_seq_len", file),
        max_input_len=whole(build, "max_input_len", file),
        max_beam_width=whole(build, "max_beam_width", file),
        max_draft_len=whole(build, "max_draft_len", file, default=0) or 0,
        speculative_mode=_mode(build.get("speculative_decoding_mode"), file),
        ranks=ranks,
        missing_ranks=missing_ranks,
    )


def _mode(value: object, file: Path) -> str:
    """The number of the enumeration, or the name that some versions write."""
    if value is None:
        return "none"
    named = _MODES.get(value) if isinstance(value, int) else None
    if named is None and isinstance(value, str):
        plain = value.rpartition(".")[2].lower()
        named = plain if plain in _MODES.values() else None
    if named is None:
        raise EngineError(
            f"{file}: speculative_decoding_mode {value!r} is not known",
            hint="build the engine again with the pinned version",
        )
    return named


def _no_engine(config: dict[str, Any], file: Path) -> EngineError:
    if "builder_config" in config:
        return EngineError(
            f"{file} is of an engine older than 0.9 (builder_config)",
            hint="no version that is served today loads it: build it again from its model",
        )
    if recognize(config) == "rank_checkpoint":
        return EngineError(
            f"{file} is of a TensorRT-LLM checkpoint, not of an engine", hint="run trtllm-build on it first"
        )
    lacking = [key for key in ("pretrained_config", "build_config") if key not in config]
    return EngineError(
        f"{file} is of no engine: it lacks {' and '.join(lacking)}",
        hint="name the directory that trtllm-build wrote (--output_dir)",
    )
