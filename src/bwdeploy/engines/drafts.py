"""What the section `speculative` means for an engine: options of trtllm-build, and the tree to serve with.

EAGLE and Medusa heads are part of the checkpoint, so that the converter, the build and the server must be
told the same. Here they are told it, from the one place where a recipe says it; a mode in `build_flags`
counts as well, for sources that bring their heads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from bwdeploy.facts.draft_trees import BUILT_IN_NODES, DraftTree, choices_key, draft_tree
from bwdeploy.facts.speculation import HEADS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bwdeploy.recipe.schema import Engine, Recipe, Serve

MODE, LENGTH = "speculative_decoding_mode", "max_draft_len"


class Heads(NamedTuple):
    """Draft heads inside an engine."""

    kind: Literal["eagle", "medusa"]
    draft_len: int
    """Tokens that the engine takes in one step."""
    draft: str | None
    """The URI of the heads; None when the model's source has them."""
    parameters: Mapping[str, Any]
    """`serve.engine_parameters`, which may give another tree."""

    @property
    def tree(self) -> DraftTree:
        """What one step drafts."""
        return draft_tree(self.kind, self.draft_len, self.parameters)


def heads_of(recipe: Recipe) -> Heads | None:
    """The heads that the engine of `recipe` drafts with; None without, and with the PyTorch backend."""
    engine, section = recipe.engine, recipe.speculative
    if engine.backend != "tensorrt":
        return None
    kind: Any = section.method if section is not None else engine.build_flags.get(MODE)
    if not isinstance(kind, str) or kind not in HEADS:
        return None
    length = section.longest_draft if section is not None else engine.build_flags.get(LENGTH)
    length = length if isinstance(length, int) and not isinstance(length, bool) and length > 0 else 0
    return Heads(
        kind="eagle" if kind == "eagle" else "medusa",
        draft_len=length or BUILT_IN_NODES,
        draft=section.draft if section is not None else None,
        parameters=recipe.serve.engine_parameters,
    )


def brings_heads(recipe: Recipe, config: Mapping[str, Any] | None) -> bool:
    """Whether the source was quantized with its heads; an unknown `config` (None) is given credit."""
    heads = heads_of(recipe)
    if heads is None or recipe.quantize.method != "prequantized":
        return False
    return config is None or heads.kind in config


def flags_with_drafts(recipe: Recipe) -> dict[str, Any]:
    """`engine.build_flags`, and the options that the section `speculative` stands for."""
    engine, section = recipe.engine, recipe.speculative
    if section is None or section.method not in HEADS or engine.backend != "tensorrt":
        return engine.build_flags
    return engine.build_flags | {MODE: section.method, LENGTH: section.longest_draft}


def engine_with_drafts(recipe: Recipe) -> Engine:
    """The section `engine` with `flags_with_drafts`."""
    return recipe.engine.model_copy(update={"build_flags": flags_with_drafts(recipe)})


def serve_with_drafts(recipe: Recipe) -> Serve:
    """The section `serve` with the tree of drafts, where it is not the built-in one."""
    heads, serve = heads_of(recipe), recipe.serve
    choices = heads.tree.choices if heads is not None else None
    if heads is None or choices is None:
        return serve
    tree = {choices_key(heads.kind): choices}
    return serve.model_copy(update={"engine_parameters": serve.engine_parameters | tree})
