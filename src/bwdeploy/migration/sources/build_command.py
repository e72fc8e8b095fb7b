"""A script or command line with trtllm-build: its options, and those of the script that made its checkpoint.

The last trtllm-build counts, with the convert_checkpoint.py or quantize.py before it that wrote its
checkpoint. How a script is read is said in `shell_text`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.engines.command import parse_build_command
from bwdeploy.facts.engine_to_pytorch import BUILD
from bwdeploy.facts.llm_api_options import PROGRAMS
from bwdeploy.migration.conversion_script import (
    conversion_notes,
    conversion_of,
    converted_heads,
    converted_quantization,
    converted_weights,
)
from bwdeploy.migration.deployment import EngineDeployment, Setting
from bwdeploy.migration.engine_recipe import engine_recipe
from bwdeploy.migration.files import peek, read_text, source_error
from bwdeploy.migration.found import Note
from bwdeploy.migration.shell_text import VARIABLE, command_of, commands, fetched_models, version_named

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from bwdeploy.engines.command import CommandProblem, ParsedCommand
    from bwdeploy.migration.found import Effect, Found, Wanted

_PROGRAM = "trtllm-build"
_BUILDERS = (_PROGRAM, "tensorrt_llm.commands.build")
"""The same program, by its name and as `python -m …`."""
_EFFECTS: dict[str, Effect] = {
    "invalid": "lost",
    "unknown": "lost",
    "lost": "lost",
    "renamed": "renamed",
    "no-effect": "no-effect",
    "layout": "no-effect",
    "checkpoint": "no-effect",
}


def recognizes(path: Path) -> bool:
    """Whether `path` is a text in which trtllm-build is called."""
    return path.is_file() and any(map(_build_of, commands(peek(path))))


def read(path: Path, wanted: Wanted) -> Found:
    """The last trtllm-build of a script as a recipe.

    Raises:
        RecipeError: it cannot be read.
    """
    return engine_recipe(script_deployment(read_text(path), name=path.stem, start=path.parent), wanted)


def read_command(text: str, wanted: Wanted) -> Found:
    """A command line that was given itself as a recipe.

    Raises:
        RecipeError: there is no trtllm-build in it.
    """
    return engine_recipe(script_deployment(text, name="engine", start=None), wanted)


def script_deployment(text: str, *, name: str, start: Path | None) -> EngineDeployment:
    """The engine that the script `text` builds; relative paths begin at `start`.

    Raises:
        RecipeError: there is no trtllm-build in it.
    """
    script = list(commands(text))
    builds = [at for at, words in enumerate(script) if _build_of(words)]
    if not builds:
        hint = "write --command 'trtllm-build --checkpoint_dir … --output_dir …'"
        raise source_error(None, "no trtllm-build is called here", hint)
    parsed = parse_build_command(_build_of(script[builds[-1]])[1:])
    conversion = conversion_of(script[: builds[-1]], str(parsed.flags.get("checkpoint_dir", "")))
    fetched = fetched_models(script)
    return EngineDeployment(
        kind=f"command line of {_PROGRAM}",
        name=name,
        version=version_named(text),
        weights=converted_weights(conversion, fetched, start),
        quantized=converted_quantization(conversion),
        heads=converted_heads(conversion, start),
        tp=conversion.ranks("tp_size"),
        pp=conversion.ranks("pp_size"),
        ep=conversion.ranks("moe_ep_size"),
        layout_place=f"{conversion.program} --tp_size, --pp_size" if conversion.program else "",
        settings=tuple(_settings(parsed)),
        notes=(
            *conversion_notes(conversion),
            *_several(script, builds),
            *map(_note, parsed.problems),
            *_unfilled(script[builds[-1]]),
        ),
    )


def _settings(parsed: ParsedCommand) -> Iterator[Setting]:
    for key, value in parsed.flags.items():
        yield Setting(BUILD, key, value, f"--{key}")
    answer = next((one.value for one in parsed.problems if one.flag == "max_output_len"), None)
    prompt = parsed.flags.get("max_input_len")
    if answer and answer.isdecimal() and prompt and "max_seq_len" not in parsed.flags:
        # Before 0.12 the two lengths were said apart.
        yield Setting(BUILD, "max_seq_len", prompt + int(answer), "--max_input_len + --max_output_len")


def _build_of(words: Sequence[str]) -> list[str]:
    """The trtllm-build in a command; prose that only names it has no options."""
    command = command_of(words, _BUILDERS)
    return command if any(word.startswith("--") for word in command) else []


def _note(problem: CommandProblem) -> Note:
    key = f"--{problem.flag}" if problem.flag else "command line"
    return Note(_EFFECTS[problem.effect], key, problem.value, problem.message, problem.hint)


def _several(script: Sequence[Sequence[str]], builds: Sequence[int]) -> Iterator[Note]:
    if len(builds) > 1:
        message = "trtllm-build is called several times; the recipe is of the last one"
        yield Note("lost", "script", f"{len(builds)} commands", message, "migrate each with --command")
    for words in script:
        served = command_of(words, PROGRAMS)
        if any(word.startswith("-") for word in served):
            message = "how the script serves the engine is not read"
            hint = "set serve and serve.engine_parameters in the recipe"
            yield Note("lost", served[0], " ".join(served[1:]), message, hint)


def _unfilled(words: Iterable[str]) -> Iterator[Note]:
    for word in words:
        if VARIABLE.search(word):
            message = "the script does not set this variable to a plain value"
            yield Note("lost", "script", word, message, "write the command with its values and use --command")
