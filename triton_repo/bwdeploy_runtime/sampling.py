"""How the next token is chosen and when an answer ends: parameters, bounds and defaults.

The meaning follows TensorRT-LLM's SamplingParams: with none of temperature, top_k and top_p given the
answer is greedy; temperature 0, top_k 1 or top_p 0 are greedy too; anything else samples. max_tokens is
32 when left out. One answer per request: best_of above 1 is refused, there are no beams.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from bwdeploy_runtime.errors import InvalidRequestError
from bwdeploy_runtime.spelling import suggestion

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_MAX_TOKENS = 32
"""The default of tensorrt_llm.SamplingParams."""
MAX_STOP_STRINGS = 64
MAX_STOP_CHARACTERS = 1024
_MAX_SEED = 2**64 - 1
_MAX_TOP_K = 2**31 - 1


@dataclass(frozen=True)
class SamplingParams:
    """Checked sampling parameters; None means: not given."""

    max_tokens: int = DEFAULT_MAX_TOKENS
    temperature: float | None = None
    top_k: int | None = None
    """0: no limit."""
    top_p: float | None = None
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    return_perf_metrics: bool = False
    cumulative_logprob: bool = False
    """The client wants the log probability of the answer, which costs time in some engines."""

    @property
    def greedy(self) -> bool:
        """Whether the most likely token is always taken (as tensorrt_llm decides it)."""
        given = (self.temperature, self.top_k, self.top_p)
        return given == (None, None, None) or self.temperature == 0 or self.top_k == 1 or self.top_p == 0

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a frame; `parse` reads it back."""
        return {key: value for key, value in asdict(self).items() if value is not None}

    @classmethod
    def parse(cls, values: Mapping[str, Any], *, max_tokens_limit: int) -> SamplingParams:
        """Check plain values and build the parameters.

        Raises:
            InvalidRequestError: an unknown name, a wrong type or a value out of range.
        """
        known = {item.name for item in fields(cls)} | {"best_of"}
        for name in values:
            if name not in known:
                raise InvalidRequestError(f"unknown sampling parameter {name}. {suggestion(name, known)}")
        _one_answer_only(values.get("best_of"))
        default = min(DEFAULT_MAX_TOKENS, max_tokens_limit)
        return cls(
            max_tokens=_integer("max_tokens", values, 1, max_tokens_limit, default) or default,
            temperature=_number("temperature", values, low=0.0),
            top_k=_integer("top_k", values, 0, _MAX_TOP_K, None),
            top_p=_number("top_p", values, low=0.0, high=1.0),
            frequency_penalty=_number("frequency_penalty", values) or 0.0,
            presence_penalty=_number("presence_penalty", values) or 0.0,
            stop=_stop_strings(values.get("stop", ())),
            seed=_integer("seed", values, 0, _MAX_SEED, None),
            return_perf_metrics=_flag("return_perf_metrics", values),
            cumulative_logprob=_flag("cumulative_logprob", values),
        )


def _one_answer_only(best_of: object) -> None:
    if best_of not in (None, 1):
        raise InvalidRequestError(
            f"best_of is {best_of}: one answer per request is made. Send the request {best_of} times with "
            "different seeds instead."
        )


def _integer(name: str, values: Mapping[str, Any], low: int, high: int, default: int | None) -> int | None:
    value = values.get(name, default)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidRequestError(f"{name} is {value!r}, not a whole number.")
    if not low <= value <= high:
        raise InvalidRequestError(f"{name} is {value}, outside {low} to {high}.")
    return value


def _number(
    name: str, values: Mapping[str, Any], *, low: float = -math.inf, high: float = math.inf
) -> float | None:
    value = values.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidRequestError(f"{name} is {value!r}, not a number.")
    if not math.isfinite(value) or not low <= value <= high:
        bounds = f"{low} to {high}" if math.isfinite(high) else f"{low} and above"
        raise InvalidRequestError(
            f"{name} is {value}, " + (f"outside {bounds}." if math.isfinite(low) else "not a finite number.")
        )
    return float(value)


def _flag(name: str, values: Mapping[str, Any]) -> bool:
    value = values.get(name, False)
    if not isinstance(value, bool):
        raise InvalidRequestError(f"{name} is {value!r}, not true or false.")
    return value


def _stop_strings(value: object) -> tuple[str, ...]:
    items = (value,) if isinstance(value, str) else value
    if not isinstance(items, list | tuple) or not all(isinstance(item, str) for item in items):
        raise InvalidRequestError(f"stop is {value!r}, not a list of strings.")
    if len(items) > MAX_STOP_STRINGS:
        raise InvalidRequestError(f"stop has {len(items)} strings, more than {MAX_STOP_STRINGS}.")
    for item in items:
        if not 1 <= len(item) <= MAX_STOP_CHARACTERS:
            raise InvalidRequestError(
                f"a stop string has {len(item)} characters, outside 1 to {MAX_STOP_CHARACTERS}."
            )
    return tuple(items)
