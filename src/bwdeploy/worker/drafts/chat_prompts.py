"""The built-in prompts for training drafts: some thousand chat requests, each a template with a subject.

They stand in `data/chat_prompts.json` as kinds, each with templates (`{}` is the place of the subject) and
subjects. What a prompt is about is its group: whoever holds prompts back holds back whole subjects, so that
a held-out prompt is about something that training never saw. So are the chat prompts on which drafts are
measured (`data/workloads.jsonl`): none of them names a subject of these.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

PROMPTS_FILE = Path(__file__).with_name("data") / "chat_prompts.json"


class ChatPrompt(NamedTuple):
    """One user turn."""

    text: str
    subject: str


def chat_prompts() -> list[ChatPrompt]:
    """All of them, in the order of the file."""
    kinds = json.loads(PROMPTS_FILE.read_text(encoding="utf-8"))
    return [
        ChatPrompt(text=template.format(subject), subject=subject)
        for kind in kinds.values()
        for template in kind["templates"]
        for subject in kind["subjects"]
    ]
