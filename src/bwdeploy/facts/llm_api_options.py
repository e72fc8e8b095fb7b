"""Options of `trtllm-serve` and `trtllm-bench`, and the LLM API arguments that they stand for."""

from __future__ import annotations

from functools import cache
from typing import Literal, NamedTuple

from bwdeploy.facts.reader import read_data

FILE, MODEL, MODEL_PATH = "(file)", "(model)", "(model_path)"
"""What an option gives in place of an argument."""
PROGRAMS = ("trtllm-serve", "trtllm-bench")


class LaunchOption(NamedTuple):
    """One option of a command line."""

    kind: Literal["whole", "number", "text", "switch"]
    argument: str
    """Dotted path of the argument, or one of the words above; empty: it stands for none."""
    why: str
    """Why it stands for none."""


@cache
def launch_options(program: str) -> dict[str, LaunchOption]:
    """Every known option of `program` under each of its names, with dashes."""
    return {
        name: LaunchOption(row["kind"], row.get("argument", ""), row.get("why", ""))
        for row in read_data("llm_api_options.json")[program]
        for name in row["options"]
    }
