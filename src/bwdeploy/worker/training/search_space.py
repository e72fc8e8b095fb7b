"""What the search for formats may choose from: groups of layers, the formats that fit each, and their bits.

Pure: it sees names, widths and sizes of the model's linear layers, and ModelOpt's presets. Layers that
engines fuse are one group. Layers that an override decides, and those that no format of the search quantizes
(the output head, routers), are not searched and do not count in the budget.
"""

from __future__ import annotations

import math
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any, NamedTuple

from bwdeploy.facts.formats import format_table
from bwdeploy.worker.failures import recipe_error
from bwdeploy.worker.quant_config import effective, fused_groups, preset_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from bwdeploy.recipe.schema import FormatOverride, FormatSearch

NONE = "none"
BF16_BITS = 16.0
_DIGITS = 4


class Layer(NamedTuple):
    """A linear layer."""

    width: int
    """Input features."""
    weights: int


class Group(NamedTuple):
    """Layers that get one format."""

    modules: tuple[str, ...]
    formats: tuple[str, ...]
    """Those that fit all of them, in the recipe's order; unquantized is possible besides."""
    weights: int


class SearchSpace(NamedTuple):
    """All that is searched, and what is not."""

    groups: tuple[Group, ...]
    undecided: tuple[str, ...]
    """Layers that neither the search nor an override decides; they stay unquantized."""
    overridden: tuple[str, ...]
    """Layers that an override decides."""


def search_space(
    search: FormatSearch, overrides: tuple[FormatOverride, ...], layers: Mapping[str, Layer]
) -> SearchSpace:
    """The groups to search among `layers` (all linear layers by name).

    Raises:
        RecipeError: a format that cannot be searched, an override that splits layers which engines fuse, or
            nothing to search.
    """
    _refuse_own_calibration(search)
    presets = {word: preset_of(word) for word in search.formats}
    decided = _overridden(overrides, layers)
    groups: list[Group] = []
    for names in _all_groups(layers):
        _refuse_half_decided(names, decided)
        if names[0] in decided:
            continue
        fitting = tuple(
            word
            for word, preset in presets.items()
            if all(_fits(preset, name, layers[name]) for name in names)
        )
        if fitting:
            groups.append(Group(tuple(names), fitting, sum(layers[name].weights for name in names)))
    if not groups:
        raise recipe_error(
            "quantize.search.formats",
            "no layer of the model is left to search: overrides decide all that these formats quantize",
            hint="Leave layers out of quantize.overrides, or choose formats that quantize this model.",
        )
    searched = {name for group in groups for name in group.modules}
    return SearchSpace(
        groups=tuple(groups),
        undecided=tuple(name for name in layers if name not in searched | decided),
        overridden=tuple(name for name in layers if name in decided),
    )


def bits_of(word: str) -> float:
    """Bits of one weight in a format, scales included; 16 for `none`."""
    return BF16_BITS if word == NONE else format_table().formats[word].bits_per_weight


def effective_bits(choice: Iterable[tuple[Group, str]]) -> float:
    """Bits per weight, on average over all weights of the groups with their formats."""
    pairs = tuple(choice)
    return sum(group.weights * bits_of(word) for group, word in pairs) / sum(
        group.weights for group, _ in pairs
    )


def require_feasible(search: FormatSearch, groups: Iterable[Group]) -> None:
    """Refuse a budget that even the smallest formats exceed.

    Raises:
        RecipeError: it is infeasible; names the smallest feasible one.
    """
    smallest = effective_bits((group, min(group.formats, key=bits_of)) for group in groups)
    if smallest > search.effective_bits:
        feasible = math.ceil(smallest * 10**_DIGITS) / 10**_DIGITS
        raise recipe_error(
            "quantize.search.effective_bits",
            f"{search.effective_bits:g} bits cannot be reached: with the smallest format in every searched "
            f"layer it is {feasible:g}",
            hint=f"Set {feasible:g} or more, or add a smaller format to quantize.search.formats.",
        )


def layer_config(word: str, module: str) -> dict[str, Any]:
    """ModelOpt's configuration that gives a layer the format which `word` has for `module`.

    The search applies configurations layer by layer, where a preset's patterns on whole names never match.
    """
    preset = preset_of(word)
    entries: list[dict[str, Any]] = [{"quantizer_name": "*", "enable": False}]
    for kind in ("weight", "input"):
        attributes = effective(preset["quant_cfg"], f"{module}.{kind}_quantizer")
        if attributes is not None:
            entries.append({"quantizer_name": f"*{kind}_quantizer", "cfg": attributes, "enable": True})
    algorithm = preset["algorithm"] and {"method": "max", "skip_forward_without_activation_calib": True}
    return {"quant_cfg": entries, "algorithm": algorithm, "effective_bits": bits_of(word)}


def _refuse_own_calibration(search: FormatSearch) -> None:
    for number, word in enumerate(search.formats):
        if preset_of(word)["algorithm"] not in (None, "max"):
            raise recipe_error(
                f"quantize.search.formats[{number}]",
                f"{word} has a calibration algorithm of its own and cannot be mixed with other formats",
                hint="Use it alone as quantize.format with method: ptq.",
            )


def _overridden(overrides: tuple[FormatOverride, ...], layers: Mapping[str, Layer]) -> set[str]:
    decided: set[str] = set()
    for override in overrides:
        preset = None if override.format == NONE else preset_of(override.format)
        decided |= {
            name
            for name in layers
            if fnmatch(name, override.modules) and (preset is None or _quantizes(preset, name))
        }
    return decided


def _all_groups(layers: Mapping[str, Layer]) -> Iterator[list[str]]:
    """Fused layers together, every other layer alone, in the model's order."""
    together = {
        name: names
        for names in fused_groups({name: layer.width for name, layer in layers.items()})
        for name in names
    }
    for name in layers:
        names = together.get(name, [name])
        if names[0] == name:
            yield names


def _refuse_half_decided(names: list[str], decided: set[str]) -> None:
    free = [name for name in names if name not in decided]
    if free and len(free) < len(names):
        raise recipe_error(
            "quantize.overrides",
            f"{', '.join(name for name in names if name in decided)} has a format of its own, but engines "
            f"fuse it with {', '.join(free)}",
            hint="Let the pattern match all of them or none.",
        )


def _fits(preset: dict[str, Any], name: str, layer: Layer) -> bool:
    weight = effective(preset["quant_cfg"], f"{name}.weight_quantizer")
    blocks = (weight or {}).get("block_sizes") or {}
    scaled = blocks.get("scale_bits") is not None
    return weight is not None and not (scaled and layer.width % blocks[-1])


def _quantizes(preset: dict[str, Any], name: str) -> bool:
    return effective(preset["quant_cfg"], f"{name}.weight_quantizer") is not None
