"""A Triton `llmapi` repository: model.yaml with the LLM API's arguments, and the config.pbtxt beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf import text_format

from bwdeploy.migration.files import peek, read_text, source_error
from bwdeploy.migration.found import Found, Note, Wanted
from bwdeploy.migration.llm_api_recipe import LlmApiDeployment, llm_api_recipe
from bwdeploy.migration.sources.llm_args_yaml import without_variables
from bwdeploy.recipe.document import parse_document
from bwdeploy.serving.model_config import parse_pbtxt

if TYPE_CHECKING:
    from pathlib import Path

MODEL_YAML = "model.yaml"
_CONFIG = "config.pbtxt"
_TRITON = "triton_config"
_PROCESSORS = "logits_post_processors"
_GUIDE = "triton-inference-server/server docs/getting_started/llm.md"
_DEVICES = "gpu_device_ids"
_DEFAULT_PERIOD_MS = 100


def recognizes(path: Path) -> bool:
    """Whether `path` is such a repository, one of its models, or the model.yaml itself."""
    return _model_yaml(path) is not None


def read(path: Path, wanted: Wanted) -> Found:
    """The deployment as a recipe.

    Raises:
        RecipeError: model.yaml or config.pbtxt cannot be used.
    """
    file = _model_yaml(path)
    if file is None:
        raise source_error(path, "there is no model.yaml", f"name the directory above */1/{MODEL_YAML}")
    data = parse_document(read_text(file), file=str(file)).data
    if not isinstance(data, dict):
        raise source_error(file, "this is no mapping of arguments", "a line looks like `model: org/name`")
    triton, processors = data.pop(_TRITON, None), data.pop(_PROCESSORS, None)
    config = _config(file.parent.parent / _CONFIG)
    arguments, unfilled = without_variables(data)
    serve, notes = _serving(config, triton if isinstance(triton, dict) else {}, file)
    model = data.get("model")
    deployment = LlmApiDeployment(
        kind="Triton llmapi repository",
        file=file,
        arguments=arguments,
        model=model if isinstance(model, str) else "",
        name=serve["model_name"],
        serve=serve,
        notes=(*unfilled, *notes, *_processors(processors)),
    )
    return llm_api_recipe(deployment, wanted)


def _model_yaml(path: Path) -> Path | None:
    """The first model.yaml of a repository, of a model directory, or `path` itself."""
    if path.is_file():
        return path if path.name == MODEL_YAML and f"{_TRITON}:" in peek(path) else None
    if not path.is_dir():
        return None
    found = sorted((*path.glob(f"[0-9]*/{MODEL_YAML}"), *path.glob(f"*/[0-9]*/{MODEL_YAML}")))
    return found[0] if found else None


def _config(file: Path) -> Any:  # noqa: ANN401 - generated message class
    """The config.pbtxt as a message, None when there is none."""
    if not file.is_file():
        return None
    try:
        return parse_pbtxt(read_text(file))
    except text_format.ParseError as error:
        hint = "fill in its ${…} keys, or name the model.yaml alone"
        raise source_error(file, f"is no config.pbtxt: {error}", hint) from None


def _serving(config: Any, triton: dict[str, Any], file: Path) -> tuple[dict[str, Any], list[Note]]:  # noqa: ANN401
    notes: list[Note] = []
    name = config.name if config is not None and config.name else file.parent.parent.name or "tensorrt_llm"
    streaming = (
        bool(config.model_transaction_policy.decoupled)
        if config is not None
        else bool(triton.get("decoupled"))
    )
    serve: dict[str, Any] = {"model_name": name, "streaming": streaming}
    if triton.get("decoupled") is True and not streaming:
        message = (
            "config.pbtxt does not say decoupled, and the launcher reads nothing else: it never streamed"
        )
        hint = "set serve.streaming: true if streaming is what you want"
        notes.append(
            Note("no-effect", f"{_TRITON}.decoupled", value=True, message=message, hint=hint, source=_GUIDE)
        )
    period = triton.get("cancellation_check_period_ms", _DEFAULT_PERIOD_MS)
    if isinstance(period, int) and period != _DEFAULT_PERIOD_MS:
        serve["cancellation_check_period_ms"] = period
    if triton.get("max_batch_size"):
        message = "Triton's own batching; the LLM API batches inside, so the recipe's model has none"
        notes.append(
            Note("changed", f"{_TRITON}.max_batch_size", triton["max_batch_size"], message, "", _GUIDE)
        )
    notes.extend(_instances(config))
    return serve, notes


def _processors(named: object) -> list[Note]:
    if not named:
        return []
    message = "requests chose these by name from the Triton model; a recipe's model has no such input"
    return [Note("lost", _PROCESSORS, named, message, "", _GUIDE)]


def _instances(config: Any) -> list[Note]:  # noqa: ANN401 - generated message class
    if config is None:
        return []
    count = sum(max(group.count, 1) for group in config.instance_group)
    notes = []
    if count > 1:
        hint = "start the recipe's server several times, on GPUs of their own"
        notes.append(
            Note("lost", "instance_group.count", count, "a recipe's model has one instance", hint, _GUIDE)
        )
    if _DEVICES in config.parameters:
        value = config.parameters[_DEVICES].string_value
        notes.append(
            Note("lost", _DEVICES, value, "the recipe takes the visible GPUs", "set CUDA_VISIBLE_DEVICES")
        )
    return notes
