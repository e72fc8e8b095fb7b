"""What rules ask of `engine.llm_args` without trusting its types.

The arguments are whatever the user wrote; `schema_walk` reports wrong types, so that here a wrong type is the
same as nothing said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bwdeploy.facts.versions import parse_version

if TYPE_CHECKING:
    from bwdeploy.checks.rule import Subject
    from bwdeploy.recipe.places import KeyPath

PREFIX: KeyPath = ("engine", "llm_args")
MARLIN_SM = frozenset({89, 90})
"""GPUs without FP4 units on which the Marlin kernels decode NVFP4 weights."""


def argument(subject: Subject, *path: str) -> Any:  # noqa: ANN401 - whatever the user wrote
    """The argument at `path` below `engine.llm_args`, None when nothing stands there."""
    at: Any = subject.recipe.engine.llm_args
    for word in path:
        at = at.get(word) if isinstance(at, dict) else None
    return at


def text_argument(subject: Subject, *path: str) -> str | None:
    """The argument at `path` when it is text."""
    value = argument(subject, *path)
    return value if isinstance(value, str) else None


def number_argument(subject: Subject, *path: str) -> float | None:
    """The argument at `path` when it is a number."""
    value = argument(subject, *path)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def mapping_argument(subject: Subject, *path: str) -> dict[str, Any]:
    """The argument at `path` when it is a mapping, else an empty one."""
    value = argument(subject, *path)
    return value if isinstance(value, dict) else {}


def is_reported(subject: Subject, *path: str | int) -> bool:
    """Whether the look at the argument schema already complains about `path`."""
    return any(problem.path == path for problem in subject.arg_problems)


def names_marlin(subject: Subject) -> bool:
    """Whether the arguments ask for the kernels that decode NVFP4 weights on Ada and Hopper."""
    allowed = argument(subject, "nvfp4_gemm_config", "allowed_backends")
    in_gemm = isinstance(allowed, list) and "marlin" in allowed
    return at_least(subject, "1.3") and (
        in_gemm or text_argument(subject, "moe_config", "backend") == "MARLIN"
    )


def at_least(subject: Subject, version: str) -> bool:
    """Whether the recipe's TensorRT-LLM is `version` or newer; False when it is not known."""
    pinned, bound = parse_version(subject.recipe.engine.tensorrt_llm), parse_version(version)
    return pinned is not None and bound is not None and pinned >= bound
