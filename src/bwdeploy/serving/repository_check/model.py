"""One model directory of a Triton repository as it was read, and what may be wrong with it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path


CONFIG = "config.pbtxt"
MODEL_YAML = "model.yaml"


class RepositoryProblem(NamedTuple):
    """Something that a rule found."""

    rule: str
    file: Path
    line: int
    """1-based; 0 for the whole file or directory."""
    message: str
    hint: str


class ModelDirectory(NamedTuple):
    """One model directory."""

    place: Path
    text: str
    """Of config.pbtxt."""
    config: Any
    """The same as a ModelConfig message."""
    settings: dict[str, object]
    """Of model.yaml, by dotted name; empty without one."""

    @property
    def name(self) -> str:
        """The model's name: its own, or its directory's."""
        return self.config.name or self.place.name

    @property
    def decoupled(self) -> bool:
        """Whether it may answer a request with any number of responses."""
        return bool(self.config.model_transaction_policy.decoupled)

    @property
    def inputs(self) -> frozenset[str]:
        """Names of its inputs."""
        return frozenset(item.name for item in self.config.input)

    @property
    def runs_llm(self) -> bool:
        """Whether it is the LLM API in a Python model: upstream's `llmapi`, or ours."""
        return self.config.backend == "python" and {"text_input", "streaming"} <= self.inputs

    def parameter(self, key: str) -> str:
        """The text of a parameter; empty when it is missing or was never filled in."""
        said = self.config.parameters[key].string_value if key in self.config.parameters else ""
        return "" if "${" in said else str(said)

    def problem(self, rule: str, message: str, hint: str, *, near: str = "") -> RepositoryProblem:
        """A problem of config.pbtxt, on the first line that holds `near`."""
        return RepositoryProblem(rule, self.place / CONFIG, self.line_of(near), message, hint)

    def line_of(self, word: str) -> int:
        """The first line that holds `word`, 0 when none does."""
        if not word:
            return 0
        pattern = re.compile(rf"(?<![\w]){re.escape(word)}")
        lines = enumerate(self.text.splitlines(), start=1)
        return next((number for number, line in lines if pattern.search(line.partition("#")[0])), 0)
