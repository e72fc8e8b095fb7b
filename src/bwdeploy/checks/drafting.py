"""What a recipe drafts with: its section `speculative` and `engine.llm_args.speculative_config` as one.

The section decides type, length and draft; everything else comes from the arguments. Rules on it stand in
`speculative` and `draft_schedule`; nothing is judged here. Arguments are raw data and may hold anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from bwdeploy.facts.speculation import DRAFT_KEYS, HEADS, LENGTH_KEYS, NEW_SPELLING, speculative_config
from bwdeploy.facts.versions import parse_version
from bwdeploy.model.config_file import find_config, local_source
from bwdeploy.model.problem import ShapeError

if TYPE_CHECKING:
    from bwdeploy.checks.rule import Subject
    from bwdeploy.facts.versions import Version
    from bwdeploy.recipe.places import KeyPath
    from bwdeploy.recipe.schema import Speculative

ARGUMENT: KeyPath = ("engine", "llm_args", "speculative_config")


class Drafting(NamedTuple):
    """One recipe's speculation on the PyTorch backend."""

    section: Speculative | None
    given: dict[str, Any]
    """`engine.llm_args.speculative_config`."""
    config: dict[str, Any]
    """Both, spelled for the version."""
    kind: str
    """eagle, mtp, ngram, drafttarget, …; the same for every spelling, empty when none is given."""
    tensorrt_llm: str
    version: Version

    @property
    def is_old(self) -> bool:
        """Whether this version spells and means things as 1.2 does."""
        return self.version < NEW_SPELLING

    @property
    def type_word(self) -> str:
        """The decoding type as this recipe or this version spells it."""
        return str(self.config.get("decoding_type", ""))

    @property
    def draft_len(self) -> int | None:
        """Tokens drafted in a step, None while the recipe does not say."""
        found = (self.number(key) for key in LENGTH_KEYS)
        return next((value for value in found if value is not None), None)

    @property
    def longest_draft(self) -> int | None:
        """The most tokens that a step may draft, also while the length is yet to be measured."""
        return self.section.longest_draft if self.section is not None else self.draft_len

    @property
    def names_draft(self) -> bool:
        """Whether a draft model is named, in either place, or trained."""
        section = self.section
        made = section is not None and (section.draft is not None or section.train is not None)
        return made or any(self.config.get(key) for key in DRAFT_KEYS)

    def number(self, key: str) -> int | None:
        """The whole number at `key`, None when it is anything else."""
        return whole(self.config.get(key))

    def place(self, key: str = "") -> KeyPath:
        """Where the recipe says `key`, or where it says that it drafts."""
        if key in self.given:
            return (*ARGUMENT, key)
        if self.section is None:
            return ARGUMENT
        field = {"decoding_type": "method", **dict.fromkeys(LENGTH_KEYS, "draft_len")}.get(key)
        return ("speculative", field) if field else ("speculative",)


def drafting(subject: Subject) -> Drafting | None:
    """What the recipe drafts with, None when it does not, or not with the PyTorch backend."""
    engine, section = subject.recipe.engine, subject.recipe.speculative
    given = engine.llm_args.get("speculative_config")
    version = parse_version(engine.tensorrt_llm)
    if engine.backend != "pytorch" or version is None or (section is None and not isinstance(given, dict)):
        return None
    if section is not None and section.method in HEADS:
        return None  # speculative-engine-heads says that this backend has none
    given = given if isinstance(given, dict) else {}
    config = dict(given)
    if section is not None:
        config |= speculative_config(section, engine.tensorrt_llm, draft_directory=None)
    return Drafting(
        section=section,
        given=given,
        config=config,
        kind=kind_of(config.get("decoding_type")),
        tensorrt_llm=engine.tensorrt_llm,
        version=version,
    )


def kind_of(decoding_type: object) -> str:
    """One word for all spellings of a decoding type."""
    if not isinstance(decoding_type, str):
        return ""
    plain = decoding_type.lower().replace("_", "")
    return "eagle" if plain == "eagle3" else plain


def whole(value: object) -> int | None:
    """`value` when it is a whole number (true and false are none)."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def draft_configuration(section: Speculative | None) -> dict[str, Any]:
    """The draft's config.json as far as this machine has it, else empty."""
    if section is None or section.draft is None:
        return {}
    try:
        found = find_config(section.draft, local_source(section.draft))
    except ShapeError:  # `build` says what is wrong with the file; here it only means that nothing is known
        return {}
    return found.config if found is not None else {}
