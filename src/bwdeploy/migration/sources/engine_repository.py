"""An inflight_batcher_llm model repository: the template keys behind its five config.pbtxt, and its engine.

The engine directory is followed where it is on this machine; without it the sizes are trtllm-build's. An
unfilled `${key}` counts as not set, as it does in the server.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from google.protobuf import text_format

from bwdeploy.engines.checkpoint import is_engine
from bwdeploy.facts.engine_to_pytorch import BUILD
from bwdeploy.facts.triton_templates import EngineModel, engine_models, key_in
from bwdeploy.migration.deployment import EngineDeployment, Setting, WeightsClue
from bwdeploy.migration.engine_recipe import engine_recipe
from bwdeploy.migration.files import read_text, source_error
from bwdeploy.migration.found import Note
from bwdeploy.migration.repository_place import CONFIG, ENGINE_MODEL, Repository, repository_at
from bwdeploy.migration.sources.engine import engine_deployment
from bwdeploy.migration.values import is_unfilled
from bwdeploy.migration.weights import source_of_place
from bwdeploy.serving.model_config import parse_pbtxt

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bwdeploy.migration.found import Found, Wanted

_BATCH = "triton_max_batch_size"
_BARE = re.compile(r"\b\w+\s*:\s*(?:\[\s*)?(\$\{\w+\})(?:\s*\])?", re.ASCII)
"""A field whose value was never filled in, where the parser takes no text: `max_batch_size: ${…}`."""
_OWN = {
    "preprocessing": {"max_seq_len", "vocab_size"},
    "tensorrt_llm_bls": {"exclude_input_in_output"},
}
"""Parameters that only bwdeploy's models have; a build writes them from what the recipe says elsewhere."""
_TOKENIZERS = ("preprocessing", "postprocessing", ENGINE_MODEL)


class _Config(NamedTuple):
    """One config.pbtxt."""

    message: Any
    unfilled: tuple[str, ...]
    """`${key}` of fields that are no text."""


def recognizes(path: Path) -> bool:
    """Whether `path` is a repository with a model that names an engine, or that model, or its file."""
    return repository_at(path) is not None


def read(path: Path, wanted: Wanted) -> Found:
    """The repository at `path` as a recipe.

    Raises:
        RecipeError: a config.pbtxt or the engine's config.json cannot be used.
    """
    return engine_recipe(repository_deployment(path), wanted)


def repository_deployment(path: Path) -> EngineDeployment:
    """The repository at `path`, with the engine it names where that is here.

    Raises:
        RecipeError: a config.pbtxt or the engine's config.json cannot be used.
    """
    repository = repository_at(path) or Repository(path, ENGINE_MODEL)
    files = {name: repository.place(name) / CONFIG for name in engine_models()}
    configs = {name: _parsed(file) for name, file in files.items() if file.is_file()}
    every = [
        one
        for name, config in configs.items()
        for one in _all_settings(engine_models()[name], config, f"{files[name].parent.name}/{CONFIG}")
    ]
    settings = [one for one in every if not is_unfilled(one.value)]
    engine, engine_notes = _engine(repository, settings)
    notes = [*engine_notes, *_unfilled(every), *_strange_models(repository), *_other_name(repository)]
    weights = _weights(repository.path, settings)
    settings = _with_batch(settings, engine)
    base = engine or EngineDeployment(kind="", name="")
    return base._replace(
        kind=f"inflight_batcher_llm repository{f' with an {engine.kind}' if engine else ''}",
        name=repository.path.absolute().name,
        weights=weights._replace(shape=base.weights.shape),
        settings=(*base.settings, *settings),
        notes=(*base.notes, *notes),
    )


def _all_settings(model: EngineModel, config: _Config, place: str) -> Iterator[Setting]:
    """What a config.pbtxt sets, and with their `${key}` the fields that it leaves unfilled."""
    for one in _settings(model, config.message, place):
        if f"${{{one.key}}}" not in config.unfilled:
            yield one
    for text in config.unfilled:
        yield Setting(model.name, text[2:-1], text, place)


def _settings(model: EngineModel, config: Any, place: str) -> Iterator[Setting]:  # noqa: ANN401 - generated class
    yield from _parameters(model, config, place)
    if config.max_batch_size:
        yield Setting(model.name, "triton_max_batch_size", config.max_batch_size, f"{place} max_batch_size")
    if (key := key_in(model.backend)) and config.backend:
        yield Setting(model.name, key, config.backend, f"{place} backend")
    if model.decoupled:
        decoupled = config.model_transaction_policy.decoupled
        yield Setting(model.name, "decoupled_mode", decoupled, f"{place} model_transaction_policy.decoupled")
    if model.instances and not model.instances.isdecimal() and config.instance_group:
        yield Setting(model.name, model.instances, config.instance_group[0].count, f"{place} instance_group")
    if model.queue == "bounded":
        yield from _queue_settings(model, config, place)
    yield from _tensor_types(model, config, place)


def _parameters(model: EngineModel, config: Any, place: str) -> Iterator[Setting]:  # noqa: ANN401 - generated class
    """In the order of the template; what it does not have comes last."""
    unknown = sorted(set(config.parameters) - set(model.parameters) - _OWN.get(model.name, set()))
    for name in (*model.parameters, *unknown):
        key = name if name in unknown else key_in(model.parameters[name])
        text = config.parameters[name].string_value if name in config.parameters else ""
        if key and text:
            yield Setting(model.name, key, text, f"{place} parameters.{name}")


def _tensor_types(model: EngineModel, config: Any, place: str) -> Iterator[Setting]:  # noqa: ANN401 - generated class
    """Types that the template leaves open, such as that of logits."""
    keys = {tensor.name: key_in(tensor.type) for tensor in (*model.inputs, *model.outputs)}
    said: dict[str, Setting] = {}
    for tensor in (*config.input, *config.output):
        key = keys.get(tensor.name)
        if key and tensor.data_type:
            names = tensor.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number
            said.setdefault(
                key, Setting(model.name, key, names[tensor.data_type].name, f"{place} {tensor.name}")
            )
    yield from said.values()


def _queue_settings(model: EngineModel, config: Any, place: str) -> Iterator[Setting]:  # noqa: ANN401
    batching = config.dynamic_batching
    delay = batching.max_queue_delay_microseconds
    if delay:
        yield Setting(model.name, "max_queue_delay_microseconds", delay, f"{place} dynamic_batching")
    size = batching.default_queue_policy.max_queue_size
    if config.HasField("dynamic_batching"):
        yield Setting(model.name, "max_queue_size", size, f"{place} dynamic_batching.default_queue_policy")


def _engine(repository: Repository, settings: list[Setting]) -> tuple[EngineDeployment | None, list[Note]]:
    """The engine that the repository names, when it lies on this machine."""
    named = next((one for one in settings if (one.group, one.key) == (ENGINE_MODEL, "engine_dir")), None)
    if named is None:
        message = "the repository names no engine, so that its sizes and ranks are not known"
        return None, [
            Note("assumed", f"{ENGINE_MODEL} engine_dir", None, message, "migrate the engine directory")
        ]
    for place in _places(repository, str(named.value)):
        if is_engine(place):
            return engine_deployment(place), []
    message = "there is no engine at that place on this machine, so that its sizes and ranks are not known"
    return None, [
        Note("assumed", named.place, named.value, message, "migrate the engine directory where it is")
    ]


def _places(repository: Repository, named: str) -> Iterator[Path]:
    """Where the engine may be: as named, relative to its model, or below the mount of the repository."""
    path, model = repository.path, repository.place(ENGINE_MODEL)
    for start in (model / "1", model, path):
        yield start / named
    parts = PurePosixPath(named).parts
    yield from (path.joinpath(*parts[at:]) for at in range(1, len(parts)) if parts[0] == "/")


def _weights(path: Path, settings: list[Setting]) -> WeightsClue:
    for one in settings:
        if one.group in _TOKENIZERS and one.key == "tokenizer_dir":
            source = source_of_place(str(one.value), start=path)
            if source:
                return WeightsClue(source, f"{one.place}: it holds a whole model")
    return WeightsClue()


def _with_batch(settings: list[Setting], engine: EngineDeployment | None) -> list[Setting]:
    """Triton's batch is the engine's, as far as that is not known, and is said once."""
    said = next((one for one in settings if (one.group, one.key) == (ENGINE_MODEL, _BATCH)), None)
    batch = engine.build_value("max_batch_size") if engine else (said.value if said else None)
    rest = [one for one in settings if one.key != _BATCH or one.value != batch]
    if engine is None and said is not None:
        rest.append(Setting(BUILD, "max_batch_size", said.value, said.place))
    return rest


def _unfilled(settings: list[Setting]) -> Iterator[Note]:
    """One note for each model."""
    for name in dict.fromkeys(one.group for one in settings):
        keys = [one.key for one in settings if one.group == name and is_unfilled(one.value)]
        if keys:
            names = ", ".join(dict.fromkeys(keys))
            message = f"nobody filled in {names}; the server takes them for not set, and so does the recipe"
            yield Note("no-effect", f"{name}/{CONFIG} ${{…}}", None, message)


def _other_name(repository: Repository) -> Iterator[Note]:
    if repository.engine_model != ENGINE_MODEL:
        message = (
            f"the model with the engine is called {ENGINE_MODEL} in the repository that the build writes"
        )
        hint = "ask for ensemble there, or rename what your clients ask for"
        yield Note("changed", "model name", repository.engine_model, message, hint)


def _strange_models(repository: Repository) -> Iterator[Note]:
    """Models that are none of the five."""
    try:
        names = sorted(entry.name for entry in repository.path.iterdir() if (entry / CONFIG).is_file())
    except OSError:
        return
    for name in names:
        if name not in {*engine_models(), repository.engine_model}:
            message = (
                "this model is none of the five that serve an engine, and the recipe has no place for it"
            )
            yield Note("lost", name, None, message, "copy it into the repository that the build writes")


def _parsed(path: Path) -> _Config:
    text = read_text(path)
    try:
        message = parse_pbtxt(_BARE.sub("", text))
    except text_format.ParseError as error:
        hint = "copy the file again, or fill the template in with tools/fill_template.py"
        raise source_error(path, f"is no config.pbtxt: {error}", hint) from None
    return _Config(message, tuple(dict.fromkeys(_BARE.findall(text))))
