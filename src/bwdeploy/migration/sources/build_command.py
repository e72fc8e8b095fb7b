"""A script or command line with trtllm-build: its options, and those of the scripts that made its checkpoint.

Shell is not run: lines are joined, comments dropped, words split, and variables that the script itself sets
to a plain word are filled in. The last trtllm-build counts, with the convert_checkpoint.py or quantize.py
before it.
"""

from __future__ import annotations

import re
import shlex
from pathlib import PurePath
from typing import TYPE_CHECKING, NamedTuple

from bwdeploy.engines.command import parse_build_command
from bwdeploy.facts.engine_to_pytorch import BUILD
from bwdeploy.migration.deployment import EngineDeployment, Quantized, Setting, WeightsClue
from bwdeploy.migration.engine_recipe import engine_recipe
from bwdeploy.migration.files import peek, read_text, source_error
from bwdeploy.migration.found import Note
from bwdeploy.migration.quantization import algorithm_of_qformat
from bwdeploy.migration.weights import source_of_place

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from bwdeploy.engines.command import CommandProblem, ParsedCommand
    from bwdeploy.migration.found import Found, Wanted

_PROGRAM = "trtllm-build"
_CONVERTERS = ("convert_checkpoint.py", "quantize.py")
_ASSIGNMENT = re.compile(r"(?:export\s+|readonly\s+|local\s+)*([A-Za-z_]\w*)=(\S*)", re.ASCII)
_VARIABLE = re.compile(
    r"\$(?:\{(?P<braced>[A-Za-z_]\w*)(?::-(?P<default>[^}]*))?\}|(?P<bare>[A-Za-z_]\w*))", re.ASCII
)
_ENDS = frozenset({"&&", "||", "|", ";", "&", ">", ">>", "2>&1", "<"})
_MODEL_OPTIONS = ("model_dir", "hf_model_dir", "hf_model", "model_path")
_WEIGHT_ONLY = {"int8": "W8A16", "int4": "W4A16", "int4_gptq": "W4A16_GPTQ", "int4_awq": "W4A16_AWQ"}
_EFFECTS = {"invalid": "lost", "unknown": "lost", "layout": "no-effect", "checkpoint": "no-effect"}


class _Conversion(NamedTuple):
    """What the scripts before trtllm-build said."""

    options: dict[str, str]
    program: str


def recognizes(path: Path) -> bool:
    """Whether `path` is a text in which trtllm-build is called."""
    return path.is_file() and any(_command_of(words, (_PROGRAM,)) for words in _commands(peek(path)))


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
    commands = list(_commands(text))
    builds = [at for at, words in enumerate(commands) if _command_of(words, (_PROGRAM,))]
    if not builds:
        hint = "write --command 'trtllm-build --checkpoint_dir … --output_dir …'"
        raise source_error(None, "no trtllm-build is called here", hint)
    parsed = parse_build_command(_command_of(commands[builds[-1]], (_PROGRAM,))[1:])
    conversion = _conversion(commands[: builds[-1]])
    tp, pp = (_whole(conversion.options.get(key)) for key in ("tp_size", "pp_size"))
    return EngineDeployment(
        kind=f"command line of {_PROGRAM}",
        name=name,
        weights=_weights(conversion, start),
        quantized=_quantized(conversion),
        tp=tp,
        pp=pp,
        layout_place=f"{conversion.program} --tp_size" if conversion.program else "",
        settings=tuple(_settings(parsed)),
        notes=(*_several(builds), *map(_note, parsed.problems), *_unfilled(commands[builds[-1]])),
    )


def _settings(parsed: ParsedCommand) -> Iterator[Setting]:
    for key, value in parsed.flags.items():
        yield Setting(BUILD, key, value, f"--{key}")
    answer = next((one.value for one in parsed.problems if one.flag == "max_output_len"), None)
    prompt = parsed.flags.get("max_input_len")
    if answer and answer.isdecimal() and prompt and "max_seq_len" not in parsed.flags:
        # Before 0.12 the two lengths were said apart.
        yield Setting(BUILD, "max_seq_len", prompt + int(answer), "--max_input_len + --max_output_len")


def _commands(text: str) -> Iterator[list[str]]:
    """The commands of a script as words, with its own variables filled in."""
    variables: dict[str, str] = {}
    for line in re.sub(r"\\\r?\n", " ", text).splitlines():
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        words = _words(_filled(stripped, variables))
        assigned = _ASSIGNMENT.fullmatch(" ".join(words)) if words else None
        if assigned:
            variables[assigned[1]] = assigned[2]
        yield from _split(words)


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line, comments=True)
    except ValueError:  # a quotation mark without its other half
        return line.split()


def _filled(line: str, variables: Mapping[str, str]) -> str:
    def value(found: re.Match[str]) -> str:
        name = found["braced"] or found["bare"]
        return variables.get(name, found["default"] if found["default"] is not None else found[0])

    return _VARIABLE.sub(value, line)


def _split(words: Sequence[str]) -> Iterator[list[str]]:
    command: list[str] = []
    for word in words:
        if word in _ENDS or word.endswith(";"):
            yield [*command, *([word.rstrip(";")] if word not in _ENDS and word != ";" else [])]
            command = []
        else:
            command.append(word)
    yield command


def _command_of(words: Sequence[str], programs: Iterable[str]) -> list[str]:
    """The program and what follows it; what starts it (`mpirun -n 2`, `FOO=1`, `python3`) is cut off."""
    for at, word in enumerate(words):
        if PurePath(word).name in programs:
            return list(words[at:])
    return []


def _conversion(commands: Sequence[Sequence[str]]) -> _Conversion:
    options: dict[str, str] = {}
    program = ""
    for words in commands:
        command = _command_of(words, _CONVERTERS)
        if command:
            program = PurePath(command[0]).name
            options |= _options(command[1:])
    return _Conversion(options, program)


def _options(words: Sequence[str]) -> dict[str, str]:
    """`--a b`, `--a=b` and bare `--a` (an empty value)."""
    found: dict[str, str] = {}
    key = ""
    for word in words:
        if word.startswith("--"):
            key, _, value = word[2:].partition("=")
            found[key] = value
        elif key and not found[key]:
            found[key] = word
    return found


def _weights(conversion: _Conversion, start: Path | None) -> WeightsClue:
    for key in _MODEL_OPTIONS:
        source = source_of_place(conversion.options[key], start=start) if conversion.options.get(key) else ""
        if source:
            return WeightsClue(source, f"{conversion.program} --{key}")
    return WeightsClue()


def _quantized(conversion: _Conversion) -> Quantized:
    options, place = conversion.options, conversion.program
    if "qformat" in options:
        algorithm = algorithm_of_qformat(options["qformat"].split(",")[0])
        place = f"{place} --qformat {options['qformat']}"
    elif "use_fp8" in options or "enable_fp8" in options:
        algorithm = "FP8"
    elif "use_fp8_rowwise" in options:
        algorithm = "FP8_PER_CHANNEL_PER_TOKEN"
    elif "use_weight_only" in options:
        word = options.get("weight_only_precision") or "int8"
        algorithm = _WEIGHT_ONLY.get(word, word.upper())
    elif "smoothquant" in options:
        algorithm = "W8A8_SQ_PER_CHANNEL"
    else:
        algorithm = ""
    return Quantized(algorithm, _kv_cache(options), place or "the command line")


def _kv_cache(options: Mapping[str, str]) -> str:
    if "fp8_kv_cache" in options:
        return "FP8"
    if "int8_kv_cache" in options:
        return "INT8"
    word = options.get("kv_cache_dtype", "")
    return word.upper() if word.lower() not in {"", "none", "auto", "float16", "bfloat16"} else ""


def _whole(text: str | None) -> int:
    return int(text) if text is not None and text.isdecimal() and 0 < int(text[:4]) <= 1024 else 1  # noqa: PLR2004


def _note(problem: CommandProblem) -> Note:
    key = f"--{problem.flag}" if problem.flag else "command line"
    effect = _EFFECTS.get(problem.effect, problem.effect)
    return Note(effect, key, problem.value, problem.message, problem.hint)  # type: ignore[arg-type]


def _several(builds: Sequence[int]) -> Iterator[Note]:
    if len(builds) > 1:
        message = "trtllm-build is called several times; the recipe is of the last one"
        yield Note("lost", "script", f"{len(builds)} commands", message, "migrate each with --command")


def _unfilled(words: Iterable[str]) -> Iterator[Note]:
    for word in words:
        if _VARIABLE.search(word):
            message = "the script does not set this variable to a plain value"
            yield Note("lost", "script", word, message, "write the command with its values and use --command")
