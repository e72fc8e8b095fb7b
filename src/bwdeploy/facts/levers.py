"""What a setting was worth where somebody published it: the rows of `levers.json`.

A row speaks about one key of a recipe and only under its conditions. It reports one run on the hardware and
software that it names; whether another deployment gains as much is for a measurement to say.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from bwdeploy.facts.reader import read_data

if TYPE_CHECKING:
    from collections.abc import Mapping

Path = tuple[str, ...]
"""Keys of a recipe, for example `("layout", "attention_dp")`."""


_MISSING = object()


class Condition(NamedTuple):
    """What a recipe must say for a lever to be in use."""

    path: Path
    test: Literal["equal", "above", "set", "on"]
    value: Any = None

    def holds(self, recipe: Mapping[str, Any]) -> bool:
        """Whether `recipe` (plain data) says so."""
        said = value_at(recipe, self.path, missing=_MISSING)
        match self.test:
            case "on":
                return said is not None
            case "set":
                return said is not None and said is not _MISSING
            case "above":
                is_number = isinstance(said, int | float) and not isinstance(said, bool)
                return is_number and said > self.value
            case "equal":
                return said == self.value and isinstance(said, bool) == isinstance(self.value, bool)


class Lever(NamedTuple):
    """One published effect of one key."""

    id: str
    path: Path
    when: tuple[Condition, ...]
    effect: str
    """In words, with both figures where they are published."""
    ratio: float | None
    """Speed with over speed without; None where no speed is published."""
    model: str
    """Name as in the hub's repositories, then its format."""
    hardware: str
    workload: str
    software: str
    date: str
    """Empty when the source gives none."""
    source: str

    def in_use(self, recipe: Mapping[str, Any]) -> bool:
        """Whether `recipe` (plain data, defaults included) has the lever as it was published."""
        return all(condition.holds(recipe) for condition in self.when)

    def is_about(self, recipe: Mapping[str, Any]) -> bool:
        """Whether it was published for the model that `recipe` names, in whatever format."""
        name, *_ = self.model.split(" ")
        return name.lower() in str(value_at(recipe, ("model", "source"))).lower()


@cache
def all_levers() -> tuple[Lever, ...]:
    """Every row, in the order of the file."""
    return tuple(
        Lever(
            **{
                **row,
                "path": tuple(row["path"].split(".")),
                "when": tuple(
                    Condition(tuple(one["path"].split(".")), one["is"], one.get("value"))
                    for one in row["when"]
                ),
                "ratio": row.get("ratio"),
            }
        )
        for row in read_data("levers.json")["levers"]
    )


def levers_at(path: Path, *recipes: Mapping[str, Any]) -> tuple[Lever, ...]:
    """The levers at `path`, above or below it, that at least one of `recipes` has in use.

    Where some were published for the model of such a recipe, only these.
    """
    in_use = tuple(
        lever
        for lever in all_levers()
        if _related(lever.path, path) and any(lever.in_use(recipe) for recipe in recipes)
    )
    return tuple(lever for lever in in_use if any(map(lever.is_about, recipes))) or in_use


def value_at(data: Any, path: Path, *, missing: Any = None) -> Any:  # noqa: ANN401 - plain data of a recipe
    """The value at `path`, `missing` where nothing stands."""
    for word in path:
        if not isinstance(data, dict) or word not in data:
            return missing
        data = data[word]
    return data


def _related(one: Path, other: Path) -> bool:
    shared = min(len(one), len(other))
    return one[:shared] == other[:shared]
