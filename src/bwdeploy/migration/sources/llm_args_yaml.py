"""LLM API arguments of 0.17 to 1.4: the YAML of trtllm-serve or trtllm-bench, or a script that starts one.

The YAML may stand in the script itself, as published guides have it (see `launch_script`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from bwdeploy.errors import RecipeError
from bwdeploy.facts.llm_api_options import FILE, MODEL, MODEL_PATH, launch_options
from bwdeploy.facts.llm_arg_spellings import concepts, containers, translated_versions
from bwdeploy.migration.argument_lists import argument_list
from bwdeploy.migration.files import peek, read_text, source_error
from bwdeploy.migration.found import Found, Note, Wanted
from bwdeploy.migration.launch_script import Launch, file_named, read_launch, starts_llm_api
from bwdeploy.migration.llm_api_recipe import LlmApiDeployment, llm_api_recipe
from bwdeploy.migration.values import ValueMisfitError, value_of
from bwdeploy.recipe.document import parse_document

if TYPE_CHECKING:
    from pathlib import Path

_YAML = (".yaml", ".yml")
_NOT_OURS = frozenset({"schema", "trt_llm", "triton_config"})
"""Keys of recipes, of Truss files and of Triton's model.yaml."""
_VARIABLE = re.compile(r"\$\{?\w+\}?")
_SUBCOMMANDS = frozenset({"throughput", "latency", "serve"})
_OPTIONS = "tests/unittest/api_stability/references/trtllm_serve_cli.yaml"


def recognizes(path: Path) -> bool:
    """Whether `path` is a YAML file of arguments, or a text that starts the LLM API."""
    if not path.is_file():
        return False
    text = peek(path)
    if path.suffix in _YAML:
        data = _peek_yaml(text)
        return not _NOT_OURS & set(data) and any(key in _top_level_keys() for key in data)
    return starts_llm_api(text)


def read(path: Path, wanted: Wanted) -> Found:
    """The deployment as a recipe.

    Raises:
        RecipeError: it is no YAML of arguments, or the script names a YAML that is not there.
    """
    text = read_text(path)
    if path.suffix in _YAML:
        data = _parsed(text, path)
        deployment = LlmApiDeployment("YAML file of LLM API arguments", path, data, model=_model_of(data))
    else:
        deployment = _of_script(text, path)
    arguments, unfilled = without_variables(deployment.arguments)
    deployment = deployment._replace(arguments=arguments, notes=(*deployment.notes, *unfilled))
    return llm_api_recipe(deployment, wanted)


def without_variables(arguments: dict[str, Any]) -> tuple[dict[str, Any], tuple[Note, ...]]:
    """`arguments` without values that a shell would have filled in."""
    kept: dict[str, Any] = {}
    notes: list[Note] = []
    for key, value in arguments.items():
        if isinstance(value, dict):
            kept[key], below = without_variables(value)
            notes.extend(note._replace(key=f"{key}.{note.key}") for note in below)
        elif isinstance(value, str) and _VARIABLE.search(value):
            message = "a shell variable whose value is not known here"
            notes.append(Note("lost", key, value, message, "set it in the recipe by hand"))
        else:
            kept[key] = value
    return kept, tuple(notes)


# A command line


def _of_script(text: str, path: Path) -> LlmApiDeployment:
    launch = read_launch(text)
    if launch is None:
        hint = "give it its options: --tp_size, --extra_llm_api_options FILE"
        raise source_error(path, "no command line here starts the LLM API with options", hint)
    given = _Given(path)
    given.read(launch)
    arguments = _merged(given.arguments, given.file_arguments(launch), given.notes)
    if launch.others:
        message = f"{launch.others} further command lines of this kind are not read"
        given.notes.append(Note("lost", launch.program, None, message, "put each into a file of its own"))
    return LlmApiDeployment(
        kind=f"{launch.program} command line",
        file=path,
        arguments=arguments,
        model=given.model,
        model_path=given.model_path,
        environment=launch.environment,
        notes=tuple(given.notes),
    )


class _Given:
    """What the options of a command line give."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.arguments: dict[str, Any] = {}
        self.model = self.model_path = self.file = ""
        self.notes: list[Note] = []

    def read(self, launch: Launch) -> None:
        """Take every option of `launch`."""
        options, words = launch_options(launch.program), list(launch.words)
        while words:
            word = words.pop(0)
            name, equals, value = word.partition("=")
            option = options.get(name)
            if not word.startswith("-"):
                self._positional(word)
            elif option is None:
                self._unknown(name, words)
            elif option.kind == "switch":
                self._take(name, option.argument or "", not value or value.lower() == "true", option.why)
            elif equals or words:
                text = value if equals else words.pop(0)
                self._valued(name, text, launch.program)

    def file_arguments(self, launch: Launch) -> dict[str, Any]:
        """The arguments of the YAML file that the command line names."""
        if not self.file:
            return {}
        text = file_named(launch, self.file)
        if text is None:
            text = read_text(self.path.parent / self.file)
        return _parsed(text, self.path)

    def _positional(self, word: str) -> None:
        if word not in _SUBCOMMANDS and not self.model:
            self.model = word

    def _unknown(self, name: str, words: list[str]) -> None:
        value = words.pop(0) if words and not words[0].startswith("-") else None
        self.notes.append(Note("lost", name, value, "no known option of this command", "", _OPTIONS))

    def _valued(self, name: str, text: str, program: str) -> None:
        option = launch_options(program)[name]
        try:
            self._take(name, option.argument, value_of(option.kind, text), option.why)
        except ValueMisfitError as misfit:
            message = f"should be {misfit}" if not _VARIABLE.search(text) else "a shell variable"
            self.notes.append(Note("lost", name, text, message, "set it in the recipe by hand", _OPTIONS))

    def _take(self, name: str, argument: str, value: Any, why: str) -> None:  # noqa: ANN401 - JSON data
        if argument == FILE:
            self.file = value
        elif argument == MODEL:
            self.model = value
        elif argument == MODEL_PATH:
            self.model_path = value
        elif argument:
            *above, last = argument.split(".")
            parent = self.arguments
            for word in above:
                parent = parent.setdefault(word, {})
            parent[last] = value
        else:
            self.notes.append(Note("no-effect", name, value, why, "", _OPTIONS))


def _merged(given: dict[str, Any], file: dict[str, Any], notes: list[Note]) -> dict[str, Any]:
    """Options and file together; the file wins, as up to 1.2."""
    merged = dict(given)
    for key, value in file.items():
        before = merged.get(key)
        if isinstance(before, dict) and isinstance(value, dict):
            merged[key] = _merged(before, value, notes)
            continue
        if key in merged and before != value:
            message = f"the command line said {before}; up to 1.2 the file wins"
            notes.append(Note("changed", key, value, message))
        merged[key] = value
    return merged


# YAML


def _top_level_keys() -> frozenset[str]:
    """Every key that some version has at the top."""
    spelled = {one.path[0] for concept in concepts() for one in concept.spellings}
    listed = [argument_list(version) for version in translated_versions()]
    known = {key for one in listed if one is not None for key in one.keys_at(())}
    return frozenset(spelled | known | {held[0] for held, _, _ in containers()}) - {"model", "name"}


def _peek_yaml(text: str) -> dict[str, Any]:
    try:
        data = parse_document(text).data
    except RecipeError:
        return {}
    return data if isinstance(data, dict) else {}


def _parsed(text: str, path: Path) -> dict[str, Any]:
    data = parse_document(text, file=str(path)).data
    if not isinstance(data, dict):
        raise source_error(path, "this is no mapping of arguments", "a line looks like `max_batch_size: 8`")
    return data


def _model_of(data: dict[str, Any]) -> str:
    model = data.get("model")
    return model if isinstance(model, str) else ""
