"""The rule table of the documentation, and the descriptions of rules that loading applies."""

from __future__ import annotations

import re
from pathlib import Path

from bwdeploy.checks.reading import READING_RULES
from bwdeploy.report.rules import rule_sections, rule_table

PROJECT = Path(__file__).parents[2]


def test_the_rule_table_is_current() -> None:
    assert (PROJECT / "docs" / "rules.md").read_text() == rule_table(), "run: make rules"


def test_no_two_rules_share_an_id() -> None:
    ids = [rule.id for section in rule_sections() for rule in section]
    assert len(ids) == len(set(ids))


def test_every_rule_of_reading_is_described() -> None:
    """Ids that stand in the code of `recipe/` and ids that are described are the same."""
    room = PROJECT / "src" / "bwdeploy" / "recipe"
    named = {
        name for file in room.glob("*.py") for name in re.findall(r'"(recipe-[a-z-]+)"', file.read_text())
    }
    assert named == {rule.id for rule in READING_RULES}


def test_every_rule_says_why() -> None:
    assert all(rule.why and rule.summary and rule.source for section in rule_sections() for rule in section)
