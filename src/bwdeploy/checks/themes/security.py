"""Rules on what a recipe lets others do on this machine, and on known holes of what it is served with."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bwdeploy.checks.rule import Problem, Rule, Subject
from bwdeploy.facts.stacks import image_security, triton_image

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.recipe.places import KeyPath

_PINNED = re.compile(r"@[0-9a-f]{40}$")
_OWN_CODE = ("model_cls_file", "model_cls_name")


def _trusts_code(subject: Subject) -> Iterator[Problem]:
    if subject.recipe.model.trust_remote_code:
        message = "Python code that comes with the model will run on this machine and on the server"
        yield Problem(("model", "trust_remote_code"), message, "read that code first, or remove this key")


def _trusts_moving_code(subject: Subject) -> Iterator[Problem]:
    recipe = subject.recipe
    if not recipe.model.trust_remote_code:
        return
    draft = recipe.speculative.draft if recipe.speculative is not None else None
    sources: tuple[tuple[KeyPath, str | None, str], ...] = (
        (("model", "source"), recipe.model.source, "model"),
        (("speculative", "draft"), draft, "draft"),
        (("gate", "reference"), recipe.gate.reference, "reference"),
    )
    for path, source, name in sources:
        if source is not None and source.startswith("hf://") and not _PINNED.search(source):
            message = f"the {name}'s code can change under this recipe, because its revision is not pinned"
            yield Problem(path, message, "append the 40-hex commit that you have read")


def _runs_model_class(subject: Subject) -> Iterator[Problem]:
    engine = subject.recipe.engine
    if engine.backend == "tensorrt":
        for name in _OWN_CODE:
            if name in engine.build_flags:
                message = "the build will run Python code that this option names"
                yield Problem(("engine", "build_flags", name), message, "read that code first, or remove it")


def _old_image(subject: Subject) -> Iterator[Problem]:
    recipe = subject.recipe
    image = triton_image(recipe.engine.tensorrt_llm)
    fixed, advised = image_security()
    if recipe.serve.runtime != "tensorrt_llm" or image is None or image >= advised:
        return
    message = (
        f"Triton image {image}, the newest with TensorRT-LLM {recipe.engine.tensorrt_llm}, lacks "
        f"fixes of {advised}"
    )
    hint = "set engine.tensorrt_llm: 1.2.1 (image 26.06), or keep the server behind a gateway"
    yield Problem(("engine", "tensorrt_llm"), message, hint, "error" if image < fixed else None)


RULES = (
    Rule(
        id="security-trust-remote-code",
        severity="warning",
        summary="the model's own code is run",
        find=_trusts_code,
        why="Whoever wrote the model repository decides what runs, with the rights of the build and of "
        "the server.",
    ),
    Rule(
        id="security-trust-unpinned-code",
        severity="error",
        summary="code of an unpinned revision is run",
        find=_trusts_moving_code,
        why="The code that was read is not the code that runs after the next push to that repository.",
    ),
    Rule(
        id="security-model-class",
        severity="warning",
        summary="code that an option names is run",
        find=_runs_model_class,
        source="tensorrt_llm/commands/build.py",
        why="trtllm-build imports the file, with the rights of the build.",
    ),
    Rule(
        id="security-old-image",
        severity="warning",
        summary="a Triton image with known holes",
        find=_old_image,
        source="https://nvd.nist.gov/vuln/detail/CVE-2025-23310 · "
        "https://nvd.nist.gov/vuln/detail/CVE-2025-23319",
        why="Below 25.07 a request can crash the server or run code in it through shared memory; later "
        "fixes are "
        "missing below 26.05.",
    ),
)
