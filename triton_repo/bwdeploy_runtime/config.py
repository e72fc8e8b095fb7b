"""The runtime's configuration: `engine.json` beside model.py.

Declared once, standard library only: the repository writer builds an `EngineConfig` and stores its
`to_json`; the Triton stub and the engine process read it back with `from_json`. It says nothing about
the model itself, which is described by the checkpoint.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import PurePosixPath
from typing import Any

from bwdeploy_runtime.errors import ConfigError
from bwdeploy_runtime.spelling import suggestion

RUNTIMES = ("reference", "tensorrt_llm", "echo")


def _bounded(default: float | None, *, low: float, high: float) -> Any:  # noqa: ANN401 - as dataclasses.field
    return field(default=default, metadata={"low": low, "high": high})


@dataclass(frozen=True)
class EngineConfig:
    """How the engine process loads, runs and answers."""

    runtime: str
    """One of RUNTIMES."""
    checkpoint: str = "checkpoint"
    """Directory of the checkpoint, relative to engine.json."""
    llm_args: str | None = None
    """YAML file with arguments for tensorrt_llm.LLM, relative to engine.json."""
    kernels: str | None = None
    """Directory of the kernel pack, relative to engine.json."""
    kernel_ops: tuple[str, ...] = ()
    """Ops of the pack that the model runs with."""
    environment: dict[str, str] = field(default_factory=dict)
    """Variables for the engine process, beside those that it inherits."""
    streaming: bool = True
    """The Triton model is decoupled and takes `streaming: true`."""
    chat_template: bool = False
    """Wrap each prompt as a user turn with the tokenizer's chat template."""
    cumulative_text: bool = False
    """Each streamed response repeats the whole text so far."""
    flush_tokens: int = _bounded(16, low=1, high=4096)
    """Send a response after this many tokens …"""
    flush_interval_ms: int = _bounded(50, low=0, high=10_000)
    """… or when this much time has gone by since the last one."""
    max_running: int = _bounded(64, low=1, high=65_536)
    """Requests given to the engine at once."""
    max_queued: int = _bounded(256, low=0, high=1_048_576)
    """Requests waiting for a place; beyond it a request is refused."""
    max_output_tokens: int = _bounded(4096, low=1, high=1_048_576)
    """Upper bound of sampling_param_max_tokens."""
    max_input_len: int | None = _bounded(None, low=1, high=16_777_216)
    """Longest prompt in tokens; None: as long as max_seq_len allows."""
    max_seq_len: int | None = _bounded(None, low=2, high=16_777_216)
    """Prompt plus answer in tokens; None: what the model was made for."""
    cancellation_check_period_ms: int = _bounded(100, low=1, high=60_000)
    startup_timeout_s: float = _bounded(900, low=0.1, high=86_400)
    """Time for the engine to load."""
    stall_timeout_s: float = _bounded(120, low=0.1, high=86_400)
    """An engine without progress for this long is taken for hung and is restarted."""
    trust_remote_code: bool = False
    """Run Python code that lies in the checkpoint."""
    echo_token_delay_ms: float = _bounded(0, low=0, high=60_000)
    """Runtime echo only: pause between the tokens of a request."""

    def __post_init__(self) -> None:
        if isinstance(self.kernel_ops, list):  # from JSON
            object.__setattr__(self, "kernel_ops", tuple(self.kernel_ops))
        problems = [text for item in fields(self) if (text := _problem(item, getattr(self, item.name)))]
        if not problems and self.runtime not in RUNTIMES:
            problems.append(f"runtime is {self.runtime!r}. {suggestion(self.runtime, RUNTIMES)}")
        if not problems and self.runtime == "tensorrt_llm" and self.llm_args is None:
            problems.append("runtime tensorrt_llm needs llm_args, the YAML file with the LLM arguments")
        if not problems and (self.kernels is None) != (not self.kernel_ops):
            problems.append("kernels, the directory of the pack, and kernel_ops, its ops, need each other")
        if problems:
            raise ConfigError("; ".join(problems))

    def to_json(self) -> str:
        """The content of engine.json."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> EngineConfig:
        """Read the content of engine.json.

        Raises:
            ConfigError: not JSON, an unknown or missing key, a wrong type, a value out of range; all at once.
        """
        try:
            data = json.loads(text)
        except ValueError as error:
            raise ConfigError(f"engine.json is not JSON: {error}. Build the repository again.") from error
        if not isinstance(data, dict):
            raise ConfigError(f"engine.json holds a {type(data).__name__}, not an object.")
        known = {item.name for item in fields(cls)}
        unknown = [f"unknown key {key!r}. {suggestion(key, known)}" for key in data if key not in known]
        if unknown:
            raise ConfigError("engine.json: " + " ".join(unknown))
        if "runtime" not in data:
            raise ConfigError(f"engine.json lacks the key runtime: one of {', '.join(RUNTIMES)}.")
        try:
            return cls(**data)
        except ConfigError as error:
            raise ConfigError(f"engine.json: {error}") from error


_PATHS = ("checkpoint", "llm_args", "kernels")
_NAMES = "tuple[str, ...]"
_VARIABLES = "dict[str, str]"
_ACCEPTED: dict[str, tuple[tuple[type, ...], str]] = {
    "str": ((str,), "text"),
    "bool": ((bool,), "true or false"),
    "int": ((int,), "a whole number"),
    "float": ((int, float), "a number"),
}


def _problem(item: Any, value: object) -> str:  # noqa: ANN401 - dataclasses.Field
    kind, _, optional = str(item.type).partition(" | ")
    if value is None and optional:
        return ""
    if kind in {_NAMES, _VARIABLES}:
        return _collection_problem(item.name, value, is_mapping=kind == _VARIABLES)
    types, words = _ACCEPTED[kind]
    if not isinstance(value, types) or (kind != "bool" and isinstance(value, bool)):
        return f"{item.name} is {value!r}, not {words}"
    if isinstance(value, str):
        return _path_problem(item.name, value) if item.name in _PATHS else ""
    low, high = item.metadata.get("low"), item.metadata.get("high")
    if (
        low is not None
        and isinstance(value, int | float)
        and not (math.isfinite(value) and low <= value <= high)
    ):
        return f"{item.name} is {value}, outside {low} to {high}"
    return ""


def _collection_problem(name: str, value: object, *, is_mapping: bool) -> str:
    if is_mapping:
        texts = [*value.keys(), *value.values()] if isinstance(value, dict) else [None]
        whole, words = all(isinstance(text, str) for text in texts), "names with their values"
    else:
        whole = isinstance(value, tuple) and all(isinstance(one, str) and one for one in value)
        words = "a list of names"
    return "" if whole else f"{name} is {value!r}, not {words}"


def _path_problem(name: str, value: str) -> str:
    path = PurePosixPath(value)
    if not value or path.is_absolute() or ".." in path.parts:
        return f"{name} is {value!r}, not a path inside the model's version directory"
    return ""
