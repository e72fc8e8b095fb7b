"""LLM API arguments of 0.17 to 1.4: the YAML of trtllm-serve or trtllm-bench, or a script that starts one.

The YAML may stand in the script itself, as published guides have it (see `launch_script`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bwdeploy.errors import RecipeError
from bwdeploy.facts.llm_arg_spellings import concepts, containers, translated_versions
from bwdeploy.facts.versions import parse_version
from bwdeploy.migration.argument_lists import argument_list
from bwdeploy.migration.files import peek, read_text, source_error
from bwdeploy.migration.found import Found, Note, Wanted
from bwdeploy.migration.launch_options import MODEL_NOTE, GivenOptions
from bwdeploy.migration.launch_script import read_launch, starts_llm_api
from bwdeploy.migration.llm_api_recipe import LlmApiDeployment, llm_api_recipe
from bwdeploy.migration.shell_text import VARIABLE
from bwdeploy.recipe.document import parse_document

if TYPE_CHECKING:
    from pathlib import Path

_YAML = (".yaml", ".yml")
_NOT_OURS = frozenset({"schema", "trt_llm", "triton_config"})
"""Keys of recipes, of Truss files and of Triton's model.yaml."""


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
        deployment = _of_script(text, path, wanted)
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
        elif _has_variable(value):
            message = "a shell variable whose value is not known here"
            notes.append(Note("lost", key, value, message, "set it in the recipe by hand"))
        else:
            kept[key] = value
    return kept, tuple(notes)


def _has_variable(value: object) -> bool:
    items = value if isinstance(value, list) else [value]
    return any(isinstance(item, str) and VARIABLE.search(item) for item in items)


# A command line


def _of_script(text: str, path: Path, wanted: Wanted) -> LlmApiDeployment:
    launch = read_launch(text)
    if launch is None:
        hint = "give it its options: --tp_size, --extra_llm_api_options FILE"
        raise source_error(path, "no command line here starts the LLM API with options", hint)
    given = GivenOptions(path)
    given.read(launch)
    in_file = given.file_text(launch)
    arguments = _merged(given.arguments, _parsed(in_file, path) if in_file else {}, given.notes)
    if launch.others:
        message = f"{launch.others} further command lines of this kind are not read"
        given.notes.append(Note("lost", launch.program, None, message, "put each into a file of its own"))
    for name in launch.appended:
        message = "the script adds to this file; everything is read, also what it adds under a condition only"
        given.notes.append(Note("assumed", name, None, message, "remove from the recipe what did not apply"))
    return LlmApiDeployment(
        kind=f"{launch.program} command line",
        file=path,
        arguments=arguments,
        model=given.model,
        model_path=given.model_path,
        version=launch.version if _is_translated(launch.version) else "",
        environment=launch.environment,
        notes=tuple(note for note in given.notes if note.key != MODEL_NOTE or not wanted.model),
    )


def _is_translated(version: str) -> bool:
    """Whether the arguments of `version` can be read."""
    found, first = parse_version(version), parse_version(translated_versions()[0])
    return found is not None and first is not None and found >= first and argument_list(version) is not None


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
