"""From the recipe's quantize section to the configuration that ModelOpt is given.

Starts from ModelOpt's own preset or recipe, adds the overrides as entries for exactly named layers, merges
the KV cache preset, and refuses what ModelOpt would only stumble over at export. Pure: it sees the names and
widths of the model's linear layers, not the model.
"""

from __future__ import annotations

import copy
import difflib
import json
from collections import defaultdict
from fnmatch import fnmatch
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bwdeploy.facts.formats import format_table
from bwdeploy.worker.failures import recipe_error

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bwdeploy.pipeline.jobs import QuantizePtq
    from bwdeploy.recipe.schema import FormatOverride

Entry = dict[str, Any]
# Layers that serving engines fuse into one matrix: they must share a format and a scale.
_FUSED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
EXPERTS = ".experts"
"""How the name of a block of routed experts ends, which transformers keeps in stacked tensors."""
_EXACT_BITS = 4
_WILDCARDS = frozenset("*?[")


def build_config(request: QuantizePtq, linears: Mapping[str, int]) -> dict[str, Any]:
    """ModelOpt's configuration for `request`; `linears` maps each linear layer's name to its input width.

    Raises:
        RecipeError: unknown format or recipe, an override that matches nothing, formats that cannot be mixed,
            or a layer whose width the format cannot divide.
    """
    config = _base_config(request)
    entries: list[Entry] = config["quant_cfg"]
    for number, override in enumerate(request.overrides):
        path = f"quantize.overrides[{number}]"
        entries += _override_entries(path, override, linears, config)
    _refuse_split_fusions(entries, linears)
    _refuse_uneven_blocks(entries, linears)
    if request.kv_cache != "none":
        config = _with_kv_cache(config, request.kv_cache)
    if config["algorithm"] == "max":
        # Weight-only formats then need no forward pass, and no calibration text.
        config["algorithm"] = {"method": "max", "skip_forward_without_activation_calib": True}
    return config


def check_words(request: QuantizePtq) -> None:
    """Refuse unknown words at once, before the seconds that ModelOpt takes to import.

    Raises:
        RecipeError: no format, or one that is not in the table.
    """
    table = format_table()
    if request.recipe is None:
        _refuse_unknown("quantize.format", request.format, table.formats)
    for number, override in enumerate(request.overrides):
        _refuse_unknown(
            f"quantize.overrides[{number}].format", override.format, {**table.formats, "none": None}
        )
    _refuse_unknown("quantize.kv_cache", request.kv_cache, {**table.kv_cache, "none": None})


def _refuse_unknown(path: str, word: str | None, known: Mapping[str, object]) -> None:
    if word not in known:
        message = "is missing" if word is None else f"{word!r} is no format"
        raise recipe_error(path, message, hint=f"One of: {', '.join(known)}.")


def quantizes(config: dict[str, Any], module: str) -> bool:
    """Whether the weight of `module` is quantized by `config`."""
    return effective(config["quant_cfg"], f"{module}.weight_quantizer") is not None


def effective(entries: Iterable[Entry], quantizer: str) -> Entry | None:
    """The attributes that an ordered list of entries leaves on a linear layer's quantizer; None: disabled."""
    current: Entry | None = None
    last: Entry | None = None
    for entry in entries:
        if entry.get("parent_class") not in {None, "nn.Linear"}:
            continue
        pattern = entry["quantizer_name"]
        # Most entries name one quantizer exactly; as patterns they would be compiled over and over.
        if pattern != quantizer and (_WILDCARDS.isdisjoint(pattern) or not fnmatch(quantizer, pattern)):
            continue
        last = entry.get("cfg") or last
        current = last if entry.get("enable", True) else None
    return current


def _base_config(request: QuantizePtq) -> dict[str, Any]:
    if request.recipe is not None:
        return _modelopt_recipe(request.recipe)
    return preset_of(str(request.format))


def preset_of(word: str) -> dict[str, Any]:
    """ModelOpt's own configuration for a format, as a copy."""
    facts = format_table().formats[word]
    mtq = import_module("modelopt.torch.quantization")
    # The presets are shared dictionaries: changing one would change it for the whole process.
    return _plain(copy.deepcopy(getattr(mtq, facts.preset)))


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    return {"quant_cfg": list(config["quant_cfg"]), "algorithm": config.get("algorithm")}


def _modelopt_recipe(name: str) -> dict[str, Any]:
    loader = import_module("modelopt.recipe.loader")
    scheme, _, rest = name.partition("file://")
    place = Path(rest) if not scheme and rest else _builtin_recipe(name, loader.BUILTIN_RECIPES_LIB)
    try:
        recipe = loader.load_recipe(place)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise recipe_error("quantize.recipe", f"ModelOpt cannot load {name!r}: {_one_line(error)}") from error
    if getattr(recipe, "quantize", None) is None:
        raise recipe_error(
            "quantize.recipe",
            f"{name!r} is no PTQ recipe",
            hint="Use one of ModelOpt's general/ptq/ recipes.",
        )
    return _plain(recipe.quantize.model_dump(exclude_unset=True))


def _builtin_recipe(name: str, library: Any) -> Path:  # noqa: ANN401 - importlib Traversable
    """A recipe of ModelOpt's own library; a name never reaches into the file system."""
    root = Path(str(library))
    names = sorted(path.relative_to(root).with_suffix("").as_posix() for path in root.glob("*/**/*.yaml"))
    wanted = name.removesuffix(".yaml").removesuffix(".yml")
    if wanted in names:
        return root / f"{wanted}.yaml"
    near = difflib.get_close_matches(wanted, names, n=1, cutoff=0.3)
    raise recipe_error(
        "quantize.recipe",
        f"ModelOpt has no recipe {name!r}",
        hint=(f"Did you mean {near[0]}? " if near else "") + "A file of your own is file://X.yaml.",
    )


def _override_entries(
    path: str, override: FormatOverride, linears: Mapping[str, int], config: dict[str, Any]
) -> list[Entry]:
    names = [name for name in linears if fnmatch(name, override.modules)]
    if not names:
        near = difflib.get_close_matches(override.modules.strip("*."), linears, n=1, cutoff=0.0)
        raise recipe_error(
            f"{path}.modules",
            f"{override.modules!r} matches no linear layer of the model",
            hint=f"A layer is named, for example, {near[0]}." if near else "",
        )
    if override.format == "none":
        return [entry for name in names for entry in _entries_for(name, None, None)]
    preset = preset_of(override.format)
    _share_algorithm(path, override, preset, config)
    made: list[Entry] = []
    for name in names:
        weight = effective(preset["quant_cfg"], f"{name}.weight_quantizer")
        if weight is not None:
            inputs = effective(preset["quant_cfg"], f"{name}.input_quantizer")
            made += _entries_for(name, weight, inputs)
    if not made:
        raise recipe_error(
            path,
            f"format {override.format} quantizes none of the {len(names)} layers that "
            f"{override.modules!r} matches",
            hint="Its preset leaves them in bf16; choose another format or none.",
        )
    return made


def _share_algorithm(
    path: str, override: FormatOverride, preset: dict[str, Any], config: dict[str, Any]
) -> None:
    """One calibration runs over the whole model, so only formats that need range collection can join."""
    if preset["algorithm"] not in (None, "max"):
        raise recipe_error(
            f"{path}.format",
            f"{override.format} has a calibration algorithm of its own and cannot be mixed in",
            hint="Make it quantize.format, and name the other layers' formats in overrides.",
        )
    config["algorithm"] = config["algorithm"] or preset["algorithm"]


def _entries_for(name: str, weight: Entry | None, inputs: Entry | None) -> list[Entry]:
    # A block of experts has several quantizers of each kind, with the names of its tensors in front.
    several = "*" if name.endswith(EXPERTS) else ""
    pairs = (
        (f"{name}.{several}weight_quantizer", weight),
        (f"{name}.{several}input_quantizer", inputs),
    )
    return [
        {"quantizer_name": quantizer, "enable": False}
        if cfg is None
        else {"quantizer_name": quantizer, "cfg": copy.deepcopy(cfg), "enable": True}
        for quantizer, cfg in pairs
    ]


def _with_kv_cache(config: dict[str, Any], word: str) -> dict[str, Any]:
    """Merge a KV preset; alone it would leave every quantizer on as INT8."""
    facts = format_table().kv_cache[word]
    mtq = import_module("modelopt.torch.quantization")
    preset = copy.deepcopy(getattr(mtq, facts.preset))
    merged: dict[str, Any] = mtq.update_quant_cfg_with_kv_cache_quant(config, preset["quant_cfg"])
    return merged


def _refuse_split_fusions(entries: list[Entry], linears: Mapping[str, int]) -> None:
    for names in fused_groups(linears):
        kinds = {
            json.dumps(
                [effective(entries, f"{name}.{kind}_quantizer") for kind in ("weight", "input")], default=str
            )
            for name in names
        }
        if len(kinds) > 1:
            raise recipe_error(
                "quantize.overrides",
                f"{', '.join(names)} get different formats, but engines fuse them into one matrix",
                hint="Let the pattern match all of them or none.",
            )


def fused_groups(linears: Mapping[str, int]) -> list[list[str]]:
    """The layers that engines fuse, where a model has more than one of a group."""
    groups: dict[tuple[str, int], list[str]] = defaultdict(list)
    for name in linears:
        parent, _, leaf = name.rpartition(".")
        for number, members in enumerate(_FUSED):
            if leaf in members:
                groups[parent, number].append(name)
    return [names for names in groups.values() if len(names) > 1]


def _refuse_uneven_blocks(entries: list[Entry], linears: Mapping[str, int]) -> None:
    for name, width in linears.items():
        weight = effective(entries, f"{name}.weight_quantizer")
        blocks = (weight or {}).get("block_sizes") or {}
        group = blocks.get(-1)
        packed = blocks.get("scale_bits") is not None or (weight or {}).get("num_bits") == _EXACT_BITS
        if group and packed and width % group:
            raise recipe_error(
                "quantize.format",
                f"{name} has {width} input features, not a multiple of the format's group of {group}",
                hint=f"Add an override {{modules: '{name}', format: none}} or choose another format.",
            )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
