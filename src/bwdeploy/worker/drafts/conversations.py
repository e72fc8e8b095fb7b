"""What a draft is trained on, before it becomes tokens: conversations from a file, or the built-in prompts.

A tenth of them (64 at most) is held out for validation. Requests of one group (the same first request, or a
built-in prompt's subject) never stand on both sides: as many groups as prompts are held out, chosen by their
text alone, so that the seed decides only which of their prompts are used.
"""

from __future__ import annotations

import hashlib
import logging
import random
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bwdeploy.recipe.uris import FILE_SCHEME
from bwdeploy.worker.drafts.chat_prompts import chat_prompts
from bwdeploy.worker.drafts.json_lines import is_text, object_in
from bwdeploy.worker.failures import recipe_error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.errors import RecipeError
    from bwdeploy.recipe.schema import DraftTraining

BUILTIN = "builtin://chat-prompts"
SECTION = "speculative.train"
_PATH = f"{SECTION}.data"
_ROLES = ("system", "user", "assistant")
_FORMAT = (
    'Each line is {"prompt": "…"} or {"messages": [{"role": "user", "content": "…"}, …]}, '
    "the roles being system, user and assistant."
)
_HELD_OUT_SHARE = 10
_MOST_HELD_OUT = 64
_LOG = logging.getLogger(__name__)


class Turn(NamedTuple):
    """One message of a chat."""

    role: str
    content: str


class Conversation(NamedTuple):
    """Turns of a chat; `place` says where they come from, for error messages."""

    turns: tuple[Turn, ...]
    group: str
    place: str


class Conversations(NamedTuple):
    """What was chosen."""

    training: list[Conversation]
    held_out: list[Conversation]


def read_conversations(training: DraftTraining) -> Conversations:
    """Choose `training.prompts` conversations, the held-out ones among them.

    Raises:
        RecipeError: no such data, a line of the wrong form, or too few different prompts.
    """
    every = list({one.turns: one for one in _source(training)}.values())
    if len(every) < training.prompts or training.prompts < 2:  # noqa: PLR2004 - one on each side
        raise _too_few(training, len(every))
    random.Random(training.seed).shuffle(every)  # noqa: S311 - reproducible choice, no secret
    wanted = min(_MOST_HELD_OUT, max(1, training.prompts // _HELD_OUT_SHARE))
    held_groups = _held_groups(every, wanted)
    held_out = [one for one in every if one.group in held_groups][:wanted]
    rest = [one for one in every if one.group not in held_groups]
    if not rest:
        raise recipe_error(
            _PATH,
            f"all {len(every)} conversations begin with the same request, so that none can be held out",
            hint="Give conversations about different requests.",
        )
    if len(rest) < training.prompts - len(held_out):
        _LOG.warning(
            "%d of %d prompts share their subject with held-out ones and are left out",
            training.prompts - len(held_out) - len(rest),
            training.prompts,
        )
    return Conversations(training=rest[: training.prompts - len(held_out)], held_out=held_out)


def _held_groups(every: list[Conversation], wanted: int) -> set[str]:
    """As many groups as `wanted`, a tenth of all at most; small ones first, not to lose half of the data."""
    sizes = Counter(one.group for one in every)
    groups = sorted(sizes, key=lambda group: (sizes[group] * _HELD_OUT_SHARE > len(every), _digest(group)))
    return set(groups[: min(wanted, -(-len(groups) // _HELD_OUT_SHARE))])


def _digest(group: str) -> bytes:
    return hashlib.sha256(group.encode("utf-8", errors="replace")).digest()


def _source(training: DraftTraining) -> Iterator[Conversation]:
    given = training.answers == "given"
    if training.data == BUILTIN:
        if given:
            raise recipe_error(
                f"{SECTION}.answers",
                f"{BUILTIN} are prompts without answers",
                hint="Use answers: target, or name a file with conversations.",
            )
        return _builtin()
    if training.data.startswith(FILE_SCHEME):
        return _file(Path(training.data.removeprefix(FILE_SCHEME)), given=given)
    raise recipe_error(
        _PATH, f"{training.data!r} is no data to train a draft on", hint=f"Use {BUILTIN} or file://X.jsonl."
    )


def _builtin() -> Iterator[Conversation]:
    for prompt in chat_prompts():
        yield Conversation((Turn("user", prompt.text),), prompt.subject, BUILTIN)


def _file(path: Path, *, given: bool) -> Iterator[Conversation]:
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _line(line, f"{path}:{number}", given=given)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise recipe_error(_PATH, f"{path} cannot be read: {reason}", hint=_FORMAT) from error


def _line(line: str, place: str, *, given: bool) -> Conversation:
    try:
        row = object_in(line)
    except ValueError as error:
        raise _wrong(place, f"this line {error}") from error
    if isinstance(row.get("prompt"), str) and row["prompt"].strip():
        turns = [Turn("user", row["prompt"])]
    elif "messages" in row:
        turns = _turns(row["messages"], place)
    else:
        found = ", ".join(map(str, row)) or "nothing"
        raise _wrong(place, f"this line has neither a prompt nor messages, but {found}")
    kept = _until_last(turns, "assistant" if given else "user")
    group = next((turn.content for turn in kept if turn.role == "user"), None)
    if group is None:
        needed = "a user turn with the assistant's answer, for answers: given" if given else "a user turn"
        raise _wrong(place, f"this line needs {needed}")
    if not all(is_text(turn.content) for turn in kept):
        raise _wrong(place, "its text holds half of a character (a lone surrogate), which no tokenizer reads")
    return Conversation(kept, group, place)


def _turns(found: Any, place: str) -> list[Turn]:  # noqa: ANN401 - any JSON value
    if not isinstance(found, list) or not found:
        raise _wrong(place, f"messages is no list of turns but {found!r:.60}")
    for number, turn in enumerate(found):
        if not isinstance(turn, dict) or not isinstance(turn.get("content"), str):
            raise _wrong(place, f"messages[{number}] has no text under content")
        if turn.get("role") not in _ROLES:
            raise _wrong(place, f"messages[{number}] has the role {turn.get('role')!r}")
    return [Turn(turn["role"], turn["content"]) for turn in found]


def _until_last(turns: list[Turn], role: str) -> tuple[Turn, ...]:
    """The turns up to the last one of `role`; none without one."""
    last = max((index for index, turn in enumerate(turns) if turn.role == role), default=-1)
    return tuple(turns[: last + 1])


def _wrong(place: str, message: str) -> RecipeError:
    return recipe_error(_PATH, f"{place}: {message}", hint=_FORMAT)


def _too_few(training: DraftTraining, found: int) -> RecipeError:
    return recipe_error(
        f"{SECTION}.prompts",
        f"{training.prompts} different prompts are wanted (2 at least), but {training.data} has {found}",
        hint=f"Set prompts to {found}, or give more." if found > 1 else "Give more prompts.",
    )
