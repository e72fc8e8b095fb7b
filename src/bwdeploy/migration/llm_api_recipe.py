"""A deployment of the LLM API (its arguments, its model, how it was started) → a recipe.

Translates the arguments to the recipe's TensorRT-LLM, lifts what a recipe says in sections of its own (sizes,
layout, speculation), and leaves the rest in `engine.llm_args`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from bwdeploy.migration.argument_versions import assumed_version, guess_version
from bwdeploy.migration.arguments import translate
from bwdeploy.migration.draft import SECTIONS, RecipeDraft
from bwdeploy.migration.found import Found, Note
from bwdeploy.migration.llm_api_layout import put_llm_api_layout
from bwdeploy.migration.llm_api_model import put_model, put_prequantized
from bwdeploy.migration.llm_api_speculation import put_speculation
from bwdeploy.migration.naming import recipe_name
from bwdeploy.migration.versions import put_max_running, put_target, target_version
from bwdeploy.recipe.schema import VARIABLE_PATTERN

if TYPE_CHECKING:
    from pathlib import Path

    from bwdeploy.migration.found import Wanted

_SIZES = ("max_batch_size", "max_num_tokens", "max_seq_len")
_ENGINE = "tensorrt_llm/_torch/pyexecutor/model_engine.py"
_PDL = "TRTLLM_ENABLE_PDL"
_LONGEST_VALUE = 1000


class LlmApiDeployment(NamedTuple):
    """A deployment of the LLM API as its readers find it."""

    kind: str
    file: Path
    arguments: dict[str, Any]
    model: str = ""
    """As it is named there; empty: it is not."""
    model_path: str = ""
    """Where its files lay."""
    version: str = ""
    """Empty: it is not said."""
    name: str = ""
    serve: dict[str, Any] = {}  # noqa: RUF012 - never changed
    """Keys of the section `serve`."""
    environment: dict[str, str] = {}  # noqa: RUF012 - never changed
    notes: tuple[Note, ...] = ()


def llm_api_recipe(deployment: LlmApiDeployment, wanted: Wanted) -> Found:
    """The recipe of `deployment`.

    Raises:
        RecipeError: arguments cannot be translated to or from one of the versions.
    """
    draft = RecipeDraft()
    draft.note(*deployment.notes)
    arguments = _translated(draft, deployment, wanted)
    draft.put(("schema",), 1)
    draft.put(
        ("name",), wanted.name or recipe_name(deployment.name or deployment.model or deployment.file.stem)
    )
    needs_model = put_model(draft, deployment, arguments, wanted)
    put_prequantized(draft, deployment.model or deployment.model_path, arguments)
    put_speculation(draft, arguments, start=deployment.file.parent)
    _put_sizes(draft, arguments)
    _cut_graphs(draft, arguments)
    put_llm_api_layout(draft, arguments)
    arguments.pop("backend", None)
    if arguments:
        draft.put(("engine", "llm_args"), arguments)
    for key, value in deployment.serve.items():
        draft.put(("serve", key), value)
    put_max_running(draft)
    _put_environment(draft, deployment.environment)
    return Found(
        kind=deployment.kind,
        recipe=draft.in_order(SECTIONS),
        comments=draft.comments,
        notes=tuple(draft.notes),
        needs_model=needs_model,
    )


def _translated(draft: RecipeDraft, deployment: LlmApiDeployment, wanted: Wanted) -> dict[str, Any]:
    low, high = guess_version(deployment.arguments)
    target = target_version(deployment.version, wanted, backend="pytorch", at_least=low)
    found = deployment.version or assumed_version(deployment.arguments, target.version)
    if not deployment.version:
        message = f"spelled as TensorRT-LLM {low} to {high} does" if low != high else f"spelled as {low} does"
        draft.note(Note("assumed", "version", found, message, "", "tensorrt_llm/llmapi/llm_args.py"))
    draft.put(("engine", "backend"), "pytorch")
    put_target(draft, target, backend="pytorch")
    result = translate(deployment.arguments, found=found, target=target.version)
    # Sizes always stand in a recipe, so that their defaults play no part.
    draft.note(*(note for note in result.notes if not (note.value is None and note.key in _SIZES)))
    return result.arguments


def _put_sizes(draft: RecipeDraft, arguments: dict[str, Any]) -> None:
    graphs = arguments.get("cuda_graph_config")
    for key in _SIZES:
        value = arguments.pop(key, None)
        if isinstance(value, int):
            draft.put(("engine", key), value)
        elif key == "max_batch_size" and (largest := _largest_graph(graphs)):
            draft.put(("engine", key), largest, "assumed: the largest CUDA graph")
            draft.note(Note("assumed", key, None, f"not said; {largest} is the largest CUDA graph"))
        else:
            message = "not said; the recipe has its own default, the server would have had another"
            draft.note(Note("assumed", key, None, message, f"set engine.{key}"))


def _cut_graphs(draft: RecipeDraft, arguments: dict[str, Any]) -> None:
    """Leave out CUDA graphs for more requests than there are: the server captures none of them."""
    graphs, most = arguments.get("cuda_graph_config"), draft.get(("engine", "max_batch_size"))
    if not isinstance(graphs, dict) or not isinstance(most, int) or _largest_graph(graphs) <= most:
        return
    key = "batch_sizes" if graphs.get("batch_sizes") else "max_batch_size"
    given = graphs[key]
    graphs[key] = [*(size for size in given if size < most), most] if key == "batch_sizes" else most
    message = f"cut to max_batch_size {most}: the server captures no graphs above it"
    draft.note(Note("changed", f"cuda_graph_config.{key}", given, message, "", _ENGINE))


def _largest_graph(graphs: object) -> int:
    """The largest batch that a CUDA graph is captured for, 0 when that is not said."""
    if not isinstance(graphs, dict):
        return 0
    sizes = graphs.get("batch_sizes") or [graphs.get("max_batch_size")]
    whole = [size for size in sizes if isinstance(size, int)] if isinstance(sizes, list) else []
    return max(whole, default=0)


def _put_environment(draft: RecipeDraft, variables: dict[str, str]) -> None:
    kept = {}
    for name, value in variables.items():
        if (name, value) == (_PDL, "1"):
            source = "docs/source/release-notes.md, 1.2"
            draft.note(Note("no-effect", name, value, "on by default since 1.2", "", source))
        elif not re.fullmatch(VARIABLE_PATTERN, name) or len(value) > _LONGEST_VALUE:
            message = "a recipe sets no variables of the server's environment but TensorRT-LLM's own"
            draft.note(Note("lost", name, value, message, f"export {name}={value} where the server starts"))
        elif "$" in value:
            message = "only the shell of that deployment knows its value"
            draft.note(Note("lost", name, value, message, f"set engine.environment.{name}"))
        else:
            kept[name] = value
    if kept:
        draft.put(("engine", "environment"), kept)
