"""An engine deployment as its readers find it: settings, each with the place where it was said.

Settings have the names of trtllm-build and of the Triton templates.

The common ground of engine directories, checkpoints, repositories, build scripts and Truss files;
`engine_recipe` makes a recipe of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from bwdeploy.facts.engine_to_pytorch import BUILD

if TYPE_CHECKING:
    from bwdeploy.migration.found import Note


class Setting(NamedTuple):
    """One value that somebody set."""

    group: str
    """`build` for an option of trtllm-build, else the Triton model whose template key it is."""
    key: str
    value: Any
    place: str
    """As the source spells it, with its place, for example `build_config.max_batch_size`."""

    @property
    def name(self) -> str:
        """`group.key`."""
        return f"{self.group}.{self.key}"


class Quantized(NamedTuple):
    """How the weights were quantized, in the words of TensorRT-LLM."""

    algorithm: str = ""
    """`FP8`, `NVFP4`, `W4A16_AWQ`, …; empty: not at all."""
    kv_cache: str = ""
    place: str = ""
    samples: int = 0
    """Of calibration text; 0: it does not say."""
    seq_len: int = 0
    dataset: str = ""


class WeightsClue(NamedTuple):
    """What a deployment says of the weights it was made from."""

    source: str = ""
    """A `model.source`; empty: it does not say."""
    comment: str = ""
    shape: dict[str, Any] = {}  # noqa: RUF012 - never changed
    """Shape fields of the checkpoint or engine, by which a hub model is recognized."""


class DraftHeads(NamedTuple):
    """EAGLE or Medusa heads that were converted together with the model."""

    method: Literal["eagle", "medusa"]
    draft: str
    """The directory of the heads as a source URI."""
    draft_len: int
    place: str


class EngineDeployment(NamedTuple):
    """One deployment of the engine backend."""

    kind: str
    name: str
    """What its directory or file is called."""
    version: str = ""
    """As it says; empty: it does not."""
    weights: WeightsClue = WeightsClue()
    quantized: Quantized = Quantized()
    heads: DraftHeads | None = None
    tp: int = 1
    pp: int = 1
    ep: int = 1
    gpus_per_node: int = 8
    layout_place: str = ""
    """Who says tp and pp; empty: nobody."""
    gpu: str = ""
    settings: tuple[Setting, ...] = ()
    notes: tuple[Note, ...] = ()
    """What its reader had to say."""

    def setting(self, group: str, key: str) -> Setting | None:
        """The first setting of this name."""
        return next((one for one in self.settings if (one.group, one.key) == (group, key)), None)

    def build_value(self, key: str) -> Any:  # noqa: ANN401 - JSON data
        """The value of an option of trtllm-build, None when it is not set."""
        found = self.setting(BUILD, key)
        return None if found is None else found.value
