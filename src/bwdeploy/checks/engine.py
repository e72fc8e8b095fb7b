"""Rules on `engine`: the TensorRT-LLM version, the sizes, and every LLM API argument."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from bwdeploy.checks.rule import Problem, Rule, Subject
from bwdeploy.facts.llm_args import KNOWN_VERSIONS, installed_version

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.errors import Severity

_LLM_ARGS = "tensorrt_llm/llmapi/llm_args.py"
_MAX_SANE_FRACTION = 0.95


def _version_unknown(subject: Subject) -> Iterator[Problem]:
    if subject.llm_args is None:
        version = subject.recipe.engine.tensorrt_llm
        message = f"the arguments of TensorRT-LLM {version} are not known"
        yield Problem(("engine", "tensorrt_llm"), message, f"known: {KNOWN_VERSIONS}")


def _version_approximate(subject: Subject) -> Iterator[Problem]:
    known, version = subject.llm_args, subject.recipe.engine.tensorrt_llm
    if known is not None and not known.exact:
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
    chunked = engine.llm_args.get("enable_chunked_prefill") is True
    if engine.max_num_tokens < engine.max_seq_len and not chunked:
        limit = f"max_seq_len is {engine.max_seq_len}"
        message = f"prompts longer than {engine.max_num_tokens} tokens will be refused ({limit})"
        hint = "raise it, or set engine.llm_args.enable_chunked_prefill: true"
        yield Problem(("engine", "max_num_tokens"), message, hint)


def _graph_sizes(subject: Subject) -> Iterator[Problem]:
    engine = subject.recipe.engine
    graphs = engine.llm_args.get("cuda_graph_config")
    if not isinstance(graphs, dict):
        return
    path = ("engine", "llm_args", "cuda_graph_config")
    listed = graphs.get("batch_sizes")
    sizes = [size for size in listed if isinstance(size, int)] if isinstance(listed, list) else []
    largest = graphs.get("max_batch_size")
    if sizes and isinstance(largest, int) and largest and largest != max(sizes):
        message = f"max_batch_size {largest} is not the largest of batch_sizes, {max(sizes)}"
        yield Problem((*path, "max_batch_size"), message, f"set it to {max(sizes)} or leave it out")
    top = max([*sizes, largest if isinstance(largest, int) else 0])
    if top > engine.max_batch_size:
        key = "batch_sizes" if sizes and max(sizes) == top else "max_batch_size"
        message = f"CUDA graphs for {top} requests, but engine.max_batch_size is {engine.max_batch_size}"
        yield Problem((*path, key), message, f"cut it to {engine.max_batch_size}")


def _kv_fraction(subject: Subject) -> Iterator[Problem]:
    config = subject.recipe.engine.llm_args.get("kv_cache_config")
    fraction: Any = config.get("free_gpu_memory_fraction") if isinstance(config, dict) else None
    if not isinstance(fraction, int | float) or isinstance(fraction, bool):
        return
    path = ("engine", "llm_args", "kv_cache_config", "free_gpu_memory_fraction")
    message = f"{fraction} is the share of the memory that is left after weights and profiling"
    if not 0 < fraction <= 1:
        yield Problem(path, message, "choose a value above 0 and at most 1")
    elif fraction > _MAX_SANE_FRACTION:
        yield Problem(
            path, message, f"stay at or below {_MAX_SANE_FRACTION}, or expect to run out of memory", "warning"
        )


def _llm_args(subject: Subject, *, kind: str) -> Iterator[Problem]:
    for problem in subject.arg_problems:
        if problem.kind == kind:
            path = ("engine", "llm_args", *problem.path)
            yield Problem(path, problem.message, problem.hint, problem.severity)


def _argument_rule(kind: str, severity: Severity, summary: str) -> Rule:
    return Rule(
        id=f"llm-args-{kind}",
        severity=severity,
        summary=summary,
        find=partial(_llm_args, kind=kind),
        source=_LLM_ARGS,
    )


RULES = (
    Rule(
        id="engine-version-unknown",
        severity="error",
        summary="unknown TensorRT-LLM version",
        find=_version_unknown,
    ),
    Rule(
        id="engine-version-approximate",
        severity="warning",
        summary="checked against the list of a near version",
        find=_version_approximate,
    ),
    Rule(
        id="engine-version-installed",
        severity="warning",
        summary="the installed tensorrt_llm is another version",
        find=_installed_differs,
    ),
    Rule(
        id="engine-tokens-below-batch",
        severity="warning",
        summary="max_num_tokens below max_batch_size",
        find=_tokens_below_batch,
        source=_LLM_ARGS,
    ),
    Rule(
        id="engine-tokens-below-prompt",
        severity="warning",
        summary="long prompts do not fit into one step",
        find=_tokens_below_prompt,
        source="https://github.com/NVIDIA/TensorRT-LLM/issues/3058",
    ),
    Rule(
        id="engine-graph-sizes",
        severity="error",
        summary="CUDA graph sizes that do not fit",
        find=_graph_sizes,
        source="https://github.com/SemiAnalysisAI/InferenceX/pull/2596",
    ),
    Rule(
        id="engine-kv-fraction",
        severity="error",
        summary="KV cache share of the memory",
        find=_kv_fraction,
        source="tensorrt_llm/recipes/validator.py",
    ),
    _argument_rule("unknown-key", "error", "no such LLM API argument"),
    _argument_rule("renamed", "error", "an LLM API argument or value with another name"),
    _argument_rule("wrong-type", "error", "an LLM API argument of the wrong type"),
    _argument_rule("not-a-choice", "error", "an LLM API argument with a value that does not exist"),
    _argument_rule("unlisted-value", "warning", "an LLM API argument with a value that is not known"),
    _argument_rule("out-of-bounds", "error", "an LLM API argument out of bounds"),
    _argument_rule("missing-key", "error", "an LLM API argument that lacks a key"),
    _argument_rule("deprecated", "warning", "a deprecated LLM API argument"),
    _argument_rule("engine-only", "error", "an argument of the engine backend"),
    _argument_rule("said-elsewhere", "error", "an argument that the recipe says elsewhere"),
    _argument_rule("refused", "error", "an argument that no recipe may give"),
    _argument_rule("names-host", "warning", "an argument that names a file or address of the server"),
)
