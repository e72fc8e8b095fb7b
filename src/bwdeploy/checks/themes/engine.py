"""Rules on `engine`: the TensorRT-LLM version and the sizes.

CUDA graphs stand in `engine_graphs`, the other LLM API arguments in `argument_rules`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bwdeploy.checks.arguments import is_reported
from bwdeploy.checks.rule import Problem, Rule, Subject
from bwdeploy.checks.themes import argument_rules, engine_graphs
from bwdeploy.facts.llm_args import KNOWN_VERSIONS, bundled_schema, installed_version
from bwdeploy.facts.stacks import as_of, known_versions, may_exist
from bwdeploy.recipe.words import nearest

if TYPE_CHECKING:
    from collections.abc import Iterator


_LLM_ARGS = "tensorrt_llm/llmapi/llm_args.py"
_MAX_SANE_FRACTION = 0.95
_LEAST_PERCENT, _PERCENT = 2, 100
"""Between them a share was written in percent."""


def _version_unknown(subject: Subject) -> Iterator[Problem]:
    version, backend = subject.recipe.engine.tensorrt_llm, subject.recipe.engine.backend
    if subject.llm_args is None and backend == "pytorch":  # an engine has no such arguments
        message = f"the arguments of TensorRT-LLM {version} are not known"
        yield Problem(("engine", "tensorrt_llm"), message, f"{_near(version)}known: {KNOWN_VERSIONS}")
    elif not may_exist(version) and installed_version() != version:
        message = f"there is no TensorRT-LLM {version}, as far as is known ({as_of()})"
        yield Problem(("engine", "tensorrt_llm"), message, f"{_near(version)}known: {KNOWN_VERSIONS}")


def _near(version: str) -> str:
    """The start of a hint, when another version is spelled much like this one."""
    near = nearest(version, [known for known in known_versions() if bundled_schema(known) is not None])
    return f"did you mean {near}; " if near and not may_exist(version) else ""


def _version_approximate(subject: Subject) -> Iterator[Problem]:
    known, version = subject.llm_args, subject.recipe.engine.tensorrt_llm
    if known is not None and not known.exact and may_exist(version):
        message = f"arguments of {version} are checked against the list of {known.describes}"
        yield Problem(
            ("engine", "tensorrt_llm"), message, "install that tensorrt_llm to check against its own list"
        )


def _installed_differs(subject: Subject) -> Iterator[Problem]:
    installed, version = installed_version(), subject.recipe.engine.tensorrt_llm
    if installed not in {None, version}:
        message = f"the installed tensorrt_llm is {installed}"
        yield Problem(
            ("engine", "tensorrt_llm"), message, f"install {version}, or set engine.tensorrt_llm: {installed}"
        )


def _tokens_below_batch(subject: Subject) -> Iterator[Problem]:
    engine = subject.recipe.engine
    if engine.max_num_tokens < engine.max_batch_size:
        message = (
            f"fewer tokens in a step than max_batch_size {engine.max_batch_size}: the token limit binds first"
        )
        yield Problem(("engine", "max_num_tokens"), message, f"raise it to {engine.max_batch_size} or more")


def _tokens_below_prompt(subject: Subject) -> Iterator[Problem]:
    engine = subject.recipe.engine
    if engine.llm_args.get("enable_chunked_prefill") is True or is_reported(
        subject, "enable_chunked_prefill"
    ):
        return
    prompt = _longest_prompt(subject)
    if engine.max_num_tokens >= (prompt or engine.max_seq_len):
        return
    limit = f"max_input_len is {prompt}" if prompt else f"max_seq_len is {engine.max_seq_len}"
    message = f"prompts longer than {engine.max_num_tokens} tokens will be refused ({limit})"
    chunked = ", or set engine.llm_args.enable_chunked_prefill: true" if engine.backend == "pytorch" else ""
    hint = (
        f"raise it to {prompt or engine.max_seq_len}{chunked}"
        if prompt or not chunked
        else f"raise it{chunked}"
    )
    yield Problem(("engine", "max_num_tokens"), message, hint, "error" if prompt else None)


def _input_beyond_sequence(subject: Subject) -> Iterator[Problem]:
    engine, prompt = subject.recipe.engine, _longest_prompt(subject)
    if prompt is not None and prompt >= engine.max_seq_len:
        message = (
            f"prompt and answer share max_seq_len {engine.max_seq_len}, so that no such prompt is answered"
        )
        place = "llm_args" if engine.backend == "pytorch" else "build_flags"
        yield Problem(("engine", place, "max_input_len"), message, f"write less than {engine.max_seq_len}")


def _longest_prompt(subject: Subject) -> int | None:
    """The limit of a prompt that the recipe states, if it does."""
    engine = subject.recipe.engine
    options = engine.llm_args if engine.backend == "pytorch" else engine.build_flags
    value = options.get("max_input_len")
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _transceiver_buffer(subject: Subject) -> Iterator[Problem]:
    engine = subject.recipe.engine
    config = engine.llm_args.get("cache_transceiver_config")
    size: Any = config.get("max_tokens_in_buffer") if isinstance(config, dict) else None
    if not isinstance(size, int) or isinstance(size, bool) or engine.backend != "pytorch":
        return
    path = ("engine", "llm_args", "cache_transceiver_config", "max_tokens_in_buffer")
    prompt = _longest_prompt(subject)
    if size < (prompt or engine.max_seq_len):
        limit = f"max_input_len {prompt}" if prompt else f"engine.max_seq_len {engine.max_seq_len}"
        message = f"a buffer of {size} tokens is smaller than the longest prompt ({limit})"
        hint = f"raise it to {prompt or engine.max_seq_len}, in steps of 32"
        yield Problem(path, message, hint, "error" if prompt else "warning")


def _kv_fraction(subject: Subject) -> Iterator[Problem]:
    config = subject.recipe.engine.llm_args.get("kv_cache_config")
    fraction: Any = config.get("free_gpu_memory_fraction") if isinstance(config, dict) else None
    if not isinstance(fraction, int | float) or isinstance(fraction, bool):
        return
    path = ("engine", "llm_args", "kv_cache_config", "free_gpu_memory_fraction")
    message = f"{fraction} is the share of the memory that is left after weights and profiling"
    if not 0 < fraction <= 1:
        wrong = f"{fraction} cannot be a share of the memory that is left after weights and profiling"
        percent = _LEAST_PERCENT <= fraction < _PERCENT
        hint = f"write {fraction / _PERCENT:g}" if percent else "choose a value above 0 and at most 1"
        yield Problem(path, wrong, hint)
    elif fraction > _MAX_SANE_FRACTION:
        yield Problem(
            path, message, f"stay at or below {_MAX_SANE_FRACTION}, or expect to run out of memory", "warning"
        )


RULES = (
    Rule(
        id="engine-version-unknown",
        severity="error",
        summary="unknown TensorRT-LLM version",
        find=_version_unknown,
        source="https://github.com/NVIDIA/TensorRT-LLM/releases",
        why="Nothing can be said about its arguments, and a version that does not exist cannot be installed.",
    ),
    Rule(
        id="engine-version-approximate",
        severity="warning",
        summary="checked against the list of a near version",
        find=_version_approximate,
        source=_LLM_ARGS,
        why="A key that came or went between the two versions is judged wrongly.",
    ),
    Rule(
        id="engine-version-installed",
        severity="warning",
        summary="the installed tensorrt_llm is another version",
        find=_installed_differs,
        source="https://github.com/triton-inference-server/server/issues/7362 · "
        "https://github.com/triton-inference-server/server/issues/8462",
        why="What is served here would not be what was checked.",
    ),
    Rule(
        id="engine-tokens-below-batch",
        severity="warning",
        summary="max_num_tokens below max_batch_size",
        find=_tokens_below_batch,
        source=_LLM_ARGS,
        why="Each running request needs a token in every step, so that the batch never gets full.",
    ),
    Rule(
        id="engine-tokens-below-prompt",
        severity="warning",
        summary="long prompts do not fit into one step",
        find=_tokens_below_prompt,
        source="https://github.com/NVIDIA/TensorRT-LLM/issues/3058",
        why="A prompt must fit into one step unless it is cut into chunks; longer ones are refused.",
    ),
    Rule(
        id="engine-input-beyond-sequence",
        severity="warning",
        summary="prompts that leave no room for an answer",
        find=_input_beyond_sequence,
        source=_LLM_ARGS,
        why="A prompt of that length is refused, or answered with nothing.",
    ),
    Rule(
        id="engine-transceiver-buffer",
        severity="warning",
        summary="a transceiver buffer smaller than a prompt",
        find=_transceiver_buffer,
        source="NVIDIA/TensorRT-LLM examples/disaggregated/README.md",
        why="In disaggregated serving the KV cache of a longer prompt does not reach the generation server.",
    ),
    Rule(
        id="engine-kv-fraction",
        severity="error",
        summary="KV cache share of the memory",
        find=_kv_fraction,
        source="tensorrt_llm/recipes/validator.py",
        why="Too large a share runs out of memory when the first large batch needs its activations.",
    ),
    *engine_graphs.RULES,
    *argument_rules.RULES,
)
