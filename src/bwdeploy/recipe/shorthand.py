"""Words that stand for a mapping: `layout: auto` is `layout: {auto: throughput}`.

Written out before layers are merged, so that `layout: auto` over a base keeps the base's GPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bwdeploy.recipe.layers import Layer
    from bwdeploy.recipe.places import KeyPath

_SHORTHANDS: dict[tuple[KeyPath, str], dict[str, Any]] = {(("layout",), "auto"): {"auto": "throughput"}}


def written_out(path: KeyPath, value: Any) -> Any:  # noqa: ANN401 - JSON data
    """The value at `path` in full."""
    return dict(_SHORTHANDS.get((path, value), {})) or value if isinstance(value, str) else value


def with_words_written_out(layer: Layer) -> Layer:
    """`layer` with every shorthand at its top written out, in place."""
    for key, value in layer.data.items():
        layer.data[key] = written_out((key,), value)
    return layer
