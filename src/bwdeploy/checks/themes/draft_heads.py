"""Rules on drafts and the backend that has them, and on EAGLE and Medusa heads that become part of an engine.

Rules on a mode in `engine.build_flags` without the section stand in `conversion`, those on the model in
`build_flag_fit`; what the converters cannot do is said by `conversion-impossible`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.checks.rule import Problem, Rule, Subject
from bwdeploy.engines.drafts import Heads, brings_heads, heads_of
from bwdeploy.facts.draft_trees import BUILT_IN_NODES, DEEPEST, choices_key, given_choices, orphans
from bwdeploy.facts.speculation import HEADS
from bwdeploy.recipe.uris import FILE_SCHEME, file_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bwdeploy.recipe.places import KeyPath

_NAMES = {"eagle3": "EAGLE-3", "mtp": "MTP", "eagle": "EAGLE-1", "medusa": "Medusa"}
_EAGLE = "examples/eagle/convert_checkpoint.py"
_MEDUSA = "examples/medusa/convert_checkpoint.py"
_FILES = {
    "eagle": ("*.safetensors", "*.bin", "*.pth"),
    "medusa": ("medusa_lm_head.safetensors", "medusa_lm_head.pt"),
}
"""What holds the weights: tensorrt_llm/models/{model_weights_loader.py, medusa/weight.py}."""
_DRAFT: KeyPath = ("speculative", "draft")
_MOST_EAGLE_REQUESTS = 512


def _on_engines(subject: Subject) -> Iterator[Problem]:
    recipe = subject.recipe
    if recipe.engine.backend == "tensorrt" and recipe.speculative and recipe.speculative.method not in HEADS:
        message = f"{_NAMES[recipe.speculative.method]} runs with the PyTorch backend only"
        hint = (
            "set engine.backend: pytorch, or write method: eagle (Llama models) or medusa and "
            "draft: file://DIR with heads of that kind"
        )
        yield Problem(("speculative", "method"), message, hint)


def _on_pytorch(subject: Subject) -> Iterator[Problem]:
    recipe = subject.recipe
    if recipe.engine.backend == "pytorch" and recipe.speculative and recipe.speculative.method in HEADS:
        name = _NAMES[recipe.speculative.method]
        message = f"{name} heads are built into engines, and the PyTorch backend has none"
        hint = (
            "write method: eagle3 with an EAGLE-3 draft, or remove the section and draft with "
            "llm_args.speculative_config: {decoding_type: NGram}; or set engine.backend: tensorrt"
        )
        yield Problem(("speculative", "method"), message, hint)


def _source(subject: Subject) -> Iterator[Problem]:
    recipe, heads = subject.recipe, heads_of(subject.recipe)
    if heads is None or recipe.speculative is None:
        return
    name, inside = _NAMES[heads.kind], brings_heads(recipe, subject.model.config)
    if recipe.engine.converter != "tensorrt_llm":
        message = f"ModelOpt converts no {name} heads, the scripts of TensorRT-LLM do"
        yield Problem(("engine", "converter"), message, "set engine.converter: tensorrt_llm")
    if heads.draft is not None:
        yield from _named(heads, subject, inside=inside)
    elif not inside:
        message = f"{name} needs heads trained for the model, and none are named"
        yield Problem(("speculative",), message, "add draft: file://DIR")


def _named(heads: Heads, subject: Subject, *, inside: bool) -> Iterator[Problem]:
    draft, name = heads.draft or "", _NAMES[heads.kind]
    if subject.recipe.quantize.method == "prequantized":
        if inside and subject.model.config is not None:
            message = f"the source brings its own {name} heads, so that these are not used"
            yield Problem(_DRAFT, message, "remove it, or name the unquantized model as model.source")
        else:
            message = f"{name} heads of their own are converted with an unquantized model only"
            hint = "name the unquantized model and set quantize: {method: none}"
            yield Problem(("quantize", "method"), message, hint)
    elif not draft.startswith(FILE_SCHEME):
        repository = draft.removeprefix("hf://").partition("@")[0]
        message = "the converter reads the heads from a directory, and does not download them"
        hint = f"download them (hf download {repository} --local-dir heads) and write draft: file://heads"
        yield Problem(_DRAFT, message, hint)


def _weights(subject: Subject) -> Iterator[Problem]:
    """Of a directory that is there; source-file-missing speaks of one that is not."""
    heads = heads_of(subject.recipe)
    if heads is None or heads.draft is None or not heads.draft.startswith(FILE_SCHEME):
        return
    directory = file_of(heads.draft)
    files = [name for pattern in _FILES[heads.kind] for name in _found(directory, pattern)]
    if not files and _is_directory(directory):
        message = (
            f"{directory} holds no {' or '.join(_FILES[heads.kind])}: enough to check and plan, not to build"
        )
        yield Problem(_DRAFT, message, "add the weights of the heads before you build")
    elif files and not any(name.endswith(".safetensors") for name in files):
        message = f"the converter opens {files[0]}, a pickled file, which can hold code"
        yield Problem(_DRAFT, message, "convert it to .safetensors, or make sure that you trust its author")


def _found(directory: Path, pattern: str) -> list[str]:
    try:
        return sorted(file.name for file in directory.glob(pattern))
    except (OSError, ValueError):
        return []


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def _tree(subject: Subject) -> Iterator[Problem]:
    heads = heads_of(subject.recipe)
    if heads is None:
        return
    key = choices_key(heads.kind)
    choices = given_choices(heads.kind, subject.recipe.serve.engine_parameters)
    place: KeyPath = ("serve", "engine_parameters", key) if choices is not None else _length_place(subject)
    if choices is not None and len(choices) > heads.draft_len:
        message = f"a tree of {len(choices)} tokens, and the engine takes {heads.draft_len}"
        yield Problem(place, message, f"raise the draft length to {len(choices)}, or cut the tree")
    if choices is not None and (lost := orphans(choices)):
        yield Problem(place, f"{lost[0]} stands without {lost[0][:-1]}", f"add {lost[0][:-1]}, or remove it")
    most = _most_deep(heads, subject)
    if heads.tree.depth > most:
        what = "heads of the source" if most < DEEPEST else "levels that TensorRT-LLM knows"
        message = f"{heads.tree.depth} tokens one after the other, above the {most} {what}"
        hint = (
            f"write {most} or less, or {BUILT_IN_NODES} for TensorRT-LLM's own tree of 4 levels; "
            f"serve.engine_parameters.{key} gives another tree"
        )
        yield Problem(place, message, hint)


def _length_place(subject: Subject) -> KeyPath:
    if subject.recipe.speculative is not None:
        return ("speculative", "draft_len")
    return ("engine", "build_flags", "max_draft_len")


def _most_deep(heads: Heads, subject: Subject) -> int:
    """Medusa drafts one token with each head; how many there are is known of heads in the source only."""
    said = (subject.model.config or {}).get("medusa")
    number = said.get("num_medusa_heads") if isinstance(said, dict) else None
    if heads.kind != "medusa" or heads.draft is not None or not isinstance(number, int):
        return DEEPEST
    return min(number, DEEPEST)


def _requests(subject: Subject) -> Iterator[Problem]:
    heads, batch = heads_of(subject.recipe), subject.recipe.engine.max_batch_size
    if heads is not None and heads.kind == "eagle" and batch > _MOST_EAGLE_REQUESTS:
        message = f"an engine with EAGLE heads takes {_MOST_EAGLE_REQUESTS} requests at once"
        yield Problem(("engine", "max_batch_size"), message, f"write {_MOST_EAGLE_REQUESTS} or less")


RULES = (
    Rule(
        id="speculative-on-engines",
        severity="error",
        summary="drafts that the engine backend does not have",
        find=_on_engines,
        source="https://github.com/NVIDIA/TensorRT-LLM/issues/10396 · "
        "https://github.com/NVIDIA/TensorRT-LLM/pull/5146",
        why="The engine backend rejects EAGLE-3 and PARD, and has no MTP.",
    ),
    Rule(
        id="speculative-engine-heads",
        severity="error",
        summary="draft heads that only engines have",
        find=_on_pytorch,
        source="tensorrt_llm/llmapi/llm_args.py",
        why="The PyTorch backend reads Eagle as EAGLE-3, whose drafts are built otherwise, and refuses "
        "Medusa.",
    ),
    Rule(
        id="speculative-heads-source",
        severity="error",
        summary="draft heads that cannot get into the engine",
        find=_source,
        source=f"{_EAGLE} · {_MEDUSA}",
        why="Heads and model are converted in one run of a script, which reads the heads from a directory "
        "and quantizes neither.",
    ),
    Rule(
        id="speculative-heads-weights",
        severity="warning",
        summary="draft heads without weights, or with pickled ones",
        find=_weights,
        source="tensorrt_llm/models/model_weights_loader.py · tensorrt_llm/models/medusa/weight.py",
        why="The converter stops without them. Pickled files are the only ones of a build that can run code; "
        "bwdeploy itself never opens one.",
    ),
)
"""With a section `speculative`."""
ENGINE_RULES = (
    Rule(
        id="speculative-draft-tree",
        severity="error",
        summary="a tree of drafted tokens that does not fit its engine",
        find=_tree,
        source="cpp/tensorrt_llm/runtime/utils/speculativeChoicesUtils.cpp",
        why="The engine builds, and the server stops at the first request with a failed check, or hangs a "
        "token under the wrong one.",
    ),
    Rule(
        id="speculative-eagle-batch",
        severity="error",
        summary="more requests than EAGLE takes",
        find=_requests,
        source="tensorrt_llm/builder.py (build)",
        why="trtllm-build asserts it, after the checkpoint has been converted.",
    ),
)
"""With an engine, whichever section says that it drafts."""
