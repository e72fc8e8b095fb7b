"""Rules on options of trtllm-build that reach outside the recipe: files here, and the pinned version.

Files are looked up, never opened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.checks.rule import Problem, Subject
from bwdeploy.checks.themes.build_flag_values import PATH, flag_rule, flags_of
from bwdeploy.engines.command import path_values
from bwdeploy.facts.build_flags import aliases, build_flags
from bwdeploy.facts.versions import parse_version

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def _paths(subject: Subject) -> Iterator[Problem]:
    for flag, path in path_values(flags_of(subject)):
        place = (*PATH, flag.name)
        if not path.is_absolute():
            if flag.path == "read":
                message = f"{str(path)!r} is not a whole path: trtllm-build runs in a directory of its own"
                yield Problem(place, message, f"write it from the root on, for example {path.absolute()}")
        elif flag.path == "read" and not _exists(path):
            yield Problem(place, f"there is nothing at {path}", "check the path")
        elif flag.path == "write" and not _exists(path.parent):
            yield Problem(place, f"there is no directory {path.parent}", "make it, or name another one")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that is too long cannot exist
        return False


def _adapters(subject: Subject) -> Iterator[Problem]:
    flags = flags_of(subject)
    if flags.get("lora_ckpt_source", "hf") != "hf":
        return
    for flag, path in path_values(flags):
        if flag.name == "lora_dir" and _exists(path) and not _exists(path / "adapter_config.json"):
            message = f"{path} holds no adapter_config.json"
            yield Problem((*PATH, flag.name), message, "name a directory that PEFT saved an adapter to")


def _too_new(subject: Subject) -> Iterator[Problem]:
    pinned = subject.recipe.engine.tensorrt_llm
    version, names = parse_version(pinned), aliases()
    for name in flags_of(subject):
        flag = build_flags().get(names.get(name, name))
        last = parse_version(flag.absent_up_to) if flag is not None and flag.absent_up_to else None
        if version is not None and last is not None and version[:2] <= last[:2]:
            message = (
                f"TensorRT-LLM {pinned} has no --{name}; it came after {flag.absent_up_to if flag else ''}"
            )
            yield Problem((*PATH, name), message, "remove it, or set engine.tensorrt_llm: 1.2.1")


def _without_engine(subject: Subject) -> Iterator[Problem]:
    flags = flags_of(subject)
    if flags.get("dry_run") is True:
        message = "a dry run writes no engine, so that there would be nothing to serve"
        yield Problem((*PATH, "dry_run"), message, "remove it; bwdeploy plan shows the command line")
    if flags.get("strip_plan") is True:
        message = "the engine has no weights in it, and bwdeploy does not refit them"
        yield Problem((*PATH, "strip_plan"), message, "remove it, or run trtllm-refit yourself", "warning")


RULES = (
    flag_rule(
        "path",
        "error",
        "a file that is not there",
        _paths,
        why="The build stops on it after the checkpoint has been quantized; a missing timing cache is "
        "skipped without a word.",
    ),
    flag_rule(
        "adapter",
        "error",
        "a LoRA directory without an adapter",
        _adapters,
        source="tensorrt_llm/lora_manager.py (HfLoraLoader)",
        why="trtllm-build raises ValueError after it has read the whole checkpoint.",
    ),
    flag_rule(
        "too-new",
        "error",
        "an option that the pinned version does not have yet",
        _too_new,
        source="config.json of an engine of TensorRT-LLM 0.17.0.post1",
        why="trtllm-build stops with its usage text, after the checkpoint has been quantized and converted.",
    ),
    flag_rule(
        "without-engine",
        "error",
        "options that leave nothing to serve",
        _without_engine,
        why="The build would end, after its longest stage, without an engine that answers.",
    ),
)
