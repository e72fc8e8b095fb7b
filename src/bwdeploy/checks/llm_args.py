"""`engine.llm_args`: every key and value against the argument classes of the pinned TensorRT-LLM version.

The class tables are facts, the walk is `schema_walk`; here stand the recipe's own reasons: keys that the
recipe says elsewhere, keys that would run code, and old names that have a new one.
"""

from __future__ import annotations

import copy
import json
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from bwdeploy.checks.schema_walk import Kind, Misfit, SchemaWalk
from bwdeploy.facts.llm_arg_renames import renames
from bwdeploy.facts.llm_args import LlmArgsSchema, llm_args_schema, other_bundled_schemas
from bwdeploy.recipe.places import dotted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.errors import Severity
    from bwdeploy.facts.llm_arg_renames import Rename
    from bwdeploy.recipe.places import KeyPath

ProblemKind = Kind | str

SAID_ELSEWHERE = {
    "model": "model.source",
    "revision": "model.source",
    "tensor_parallel_size": "layout.tp",
    "pipeline_parallel_size": "layout.pp",
    "moe_expert_parallel_size": "layout.ep",
    "enable_attention_dp": "layout.attention_dp",
    "gpus_per_node": "layout.gpus_per_node",
    "max_batch_size": "engine.max_batch_size",
    "max_num_tokens": "engine.max_num_tokens",
    "max_seq_len": "engine.max_seq_len",
    "backend": "engine.backend",
    "trust_remote_code": "model.trust_remote_code",
}
"""Argument → the recipe key that decides it."""
COMMAND_LINE = {
    "tp_size": "layout.tp",
    "pp_size": "layout.pp",
    "ep_size": "layout.ep",
    "moe_ep_size": "layout.ep",
    "world_size": "layout.tp and layout.pp",
}
"""The same for options of command lines, which are no arguments of any version."""

_CODE = "it would run Python code that the recipe names"
_ENVIRONMENT = "it would change the environment that the server runs in"
_TOKENIZER = "the tokenizer comes with the checkpoint, so that the two cannot differ"
REFUSED: dict[tuple[str, ...], str] = {
    ("custom_tokenizer",): _CODE,
    ("checkpoint_loader",): _CODE,
    ("post_processor_hook",): _CODE,
    ("kv_connector_config",): _CODE,
    ("ray_worker_extension_cls",): _CODE,
    ("batched_logits_processor",): _CODE,
    ("speculative_config", "drafter"): _CODE,
    ("speculative_config", "resource_manager"): _CODE,
    ("env_overrides",): _ENVIRONMENT,
    ("ray_worker_nsight_options",): _ENVIRONMENT,
    ("tokenizer",): _TOKENIZER,
    ("tokenizer_revision",): _TOKENIZER,
    ("postprocess_tokenizer_dir",): _TOKENIZER,
}
"""Arguments that no recipe may give, and why."""

TOKENIZER_ALIASES = ("deepseek_v32", "deepseek_v4")
"""Values of custom_tokenizer that name upstream's own code."""

NAMES_HOST: tuple[tuple[str, ...], ...] = (
    ("otlp_traces_endpoint",),
    ("kv_cache_config", "disk_cache_path"),
    ("layer_wise_benchmarks_config", "calibration_file_path"),
    ("gms_config", "socket_path"),
    ("mx_config", "server_url"),
    ("speculative_config", "output_directory"),
)
"""Arguments that name a file or an address of the machine that serves."""


_MAX_MISFITS = 100
"""Beyond it the arguments are for something else altogether."""


class ArgProblem(NamedTuple):
    """Something wrong with one argument; `path` starts inside `engine.llm_args`."""

    kind: ProblemKind
    path: KeyPath
    message: str
    hint: str
    severity: Severity | None = None


def check_llm_args(version: str, args: dict[str, Any]) -> tuple[ArgProblem, ...]:
    """Everything wrong with `args` for TensorRT-LLM `version`; nothing when that version is not known.

    Raises:
        HostError: an installed tensorrt_llm carries a schema file that cannot be read.
    """
    schema = llm_args_schema(version)
    if schema is None:
        return ()
    rest = copy.deepcopy(args)
    refused = tuple(_refused(rest))
    problems = [*_said_elsewhere(rest), *refused, *_renamed(version, rest), *_names_host(rest)]
    closed = {problem.path[:-1] for problem in refused}
    for misfit in islice(SchemaWalk(schema.schema).misfits(rest, schema.schema), _MAX_MISFITS):
        if misfit.kind == "missing-key" and misfit.path in closed:
            continue  # a refused key was taken out there
        problems.append(_needs_refused(misfit) or _from_misfit(misfit, version, schema, rest))
    return tuple(problems)


def _needs_refused(misfit: Misfit) -> ArgProblem | None:
    """What to say when the key that is missing is one that no recipe may give."""
    for path, reason in REFUSED.items():
        if misfit.kind == "missing-key" and (*misfit.path, misfit.missing) == path:
            message = f"this needs {path[-1]}, which is not allowed in a recipe: {reason}"
            return ArgProblem("refused", misfit.path, message, f"remove {dotted(misfit.path)}")
    return None


def _said_elsewhere(args: dict[str, Any]) -> Iterator[ArgProblem]:
    for key, place in {**SAID_ELSEWHERE, **COMMAND_LINE}.items():
        if key in args:
            value = args.pop(key)
            hint = f"remove it here, and set {place} if {json.dumps(value)[:60]} is what you want"
            yield ArgProblem("said-elsewhere", (key,), f"the recipe says this at {place}", hint)


def _refused(args: dict[str, Any]) -> Iterator[ArgProblem]:
    for path, reason in REFUSED.items():
        parent = _parent(args, path)
        if parent is None or path[-1] not in parent or parent[path[-1]] is None:
            continue
        if path == ("custom_tokenizer",) and parent[path[-1]] in TOKENIZER_ALIASES:
            continue
        del parent[path[-1]]
        yield ArgProblem("refused", path, f"not allowed in a recipe: {reason}", "remove it")
    if isinstance(balancer := _get(args, ("moe_config", "load_balancer")), str):
        del args["moe_config"]["load_balancer"]
        path = ("moe_config", "load_balancer")
        yield ArgProblem(
            "refused", path, f"a file name ({balancer!r}) is not allowed here", "write its content out"
        )


def _renamed(version: str, args: dict[str, Any]) -> Iterator[ArgProblem]:
    for row in renames(version):
        parent = _parent(args, row.found)
        if parent is None or row.found[-1] not in parent or not _applies(row, parent):
            continue
        parent.pop(row.found[-1]) if row.value is None else parent.update({row.found[-1]: _fixed(row)})
        yield _rename_problem(version, row)


def _fixed(row: Rename) -> str:
    return row.use.split(",")[0]


def _applies(row: Rename, siblings: dict[str, Any]) -> bool:
    if row.value is not None and siblings[row.found[-1]] != row.value:
        return False
    return all(siblings.get(key) == value for key, value in row.when)


def _rename_problem(version: str, row: Rename) -> ArgProblem:
    why = f": {row.why}" if row.why else ""
    severity: Severity = "warning" if row.severity == "warning" else "error"
    if row.value is not None:
        message = f"TensorRT-LLM {version} does not want {row.value} here{why}"
        return ArgProblem("renamed", row.found, message, f"write {row.use}", severity)
    if not row.use:
        message = f"TensorRT-LLM {version} has no use for this key{why}"
        return ArgProblem("renamed", row.found, message, "remove it", severity)
    message = f"TensorRT-LLM {version} has another key for this{why}"
    return ArgProblem("renamed", row.found, message, f"use {row.use}", severity)


def _names_host(args: dict[str, Any]) -> Iterator[ArgProblem]:
    for path in NAMES_HOST:
        if _get(args, path) is not None:
            message = "this names a file or an address of the machine that serves"
            yield ArgProblem("names-host", path, message, "make sure that you know and want it")


def _from_misfit(misfit: Misfit, version: str, schema: LlmArgsSchema, args: dict[str, Any]) -> ArgProblem:
    message = f"{misfit.message} (TensorRT-LLM {schema.describes})"
    if misfit.kind == "not-a-choice" and (other := _taken_by(version, args, misfit.path)):
        hint = f"TensorRT-LLM {other} has it; here {misfit.others or misfit.hint}"
        return ArgProblem(misfit.kind, misfit.path, message, hint)
    if misfit.kind != "unknown-key":
        return ArgProblem(misfit.kind, misfit.path, message, misfit.hint)
    if len(misfit.path) == 1 and misfit.path[0] in schema.engine_only_keys:
        hint = "remove it; engine.backend: pytorch does not use it"
        return ArgProblem("engine-only", misfit.path, "only the engine backend has this key", hint)
    knowing = [other.describes for other in other_bundled_schemas(version) if _knows(other, misfit.path)]
    hint = misfit.hint or "remove it, or look it up in that version's documentation"
    nested = SchemaWalk(schema.schema).paths_ending_in(str(misfit.path[-1])) if len(misfit.path) == 1 else []
    if nested:
        hint = f"did you mean {' or '.join(nested[:3])}"
    elif knowing:
        hint = f"TensorRT-LLM {knowing[0]} has it: remove it, or change engine.tensorrt_llm"
    name = dotted(misfit.path)
    return ArgProblem(
        "unknown-key", misfit.path, f"TensorRT-LLM {schema.describes} has no argument {name}", hint
    )


def _taken_by(version: str, args: dict[str, Any], path: KeyPath) -> str:
    """The bundled version that takes the value at `path`, empty when none does."""
    for other in other_bundled_schemas(version):
        wrong = SchemaWalk(other.schema).misfits(args, other.schema)
        refuses = any(misfit.path == path[: len(misfit.path)] for misfit in islice(wrong, _MAX_MISFITS))
        if _knows(other, path) and not refuses:
            return other.describes
    return ""


def _knows(schema: LlmArgsSchema, path: KeyPath) -> bool:
    return SchemaWalk(schema.schema).property_at(path)


def _parent(args: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any] | None:
    at: Any = args
    for word in path[:-1]:
        at = at.get(word) if isinstance(at, dict) else None
    return at if isinstance(at, dict) else None


def _get(args: dict[str, Any], path: tuple[str, ...]) -> Any:  # noqa: ANN401 - JSON data
    parent = _parent(args, path)
    return parent.get(path[-1]) if parent is not None else None
