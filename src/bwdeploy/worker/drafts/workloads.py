"""The prompts that a draft is measured on, by workload: the built-in ones, or those of a jsonl file.

Each line is an object with `prompt` and `workload`. An interval comes from resampling whole prompts, so a
workload needs a few of them.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bwdeploy.recipe.uris import FILE_SCHEME
from bwdeploy.worker.drafts.json_lines import is_text, object_in
from bwdeploy.worker.failures import recipe_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bwdeploy.recipe.schema import DraftMeasurement

SECTION = "speculative.measure"
BUILTIN = "builtin://workloads"
FEWEST_PROMPTS = 4
"""Of a workload; fewer give no interval worth the name."""
_DATA = Path(__file__).with_name("data") / "workloads.jsonl"
_LONGEST_NAME = 100
_FEWEST_TOKENS = 2
_HINT = 'Each line is an object such as {"prompt": "Write a limerick.", "workload": "chat"}.'


class Prompt(NamedTuple):
    """One request."""

    workload: str
    text: str
    place: str
    """File and line."""


class TokenizedPrompt(NamedTuple):
    """What the model reads of a request, up to where its answer begins."""

    workload: str
    tokens: tuple[int, ...]


def read_prompts(measurement: DraftMeasurement) -> list[Prompt]:
    """The prompts that the recipe asks for, at most `prompts_per_workload` of each workload, by workload.

    Raises:
        RecipeError: the file is missing or in another format, or a workload has too few prompts.
    """
    source = measurement.prompts
    if source != BUILTIN and not source.startswith(FILE_SCHEME):
        raise recipe_error(
            f"{SECTION}.prompts",
            f"{source!r} is no file of prompts",
            hint=f"Use {BUILTIN} or file://X.jsonl.",
        )
    path = _DATA if source == BUILTIN else Path(source.removeprefix(FILE_SCHEME))
    by_workload: dict[str, list[Prompt]] = {}
    for prompt in _lines(path):
        by_workload.setdefault(prompt.workload, []).append(prompt)
    chosen = [_choose(prompts, measurement) for prompts in by_workload.values()]
    if not chosen:
        raise recipe_error(f"{SECTION}.prompts", f"{path} holds no prompt", hint=_HINT)
    return [prompt for prompts in chosen for prompt in prompts]


def tokenize(
    prompts: Sequence[Prompt],
    tokenizer: Any,  # noqa: ANN401 - transformers
    *,
    longest: int | None,
) -> list[TokenizedPrompt]:
    """Prompts as the model reads them, as a user turn where the tokenizer has a chat template.

    Raises:
        RecipeError: a prompt is longer than `longest` tokens, or of one token only.
    """
    return [_tokenized(prompt, tokenizer, longest) for prompt in prompts]


def _lines(path: Path) -> list[Prompt]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # splitlines also cuts inside strings
    except (OSError, UnicodeDecodeError) as error:
        raise recipe_error(f"{SECTION}.prompts", f"{path} cannot be read: {error}", hint=_HINT) from error
    return [_prompt(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()]


def _prompt(line: str, place: str) -> Prompt:
    try:
        row = object_in(line)
    except ValueError as error:
        raise recipe_error(f"{SECTION}.prompts", f"{place} {error}", hint=_HINT) from error
    for key in ("prompt", "workload"):
        if not isinstance(row.get(key), str) or not row[key].strip() or not is_text(row[key]):
            raise recipe_error(f"{SECTION}.prompts", f"{place} has no text under {key!r}", hint=_HINT)
    if len(row["workload"]) > _LONGEST_NAME:
        raise recipe_error(f"{SECTION}.prompts", f"{place}: the name of the workload is too long", hint=_HINT)
    return Prompt(workload=row["workload"].strip(), text=row["prompt"], place=place)


def _choose(prompts: list[Prompt], measurement: DraftMeasurement) -> list[Prompt]:
    wanted = min(len(prompts), measurement.prompts_per_workload)
    if wanted < FEWEST_PROMPTS:
        raise recipe_error(
            f"{SECTION}.prompts",
            f"{wanted} prompts of workload {prompts[0].workload!r} give no interval, {FEWEST_PROMPTS} do",
            hint="Give more prompts of it, or raise speculative.measure.prompts_per_workload.",
        )
    seed = f"{measurement.seed} {prompts[0].workload}"
    return random.Random(seed).sample(prompts, wanted)  # noqa: S311 - reproducible choice, no secret


def _tokenized(prompt: Prompt, tokenizer: Any, longest: int | None) -> TokenizedPrompt:  # noqa: ANN401
    if tokenizer.chat_template:
        turn = _turn(prompt, tokenizer)
        tokens = tokenizer(turn, add_special_tokens=False, verbose=False)["input_ids"]
    else:
        tokens = tokenizer(prompt.text, verbose=False)["input_ids"]
    if longest is not None and len(tokens) > longest:
        raise recipe_error(
            f"{SECTION}.prompts",
            f"{prompt.place} has {len(tokens)} tokens; beside new_tokens the model has room for"
            f" {max(0, longest)}",
            hint="Shorten the prompt, or lower speculative.measure.new_tokens.",
        )
    if len(tokens) < _FEWEST_TOKENS:
        raise recipe_error(f"{SECTION}.prompts", f"{prompt.place} has too few tokens; a draft reads two")
    return TokenizedPrompt(prompt.workload, tuple(tokens))


def _turn(prompt: Prompt, tokenizer: Any) -> str:  # noqa: ANN401
    turns = [{"role": "user", "content": prompt.text}]
    try:
        text: str = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    except Exception as error:  # a template raises what it likes
        raise recipe_error(
            f"{SECTION}.prompts", f"{prompt.place}: the model's chat template refuses it: {error}"
        ) from error
    return text
