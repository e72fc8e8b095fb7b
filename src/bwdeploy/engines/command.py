"""The command line of trtllm-build: written from what a recipe says.

Every option is known with its type and choices (`facts.build_flags`), so that nothing reaches the program
that its parser would refuse. Words are separate and values never begin with a dash: no value can become an
option.
Reading a command line that somebody else wrote is in `written_command`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bwdeploy.engines.flag_values import misfit, wrong_words
from bwdeploy.engines.written_command import CommandProblem, ParsedCommand, parse_build_command
from bwdeploy.errors import Finding, RecipeError
from bwdeploy.facts.build_flags import BuildFlag, aliases, build_flags
from bwdeploy.recipe.words import nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = [
    "CommandProblem", "EngineRequest", "FlagPaths", "ParsedCommand", "build_command", "default_workers",
    "flag_paths", "parse_build_command",
]  # fmt: skip

PROGRAM = "trtllm-build"
_OF_THE_STAGE = frozenset(
    {
        "checkpoint_dir", "model_config", "build_config", "output_dir", "max_batch_size", "max_num_tokens",
        "max_seq_len",
    }
)  # fmt: skip
"""Said by the sections of a recipe, never by its build_flags."""


class EngineRequest(NamedTuple):
    """What trtllm-build is asked for."""

    checkpoint: Path
    """A TensorRT-LLM checkpoint."""
    out: Path
    max_batch_size: int
    max_num_tokens: int
    max_seq_len: int
    workers: int
    """Ranks built at once, each on a GPU of its own; `workers` of the build flags wins."""
    build_flags: Mapping[str, Any]
    """As in a recipe: names without dashes; true for a bare switch."""


class FlagPaths(NamedTuple):
    """Where the options of trtllm-build reach outside its own directories; absolute paths only."""

    reads: tuple[Path, ...]
    """Files and directories."""
    writes: tuple[Path, ...]
    """Directories; one that is missing has to be made before."""


def build_command(engine: EngineRequest) -> tuple[str, ...]:
    """The arguments after `trtllm-build`.

    Raises:
        RecipeError: with every option that does not exist, or whose value its parser would refuse.
    """
    problems = tuple(_problems(engine.build_flags))
    if problems:
        raise RecipeError(problems)
    names = aliases()
    given = {
        "checkpoint_dir": str(engine.checkpoint),
        "output_dir": str(engine.out),
        "max_batch_size": engine.max_batch_size,
        "max_num_tokens": engine.max_num_tokens,
        "max_seq_len": engine.max_seq_len,
        "workers": engine.workers,
    } | {names.get(name, name): value for name, value in engine.build_flags.items()}
    return tuple(
        word
        for flag in build_flags().values()
        if flag.name in given
        for word in _words(flag, given[flag.name])
    )


def default_workers(*, tp: int, pp: int, gpus_per_node: int) -> int:
    """Ranks to build at once: no more than there are ranks, nor GPUs to build them on."""
    return min(tp * pp, gpus_per_node)


def flag_paths(flags: Mapping[str, Any]) -> FlagPaths:
    """What `build_flags` of a recipe read and write beside the checkpoint and the engine.

    A relative path stays inside the directory that trtllm-build runs in, and is left out.
    """
    reads, writes = [], []
    for flag, path in path_values(flags):
        if not path.is_absolute():
            continue
        if flag.path == "read":
            reads.append(path)
        else:
            writes.append(path.parent if flag.name == "output_timing_cache" else path)
    return FlagPaths(tuple(dict.fromkeys(reads)), tuple(dict.fromkeys(writes)))


def path_values(flags: Mapping[str, Any]) -> Iterator[tuple[BuildFlag, Path]]:
    """Every path that an option in `flags` names, with the option."""
    for flag in build_flags().values():
        value = flags.get(flag.name) if flag.path else None
        for word in value if isinstance(value, list | tuple) else (value,):
            if isinstance(word, str) and word and "\0" not in word:
                yield flag, Path(word)


def _words(flag: BuildFlag, value: Any) -> tuple[str, ...]:  # noqa: ANN401 - judged before
    option = f"--{flag.name}"
    if flag.kind == "switch":
        return (option,) if value else ()
    return (option, *map(str, value)) if flag.kind == "list" else (option, str(value))


def _problems(flags: Mapping[str, Any]) -> Iterator[Finding]:
    known, names = build_flags(), aliases()
    for name, value in flags.items():
        flag = known.get(names.get(name, name))
        if flag is None:
            near = nearest(name, (*known, *names))
            hint = f"did you mean {near}" if near else "remove it, or look it up in trtllm-build --help"
            yield _finding(name, f"trtllm-build has no option --{name}", hint)
        elif flag.name in _OF_THE_STAGE:
            yield _finding(name, "the recipe says this elsewhere", "remove it here")
        elif expected := misfit(flag, value):
            yield _finding(name, f"expected {expected}", "write a value of that kind")
        elif wrong := wrong_words(flag, value):
            one_of = ", ".join(flag.choices)
            yield _finding(name, f"{wrong[0]!r} is not one of: {one_of}", "choose one of them")


def _finding(name: str, message: str, hint: str) -> Finding:
    path = f"engine.build_flags.{name}"
    return Finding(rule="build-flag-value", severity="error", path=path, message=message, hint=hint)
