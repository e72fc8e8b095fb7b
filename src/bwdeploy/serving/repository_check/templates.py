"""Rules on the legacy `inflight_batcher_llm` templates: mandatory keys that were never filled in."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bwdeploy.checks.reading import DescribedRule
from bwdeploy.facts.triton_templates import engine_models
from bwdeploy.serving.repository_check.model import CONFIG, RepositoryProblem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MAX_BYTES = 1_000_000
_KEY = re.compile(r"\$\{(\w+)\}")
_STRAY_COMMA = re.compile(r'string_value:\s*"[^"]*\\+"')
MANDATORY = frozenset(
    {
        "triton_backend", "triton_max_batch_size", "decoupled_mode", "max_queue_delay_microseconds",
        "max_queue_size", "engine_dir", "batching_strategy", "encoder_input_features_data_type",
        "logits_datatype", "tokenizer_dir", "preprocessing_instance_count", "postprocessing_instance_count",
        "bls_instance_count",
    }
)  # fmt: skip
"""Template keys that a model of another name needs; all others count as unset when they are left."""


def template_problems(place: Path) -> Iterator[RepositoryProblem]:
    """Everything left over of a template in one model directory."""
    file = place / CONFIG
    if not file.is_file():  # opening a pipe would wait for ever
        return
    try:
        with file.open("rb") as stream:
            lines = stream.read(_MAX_BYTES).decode().splitlines()
    except (OSError, UnicodeDecodeError):
        return
    known = engine_models().get(place.name)
    mandatory = MANDATORY if known is None else frozenset(known.mandatory)
    for number, line in enumerate(lines, start=1):
        for key in _KEY.findall(line):
            quoted = f'"${{{key}}}"' in line
            if key in mandatory or not quoted:
                message = f"${{{key}}} was never filled in"
                hint = f"run fill_template.py -i {CONFIG} {key}:VALUE, with \\, for a comma in the value"
                yield RepositoryProblem("triton-template-unfilled", file, number, message, hint)
        if _STRAY_COMMA.search(line):
            message = "a value ends in a backslash: it was cut at a comma that belongs to it"
            hint = r"fill the template again and write \, in shell quotes for each comma"
            yield RepositoryProblem("triton-template-comma", file, number, message, hint)


TEMPLATE_RULES: tuple[DescribedRule, ...] = (
    DescribedRule(
        "triton-template-unfilled",
        "error",
        "a template key that nobody filled in",
        "triton-inference-server/tensorrtllm_backend docs/model_config.md",
        "An unfilled mandatory key does not parse, or counts as unset and fails when the engine loads.",
    ),
    DescribedRule(
        "triton-template-comma",
        "error",
        "a template value that was cut at its comma",
        "triton-inference-server/tensorrtllm_backend docs/model_config.md",
        "fill_template.py takes commas as the end of a value; what follows is lost, such as all GPUs but "
        "the first.",
    ),
)
