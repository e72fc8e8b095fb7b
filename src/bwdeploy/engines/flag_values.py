"""Whether a value fits an option of trtllm-build, in the words of somebody who writes a recipe.

One judgment for the rules, for the command line that is written and for the one that is read. It knows one
option at a time; which options contradict each other is said in `checks`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bwdeploy.facts.build_flags import BuildFlag

_MAX_TEXT = 4096


def misfit(flag: BuildFlag, value: object) -> str:
    """What `flag` expects when `value` is something else, or an empty string."""
    match flag.kind:
        case "whole":
            fits = isinstance(value, int) and not isinstance(value, bool) and value >= 0
            return "" if fits else "a whole number of 0 or more"
        case "switch":
            return "" if isinstance(value, bool) else "true or false"
        case "list":
            fits = isinstance(value, list | tuple) and bool(value) and all(map(_is_word, value))
            return "" if fits else "a list of names"
        case _ if flag.choices:
            return "" if isinstance(value, str) else "one of " + ", ".join(flag.choices)
        case _:
            return "" if _is_word(value) else "text that does not begin with -"


def wrong_words(flag: BuildFlag, value: object) -> tuple[str, ...]:
    """The words of `value` that are none of the choices of `flag`; empty for a value of another type."""
    if not flag.choices:
        return ()
    words = value if isinstance(value, list | tuple) else (value,)
    return tuple(word for word in words if isinstance(word, str) and word not in flag.choices)


def _is_word(value: object) -> bool:
    """A word that begins with a dash would be read as the next option."""
    return (
        isinstance(value, str)
        and 0 < len(value) <= _MAX_TEXT
        and not value.startswith("-")
        and value.isprintable()
    )
