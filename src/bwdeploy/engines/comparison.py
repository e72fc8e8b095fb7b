"""What is wrong with an engine, by itself and against what was asked for.

Compared are sizes, ranks, quantization, drafts and the plugin settings that a recipe gives. What trtllm-build
changes by itself (tokens that cannot occur, plugins that do not fit) is no fault.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from bwdeploy.facts.build_flags import aliases
from bwdeploy.facts.stacks import known_versions
from bwdeploy.facts.versions import parse_version

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bwdeploy.engines.directory import EngineDirectory

_CHANGED_BY_THE_BUILD = frozenset({"use_fused_mlp", "paged_state", "reduce_fusion", "user_buffer"})
"""Plugin settings that trtllm-build switches off for some models and layouts without a word."""
_MODE = "speculative_decoding_mode"
_EARLIEST = (0, 9, 0, 0)
"""Older versions wrote builder_config and other names."""


class ExpectedEngine(NamedTuple):
    """What a recipe, and the checkpoint that it was built from, say of an engine."""

    tensorrt_llm: str
    max_batch_size: int
    max_num_tokens: int
    max_seq_len: int
    tp: int
    pp: int
    quant_algo: str | None
    """Of the checkpoint."""
    kv_cache_quant_algo: str | None
    build_flags: Mapping[str, Any]


def directory_problems(found: EngineDirectory) -> tuple[str, ...]:
    """What is wrong with an engine by itself: ranks that are not there, a version that nobody knows."""
    return tuple(_own_problems(found))


def engine_problems(found: EngineDirectory, expected: ExpectedEngine) -> tuple[str, ...]:
    """What is wrong with an engine, and what does not fit what was asked for; one sentence each."""
    problems = list(_own_problems(found))
    if found.version is not None and found.version != expected.tensorrt_llm:
        built, wanted = found.version, expected.tensorrt_llm
        problems.append(f"it was built by TensorRT-LLM {built}, not {wanted}: no other version loads it")
    problems += [
        f"{name} is {_shown(is_)}, not {_shown(asked)}"
        for name, is_, asked in _compared(found, expected)
        if is_ != asked
    ]
    return (*problems, *_plugin_problems(found, expected))


def _own_problems(found: EngineDirectory) -> Iterator[str]:
    if found.missing_ranks:
        names = ", ".join(found.missing_files)
        lacking = f"{found.file.parent} lacks {names} of its {found.mapping.world_size} ranks"
        yield f"{lacking}: copy or build all of it again"
    if found.version is None:
        yield f"{found.file} does not say its version: build the engine again"
        return
    version = parse_version(found.version)
    if version is None or (version < _EARLIEST or version > _newest()):
        yield f"{found.file}: version {found.version!r} is of no TensorRT-LLM that is known here"


def _newest() -> tuple[int, int, int, int]:
    return max(filter(None, map(parse_version, known_versions())))


def _compared(found: EngineDirectory, expected: ExpectedEngine) -> Iterator[tuple[str, object, object]]:
    flags = {aliases().get(name, name): value for name, value in expected.build_flags.items()}
    yield "max_batch_size", found.max_batch_size, expected.max_batch_size
    yield "max_num_tokens", found.max_num_tokens, _tokens(expected, flags)
    yield (
        "max_seq_len",
        found.max_seq_len,
        expected.max_seq_len + room_for_drafts(found, mode=flags.get(_MODE), drafted=_drafted(flags)),
    )
    yield "max_beam_width", found.max_beam_width, flags.get("max_beam_width", 1)
    yield "max_draft_len", found.max_draft_len, flags.get("max_draft_len", 0)
    yield (
        "speculative_decoding_mode",
        found.speculative_mode,
        flags.get(_MODE) or "none",
    )
    yield "tp_size", found.mapping.tp, expected.tp
    yield "pp_size", found.mapping.pp, expected.pp
    yield "quant_algo", found.quant_algo, expected.quant_algo
    yield "kv_cache_quant_algo", found.kv_cache_quant_algo, expected.kv_cache_quant_algo


def _tokens(expected: ExpectedEngine, flags: dict[str, Any]) -> int:
    """As tensorrt_llm bounds it: by what fits at once and one cache block, then raised for the drafts."""
    bounded = _bounded_tokens(expected, flags)
    if not flags.get(_MODE):
        return bounded
    return max(bounded, expected.max_batch_size * (_drafted(flags) + 1))


def room_for_drafts(found: EngineDirectory, *, mode: str | None, drafted: int) -> int:
    """Tokens that builder.py adds to max_seq_len, so that the answer stays as long as was asked for."""
    layers = found.pretrained_config.get("num_eagle_layers") if mode == "eagle" else 0
    return drafted + (layers if isinstance(layers, int) else 0) if mode else 0


def _drafted(flags: dict[str, Any]) -> int:
    length = flags.get("max_draft_len", 0)
    return length if isinstance(length, int) else 0


def _bounded_tokens(expected: ExpectedEngine, flags: dict[str, Any]) -> int:
    """As `check_max_num_tokens` of tensorrt_llm bounds it."""
    most = expected.max_seq_len * expected.max_batch_size
    if flags.get("remove_input_padding") == "disable":
        return most
    clipped = min(expected.max_num_tokens, most)
    block = flags.get("tokens_per_block", 32)
    return (
        max(clipped, block) if flags.get("context_fmha") != "disable" and isinstance(block, int) else clipped
    )


def _plugin_problems(found: EngineDirectory, expected: ExpectedEngine) -> Iterator[str]:
    for name, wanted in expected.build_flags.items():
        if name not in found.plugin_config or name in _CHANGED_BY_THE_BUILD:
            continue
        is_ = found.plugin_config[name]
        if not _plugin_fits(found, name, is_, wanted):
            yield f"plugin setting {name} is {_shown(is_)}, not {_shown(wanted)}"


def _plugin_fits(found: EngineDirectory, name: str, is_: object, wanted: object) -> bool:
    if name == "nccl_plugin" and found.mapping.world_size == 1:
        return True  # switched off with one rank
    if name == "gemm_plugin" and is_ == "nvfp4" and wanted != "disable":
        return True  # what an NVFP4 checkpoint makes of any other word
    if wanted == "disable":
        return not is_
    if wanted == "enable":
        return is_ is True
    if wanted == "auto":
        return isinstance(is_, str)
    return bool(is_ == wanted)


def _shown(value: object) -> str:
    return "none" if value is None else str(value)
