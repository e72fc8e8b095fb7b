"""Rules on one model of a Triton repository: its config.pbtxt, its directories, its model.yaml.

Behaviour was measured with server 2.51; what it accepts although it is wrong is refused here.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from bwdeploy.checks.reading import DescribedRule
from bwdeploy.serving.repository_check.model import MODEL_YAML

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bwdeploy.serving.repository_check.model import ModelDirectory, RepositoryProblem

_GUIDE = "triton-inference-server/server docs/getting_started/llm.md"
_LLMAPI = "triton-inference-server/tensorrtllm_backend docs/llmapi.md"
_CONFIGURATION = "triton-inference-server/server docs/user_guide/model_configuration.md"
_FROM_CLIENT = ("image_url", "image_url_input", "lora_path", "lora_ckpt_source")
_ENVIRONMENT = "EXECUTION_ENV_PATH"
_PLAIN_PATH = re.compile(r"(?:\$\$TRITON_MODEL_DIRECTORY)?[A-Za-z0-9._/-]+")
_VERSION = re.compile(r"[1-9][0-9]*")
"""Triton ignores directories whose names start with 0."""
_KIND_AUTO, _KIND_GPU, _KIND_CPU = 0, 1, 2
_OUR_SETTINGS = "engine.json"


def _name(model: ModelDirectory) -> Iterator[RepositoryProblem]:
    if model.config.name and model.config.name != model.place.name:
        message = f"the model is named {model.config.name}, its directory {model.place.name}"
        hint = f'write name: "{model.place.name}", or rename the directory'
        yield model.problem("triton-model-name", message, hint, near="name")


def _versions(model: ModelDirectory) -> Iterator[RepositoryProblem]:
    present = {
        child.name for child in model.place.iterdir() if child.is_dir() and _VERSION.fullmatch(child.name)
    }
    if not present:
        message = f"{model.place.name} has no version directory"
        yield model.problem("triton-version-missing", message, f"make {model.place.name}/1")
    wanted = {str(number) for number in model.config.version_policy.specific.versions}
    if missing := sorted(wanted - present):
        message = f"version_policy names version {', '.join(missing)}, which does not exist"
        yield model.problem(
            "triton-version-missing", message, "name existing versions", near="version_policy"
        )


def _backend(model: ModelDirectory) -> Iterator[RepositoryProblem]:
    if not model.config.backend and not model.config.platform:
        message = "neither backend nor platform is named"
        yield model.problem("triton-backend-missing", message, 'write backend: "python"')


def _tensors(model: ModelDirectory) -> Iterator[RepositoryProblem]:
    for kind, items in (("input", model.config.input), ("output", model.config.output)):
        if not items:
            yield model.problem("triton-tensor-list", f"the model has no {kind}", f"list every {kind}")
        for name, count in Counter(item.name for item in items).items():
            same = all(item == named for item in items for named in items if item.name == named.name == name)
            if name and count > 1 and not (kind == "output" and same):  # upstream's ensemble has such a pair
                message = f"{kind} {name} stands there {count} times"
                yield model.problem("triton-tensor-list", message, "keep one of them", near=f'"{name}"')
        for item in items:
            if not item.name:
                message = f"one {kind} has no name"
                yield model.problem("triton-tensor-incomplete", message, "give it a name", near=kind)
                continue
            if not item.data_type:
                message = f"{kind} {item.name} has no data_type"
                hint = "write its type, for example data_type: TYPE_STRING"
                yield model.problem("triton-tensor-incomplete", message, hint, near=f'"{item.name}"')
            if not item.dims or any(size == 0 or size < -1 for size in item.dims):
                shown = list(item.dims) or "no dims"
                message = f"{kind} {item.name} has {shown}"
                hint = "write dims: [ -1 ] or sizes of 1 or more"
                yield model.problem("triton-tensor-incomplete", message, hint, near=f'"{item.name}"')


def _batch(model: ModelDirectory) -> Iterator[RepositoryProblem]:
    limit = model.config.max_batch_size
    if limit < 0:
        message = f"max_batch_size is {limit}"
        yield model.problem("triton-batch-size", message, "write 0 or more", near="max_batch_size")
    preferred = max(model.config.dynamic_batching.preferred_batch_size, default=0)
    if preferred > limit >= 0:
        message = f"preferred_batch_size {preferred} is above max_batch_size {limit}"
        yield model.problem(
            "triton-batch-size", message, f"write {limit} or less", near="preferred_batch_size"
        )


def _scheduling(model: ModelDirectory) -> Iterator[RepositoryProblem]:
    config = model.config
    if config.response_cache.enable and model.decoupled:
        message = "a decoupled model cannot use the response cache"
        yield model.problem("triton-response-cache", message, "remove response_cache", near="response_cache")
    if config.HasField("dynamic_batching") and config.backend != "tensorrtllm":
        reason = "for a decoupled model" if model.decoupled else "with max_batch_size 0"
        if model.decoupled or config.max_batch_size == 0:
            message = f"dynamic_batching does nothing {reason}"
            hint = "remove it; the engine batches requests itself"
            yield model.problem("triton-dynamic-batching", message, hint, near="dynamic_batching")


def _instances(model: ModelDirectory) -> Iterator[RepositoryProblem]:
    for group in model.config.instance_group:
        if group.count < 0 or (group.count == 0 and re.search(r"\bcount\s*:\s*0\b", model.text)):
            message = f"an instance group of {group.count} instances"
            yield model.problem("triton-instance-count", message, "write count: 1 or more", near="count")
        if group.kind == _KIND_CPU and group.gpus:
            message = f"KIND_CPU with gpus: {list(group.gpus)}"
            hint = 'remove gpus; GPUs go into parameters { key: "gpu_device_ids" … }'
            yield model.problem("triton-instance-kind", message, hint, near="gpus")
        if model.runs_llm and group.kind in {_KIND_AUTO, _KIND_GPU}:
            message = "the LLM API chooses its GPUs itself, so that its instances must be KIND_CPU"
            yield model.problem(
                "triton-instance-kind", message, "write kind: KIND_CPU", near="instance_group"
            )
    if model.runs_llm and not model.config.instance_group:
        message = "without instance_group Triton makes an instance for each GPU, each loading the whole model"
        hint = "write instance_group [ { count: 1, kind: KIND_CPU } ]"
        yield model.problem("triton-instance-kind", message, hint)
    count = sum(max(group.count, 1) for group in model.config.instance_group)
    if model.runs_llm and count > 1 and "gpu_device_ids" not in model.config.parameters:
        message = f"{count} instances would all load onto the same GPUs"
        hint = (
            'add parameters { key: "gpu_device_ids" value { string_value: "0,1;2,3" } } '
            "and launch with --no-mpi"
        )
        yield model.problem("triton-instances-share-gpus", message, hint, near="count")


def _two_places(model: ModelDirectory) -> Iterator[RepositoryProblem]:
    written = {"decoupled": model.decoupled, "max_batch_size": model.config.max_batch_size}
    for key, here in written.items():
        there = model.settings.get(f"triton_config.{key}")
        if there is None or there == here or here < 0:
            continue
        shown = str(there).lower() if isinstance(there, bool) else there
        mine = str(here).lower() if isinstance(here, bool) else here
        message = f"{MODEL_YAML} says {key} {shown}, config.pbtxt {mine}"
        line = (
            f"model_transaction_policy {{ decoupled: {shown} }}" if key == "decoupled" else f"{key}: {shown}"
        )
        yield model.problem("triton-decoupled-split", message, f"write {line} in config.pbtxt too", near=key)


def _streaming(model: ModelDirectory) -> Iterator[RepositoryProblem]:
    is_ours = any(model.place.glob(f"*/{_OUR_SETTINGS}"))
    if model.runs_llm and not model.decoupled and not is_ours and not _split(model):
        message = "clients may ask for streaming, and a model that is not decoupled refuses it"
        hint = (
            "write model_transaction_policy { decoupled: true } here and triton_config.decoupled in "
            "model.yaml"
        )
        yield model.problem("triton-streaming-refused", message, hint, near="model_transaction_policy")


def _split(model: ModelDirectory) -> bool:
    return str(model.settings.get("triton_config.decoupled")).lower() == "true"


def _new_fields(model: ModelDirectory) -> Iterator[RepositoryProblem]:
    if model.config.HasField("model_metrics"):
        message = "servers up to 2.51, such as the bundled one, do not know model_metrics"
        hint = "remove it, or serve with an image of 2025 or later"
        yield model.problem("triton-field-too-new", message, hint, near="model_metrics")


def _open_inputs(model: ModelDirectory) -> Iterator[RepositoryProblem]:
    for name in sorted(model.inputs & set(_FROM_CLIENT)):
        message = f"whoever sends a request names a file or URL with {name}, and the server reads it"
        yield model.problem("triton-client-names-file", message, "remove this input", near=f'"{name}"')


def _environment(model: ModelDirectory) -> Iterator[RepositoryProblem]:
    if _ENVIRONMENT not in model.config.parameters:
        return
    value = model.config.parameters[_ENVIRONMENT].string_value
    if not _PLAIN_PATH.fullmatch(value):
        message = f"{_ENVIRONMENT} is put into a shell command, and {value!r} is more than a path"
        hint = "write a fixed path of letters, digits, dots, slashes and dashes"
        yield model.problem("triton-environment-path", message, hint, near=_ENVIRONMENT)


def _trust(model: ModelDirectory) -> Iterator[RepositoryProblem]:
    if model.settings.get("trust_remote_code") is True:
        message = "model.yaml lets the model's own Python code run in the server"
        yield model.problem(
            "triton-trust-remote-code", message, "read that code, or remove trust_remote_code"
        )


_FINDERS: tuple[Callable[[ModelDirectory], Iterator[RepositoryProblem]], ...] = (
    _name, _versions, _backend, _tensors, _batch, _scheduling, _instances, _two_places, _streaming,
    _new_fields, _open_inputs, _environment, _trust,
)  # fmt: skip


def model_problems(model: ModelDirectory) -> tuple[RepositoryProblem, ...]:
    """Everything wrong with one model by itself; an ensemble needs no tensors' backend."""
    is_ensemble = model.config.platform == "ensemble"
    finders = [finder for finder in _FINDERS if not (is_ensemble and finder is _backend)]
    return tuple(problem for finder in finders for problem in finder(model))


def _rule(name: str, severity: Any, summary: str, source: str, why: str) -> DescribedRule:  # noqa: ANN401
    return DescribedRule(f"triton-{name}", severity, summary, source, why)


_LOG_ONLY = (
    "The server refuses the model and says why in its log only, as a line that starts with Poll failed."
)
_AT_LOAD = "The server refuses to load the model."
MODEL_RULES: tuple[DescribedRule, ...] = (
    _rule("model-name", "error", "model and directory have different names", _CONFIGURATION, _LOG_ONLY),
    _rule("version-missing", "error", "a version directory that is not there", _CONFIGURATION, _AT_LOAD),
    _rule("backend-missing", "error", "no backend is named", _CONFIGURATION, _AT_LOAD),
    _rule(
        "tensor-list",
        "error",
        "tensors missing, or listed twice",
        _CONFIGURATION,
        "The server accepts it; clients then send what never arrives, or read what never comes.",
    ),
    _rule("tensor-incomplete", "error", "a tensor without type or shape", _CONFIGURATION, _AT_LOAD),
    _rule("batch-size", "error", "an impossible batch size", _CONFIGURATION, _LOG_ONLY),
    _rule("response-cache", "error", "a response cache on a decoupled model", _CONFIGURATION, _AT_LOAD),
    _rule(
        "dynamic-batching",
        "error",
        "a dynamic batcher that does nothing",
        _CONFIGURATION,
        "The server accepts it; requests are never batched by Triton, whatever the queue settings say.",
    ),
    _rule(
        "instance-count",
        "error",
        "an instance group without instances",
        _CONFIGURATION,
        "The server accepts it, and the group does not exist.",
    ),
    _rule(
        "instance-kind",
        "error",
        "instances of the wrong kind",
        _LLMAPI,
        "KIND_GPU fails where Triton sees no GPU and multiplies the engine where it sees several; "
        "KIND_CPU with "
        "gpus is refused.",
    ),
    _rule(
        "instances-share-gpus",
        "error",
        "several instances on the same GPUs",
        _LLMAPI,
        "Each instance takes its share of free memory, so that the second one runs out of memory at load.",
    ),
    _rule(
        "decoupled-split",
        "error",
        "config.pbtxt and model.yaml differ",
        _GUIDE,
        "The launcher switches auto-completion off: what model.yaml says does not reach the server, and "
        "the first "
        "stream hangs.",
    ),
    _rule(
        "streaming-refused",
        "warning",
        "streaming on a model that is not decoupled",
        "NVIDIA/TensorRT-LLM triton_backend/all_models/llmapi",
        "Requests with streaming true are refused with a text about decoupled mode.",
    ),
    _rule(
        "field-too-new",
        "warning",
        "a field that older servers refuse",
        "triton-inference-server/common protobuf/model_config.proto",
        "An older server refuses the whole configuration.",
    ),
    _rule(
        "client-names-file",
        "error",
        "an input that names a file or URL of the server",
        "https://nvd.nist.gov/vuln/detail/CVE-2025-23319",
        "A client can make the server read its files and call addresses inside its network.",
    ),
    _rule(
        "environment-path",
        "error",
        "an environment path that a shell would run",
        "triton-inference-server/python_backend README.md",
        "The Python backend activates the environment through a shell: the value can run commands.",
    ),
    _rule(
        "trust-remote-code",
        "warning",
        "the model's own code is run",
        "bwdeploy",
        "Whoever wrote the model repository decides what runs in the server.",
    ),
)
