"""Rules on `engine.build_flags`: each option of trtllm-build exists, fits its type and is said here only.

Which options contradict each other is said in `build_flag_pairs`, which do not fit in `build_flag_fit`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.checks.rule import Problem, Rule, Subject
from bwdeploy.checks.themes import build_flag_fit, build_flag_machine, build_flag_pairs, conversion
from bwdeploy.checks.themes.build_flag_fit import is_pytorch_draft
from bwdeploy.engines.drafts import LENGTH, MODE
from bwdeploy.engines.flag_values import misfit, wrong_words
from bwdeploy.facts.build_flags import BuildFlag, aliases, build_flags, former_flags, removed_flags
from bwdeploy.facts.speculation import HEADS
from bwdeploy.facts.versions import parse_version
from bwdeploy.recipe.validate import shown
from bwdeploy.recipe.words import nearest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.recipe.places import KeyPath

_BUILD = "tensorrt_llm/commands/build.py"
_PATH: KeyPath = ("engine", "build_flags")
_REMOVED_SINCE = parse_version("1.1")

_LAYOUT_FLAGS = {
    "tp_size": "layout.tp",
    "tp": "layout.tp",
    "tensor_parallel_size": "layout.tp",
    "pp_size": "layout.pp",
    "pp": "layout.pp",
    "pipeline_parallel_size": "layout.pp",
    "moe_ep_size": "layout.ep",
    "moe_expert_parallel_size": "layout.ep",
    "ep_size": "layout.ep",
    "world_size": "layout",
}
_SAID_ELSEWHERE = {
    "max_batch_size": "engine.max_batch_size",
    "max_num_tokens": "engine.max_num_tokens",
    "max_seq_len": "engine.max_seq_len",
    "max_decoder_seq_len": "engine.max_seq_len",
    "checkpoint_dir": "model.source and quantize",
    "model_config": "model.source",
    "output_dir": "the output directory of the build",
    "build_config": "engine.build_flags, option by option",
}
_SAID_BY_DRAFTS = {MODE: "speculative.method", LENGTH: "speculative.draft_len"}
_OLD_HINTS = {"max_output_len": "remove it, and set engine.max_seq_len (prompt plus answer)"}
"""For options of old guides whose place in a recipe is known."""


def _wrong_backend(subject: Subject) -> Iterator[Problem]:
    engine = subject.recipe.engine
    if engine.build_flags and engine.backend != "tensorrt":
        message = "no engine is built with backend pytorch, so that these options have no effect"
        hint = "remove them, or set engine.backend: tensorrt with engine.tensorrt_llm: 1.2.1"
        yield Problem(_PATH, message, hint)


def _arguments_unused(subject: Subject) -> Iterator[Problem]:
    engine = subject.recipe.engine
    if engine.backend != "tensorrt":
        return
    for key, value in engine.llm_args.items():
        if key == "kv_cache_config" and isinstance(value, dict) and set(value) == {"dtype"}:
            continue  # kv-dtype-on-engine-backend says more
        message = "an engine does not read LLM API arguments, so that this one has no effect"
        same = key in build_flags() or key in aliases()
        hint = (
            f"write it as engine.build_flags.{key}" if same else "remove it, or set engine.backend: pytorch"
        )
        yield Problem(("engine", "llm_args", key), message, hint)


def _unknown(subject: Subject) -> Iterator[Problem]:
    flags = _flags(subject)
    known = (*build_flags(), *aliases()) if flags else ()  # the table is read for engines only
    for name in flags:
        if name in known or name in _LAYOUT_FLAGS or name in removed_flags():
            continue
        plain = name.lstrip("-").replace("-", "_")
        message = f"trtllm-build has no option --{name.lstrip('-')}"
        yield Problem((*_PATH, name), message, _OLD_HINTS.get(plain) or _hint_for(plain, known))


def _hint_for(name: str, known: tuple[str, ...]) -> str:
    former = former_flags().get(name)
    if former is not None:
        return f"write {former.became}" if former.became else f"remove it: {former.fate}"
    near = nearest(name, known)
    return f"did you mean {near}" if near else "remove it, or look it up in trtllm-build --help"


def _removed(subject: Subject) -> Iterator[Problem]:
    version = parse_version(subject.recipe.engine.tensorrt_llm)
    if version is None or _REMOVED_SINCE is None or version < _REMOVED_SINCE:
        return
    for name in _flags(subject):
        if name in removed_flags():
            message = (
                f"TensorRT-LLM {subject.recipe.engine.tensorrt_llm} has no --{name}; 1.0 was the last with it"
            )
            yield Problem((*_PATH, name), message, "remove it; the section layout says what it said")


def _layout(subject: Subject) -> Iterator[Problem]:
    for name in _flags(subject):
        if name in _LAYOUT_FLAGS:
            message = "trtllm-build has no such option: the layout is fixed when the checkpoint is converted"
            yield Problem((*_PATH, name), message, f"remove it, and set {_LAYOUT_FLAGS[name]}")


def _elsewhere(subject: Subject) -> Iterator[Problem]:
    section = subject.recipe.speculative
    drafts = _SAID_BY_DRAFTS if section is not None and section.method in HEADS else {}
    for name in _flags(subject):
        if place := (_SAID_ELSEWHERE | drafts).get(name):
            yield Problem(
                (*_PATH, name), f"the recipe says this at {place}", "remove it here, and set it there"
            )


def _type(subject: Subject) -> Iterator[Problem]:
    for name, flag, value in _known(subject):
        expected = misfit(flag, value)
        if expected:
            yield Problem(
                (*_PATH, name), f"expected {expected}, got {shown(value)}", _as_written(flag, value)
            )


def _choice(subject: Subject) -> Iterator[Problem]:
    for name, flag, value in _known(subject):
        for word in wrong_words(flag, value):
            if name == "speculative_decoding_mode" and is_pytorch_draft(word):
                continue  # build-flag-eagle-model says more
            near = nearest(word, flag.choices)
            one_of = ", ".join(flag.choices)
            hint = f"did you mean {near}" if near else f"choose one of: {one_of}"
            yield Problem((*_PATH, name), f"{shown(word)} is not one of: {one_of}", hint)


def _flags(subject: Subject) -> dict[str, object]:
    engine = subject.recipe.engine
    return engine.build_flags if engine.backend == "tensorrt" else {}


def _known(subject: Subject) -> Iterator[tuple[str, BuildFlag, object]]:
    given = _flags(subject)
    names = aliases() if given else {}
    for name, value in given.items():
        flag = build_flags().get(names.get(name, name))
        if flag is not None and name not in _SAID_ELSEWHERE:
            yield name, flag, value


def _as_written(flag: BuildFlag, value: object) -> str:
    """What to write in place of `value`, for the slips that people make."""
    if flag.kind == "switch" and value in ("enable", "disable"):  # a tuple: any value may stand there
        return f"write {'true' if value == 'enable' else 'false'}"
    if flag.kind == "whole" and isinstance(value, str) and value.isdecimal():
        return f"write {value} without quotes"
    if isinstance(value, bool) and {"enable", "disable"} <= set(flag.choices):
        return f"write {'enable' if value else 'disable'}"
    if value is False and "disable" in flag.choices:
        return "write disable"
    if flag.kind == "list" and isinstance(value, str):
        return f"write [{value}]"
    default = f" (default {flag.default})" if flag.default is not None else ""
    return f"see trtllm-build --help{default}, or remove it"


RULES = (
    Rule(
        id="build-flag-backend",
        severity="warning",
        summary="options of trtllm-build without an engine",
        find=_wrong_backend,
        source="https://github.com/NVIDIA/TensorRT-LLM/releases/tag/v1.3.0rc20",
        why="The PyTorch backend never calls trtllm-build; what the options were meant to change stays "
        "as it is. One recipe may hold both worlds, so that one word switches between them.",
    ),
    Rule(
        id="build-flag-llm-args",
        severity="warning",
        summary="LLM API arguments with an engine",
        find=_arguments_unused,
        source="https://github.com/NVIDIA/TensorRT-LLM/pull/18671",
        why="Settings that load without a word and change nothing are the loudest complaint about "
        "TensorRT-LLM.",
    ),
    Rule(
        id="build-flag-unknown",
        severity="error",
        summary="no such option of trtllm-build",
        find=_unknown,
        source=f"https://github.com/NVIDIA/TensorRT-LLM/issues/4811 · {_BUILD}",
        why="trtllm-build stops with its usage text, after the checkpoint has been quantized and converted.",
    ),
    Rule(
        id="build-flag-removed",
        severity="error",
        summary="an option that later versions do not have",
        find=_removed,
        source=_BUILD,
        why="trtllm-build stops with its usage text, after the checkpoint has been quantized and converted.",
    ),
    Rule(
        id="build-flag-layout",
        severity="error",
        summary="a layout given to trtllm-build",
        find=_layout,
        source=_BUILD,
        why="Tensor and pipeline parallel ranks are cut when the checkpoint is converted; the build cannot "
        "change them.",
    ),
    Rule(
        id="build-flag-said-elsewhere",
        severity="error",
        summary="an option that the recipe says elsewhere",
        find=_elsewhere,
        why="Two places for one number drift apart, and the engine is built with one that the plan did "
        "not see.",
    ),
    Rule(
        id="build-flag-type",
        severity="error",
        summary="an option of the wrong type",
        find=_type,
        source=_BUILD,
        why="trtllm-build refuses it, or takes the text false for true.",
    ),
    Rule(
        id="build-flag-choice",
        severity="error",
        summary="an option with a value that does not exist",
        find=_choice,
        source=f"{_BUILD} · tensorrt_llm/plugin/plugin.py",
        why="trtllm-build refuses it, after the checkpoint has been quantized and converted.",
    ),
    *build_flag_pairs.RULES,
    *build_flag_fit.RULES,
    *build_flag_machine.RULES,
    *conversion.RULES,
)
