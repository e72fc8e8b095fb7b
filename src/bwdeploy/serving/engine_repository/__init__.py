"""Write the Triton repository that serves an engine: five models, as upstream's clients know them.

    ensemble/config.pbtxt                    preprocessing → tensorrt_llm → postprocessing
    preprocessing/1/model.py, tokenizer/     text into tokens
    postprocessing/1/model.py, tokenizer/    tokens into text
    tensorrt_llm/1/engine/                   hard links to the engine, run by the C++ backend
    tensorrt_llm/1/kernels/                  hard links to the kernel pack whose plugins the engine calls
    tensorrt_llm_bls/1/model.py              the same as the ensemble, with whole characters and drafting

The C++ backend opens the engine by an absolute path, and that is the one it has where the repository is
mounted: /models, unless `serve.engine_parameters.engine_dir` says another. The Python models find their
files wherever the repository lies. It reads no weights and starts nothing.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import bwdeploy_engine_models
from bwdeploy.errors import StoreError
from bwdeploy.facts.triton_templates import engine_models
from bwdeploy.pipeline.trees import link_or_copy, link_tree
from bwdeploy.serving.engine_repository.messages import model_config
from bwdeploy.serving.engine_repository.values import (
    ENGINE_FOLDER,
    TOKENIZER_FOLDER,
    VERSION,
    EngineFacts,
    template_values,
)
from bwdeploy.serving.model_config import refusals, to_pbtxt
from bwdeploy.tools.triton_container import REPOSITORY_INSIDE
from bwdeploy.tools.triton_ranks import KERNELS

if TYPE_CHECKING:
    from bwdeploy.recipe.schema import Engine, Layout, Serve

_WITH_TOKENIZER: Final = ("preprocessing", "postprocessing")
_PYTHON_MODELS: Final = (*_WITH_TOKENIZER, "tensorrt_llm_bls")
_TOKENIZER_FILES: Final = (
    "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "spiece.model",
    "*.tiktoken", "tiktoken.model", "generation_config.json", "config.json",
)  # fmt: skip
"""What a tokenizer is read from, and what names its end token."""
_README: Final = f"""\
Triton wants a version directory of every model; an ensemble keeps nothing in it.

Mount the model repository at {REPOSITORY_INSIDE}: the model tensorrt_llm opens its engine by an absolute path
(parameter gpt_model_path in tensorrt_llm/config.pbtxt). The other models run wherever it lies.
"""
"""A directory without a file would not survive being linked to another place."""


class EngineRepositoryInputs(NamedTuple):
    """What a repository around an engine is written from."""

    serve: Serve
    engine: Engine
    layout: Layout
    tokenizer: Path
    """A directory with the tokenizer's files; others in it are left where they are."""
    engines: Path
    """The engine directory."""
    logits_dtype: str = "float32"
    """Of the engine, in its own word: float32, float16 or bfloat16."""
    kernels: Path | None = None
    """The kernel pack whose TensorRT plugins the engine calls."""


def write_engine_repository(directory: Path, inputs: EngineRepositoryInputs) -> None:
    """Write the five models into the existing `directory`.

    Raises:
        StoreError: a file cannot be read or written, or there is no engine or no tokenizer.
    """
    if not any(inputs.engines.glob("rank*.engine")):
        raise StoreError(f"{inputs.engines} has no engine.", hint="Name a directory that trtllm-build wrote.")
    try:
        values = template_values(inputs.serve, inputs.engine, inputs.layout, _facts(inputs))
        for name in engine_models():
            config = model_config(name, values, version=inputs.engine.tensorrt_llm)
            version = directory / name / VERSION
            version.mkdir(parents=True)
            (directory / name / "config.pbtxt").write_text(_pbtxt(config, name), encoding="utf-8")
        (directory / "ensemble" / VERSION / "README.md").write_text(_README, encoding="utf-8")
        for name in _PYTHON_MODELS:
            _copy_model(name, directory / name / VERSION)
        for name in _WITH_TOKENIZER:
            _link_tokenizer(inputs.tokenizer, directory / name / VERSION / TOKENIZER_FOLDER)
        link_tree(inputs.engines, directory / "tensorrt_llm" / VERSION / ENGINE_FOLDER)
        if inputs.kernels is not None:
            link_tree(inputs.kernels, directory / KERNELS)
    except OSError as error:
        raise StoreError(
            f"The model repository cannot be written: {error.filename or directory}: "
            f"{error.strerror or error}.",
            hint="Check the free space and the rights of the output directory.",
        ) from error


def _facts(inputs: EngineRepositoryInputs) -> EngineFacts:
    """What the engine's own configuration says; a stand-in engine may have none."""
    file = inputs.engines / "config.json"
    pretrained: Any = {}
    if file.is_file():
        pretrained = json.loads(file.read_text(encoding="utf-8")).get("pretrained_config", {})
    size = pretrained.get("vocab_size") if isinstance(pretrained, dict) else None
    return EngineFacts(inputs.logits_dtype, size if isinstance(size, int) else None)


def _pbtxt(config: Any, name: str) -> str:  # noqa: ANN401 - generated message class
    problems = refusals(config, directory_name=name)
    if problems:
        raise ValueError(
            f"bwdeploy built a config.pbtxt of {name} that Triton refuses: {'; '.join(problems)}"
        )
    return to_pbtxt(config)


def _copy_model(name: str, version: Path) -> None:
    """The model's own file, and beside it the package that it imports."""
    package = Path(bwdeploy_engine_models.__file__).parent
    shutil.copyfile(package / name / "model.py", version / "model.py")
    for source in sorted(package.rglob("*.py")):
        relative = source.relative_to(package)
        if relative.name == "model.py":
            continue
        target = version / package.name / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def _link_tokenizer(source: Path, target: Path) -> None:
    files = sorted({file for pattern in _TOKENIZER_FILES for file in source.glob(pattern) if file.is_file()})
    if not any(file.name.startswith(("tokenizer.", "vocab", "spiece", "tiktoken")) for file in files):
        raise StoreError(
            f"{source} has no tokenizer.", hint="The checkpoint's own directory holds it; build again."
        )
    for file in files:
        link_or_copy(file.resolve(), target / file.name)
