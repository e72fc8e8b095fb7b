"""What rules ask of `engine.build_flags`, of the model and of its checkpoint; raw values may be anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bwdeploy.checks.rule import Rule, Subject
from bwdeploy.engines.drafts import MODE, flags_with_drafts
from bwdeploy.facts.formats import format_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bwdeploy.checks.rule import Problem
    from bwdeploy.errors import Severity
    from bwdeploy.recipe.places import KeyPath

BUILD = "tensorrt_llm/commands/build.py"
PLUGIN = "tensorrt_llm/plugin/plugin.py"
PATH: KeyPath = ("engine", "build_flags")
_ON_BY_DEFAULT = frozenset({"remove_input_padding", "use_paged_context_fmha"})


def flags_of(subject: Subject) -> dict[str, Any]:
    """The options of the recipe's engine, those for its draft heads among them; none with another backend."""
    return flags_with_drafts(subject.recipe) if subject.recipe.engine.backend == "tensorrt" else {}


def mode_place(subject: Subject) -> KeyPath:
    """Where the recipe says how its engine drafts."""
    return (*PATH, MODE) if MODE in subject.recipe.engine.build_flags else ("speculative", "method")


def number_of(flags: dict[str, Any], name: str) -> int:
    """The whole number at `name`, 0 when it is anything else."""
    value = flags.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def is_on(subject: Subject, name: str) -> bool:
    """Whether an option that takes enable, disable or a type is on; true is taken for enable."""
    value = flags_of(subject).get(name, "enable" if name in _ON_BY_DEFAULT else "disable")
    return value is True or (isinstance(value, str) and value != "disable")


def architecture_of(subject: Subject) -> str | None:
    """The model's architecture as far as it is known."""
    return subject.shape.architecture if subject.shape is not None and subject.shape.architecture else None


def algorithm_of(subject: Subject) -> str | None:
    """The quantization algorithm of the checkpoint as TensorRT-LLM names it, None when it is not known."""
    quantize, source = subject.recipe.quantize, subject.model.quantization
    if quantize.format is not None:
        return "MIXED_PRECISION" if quantize.overrides else format_table().formats[quantize.format].quant_algo
    found = source.get("quant_algo") if source is not None else None
    return found if isinstance(found, str) else None


def flag_rule(
    name: str,
    severity: Severity,
    summary: str,
    find: Callable[[Subject], Iterator[Problem]],
    *,
    source: str = BUILD,
    why: str,
) -> Rule:
    """A rule about options of trtllm-build."""
    return Rule(
        id=f"build-flag-{name}", severity=severity, summary=summary, find=find, source=source, why=why
    )
