"""What each quantization format of a recipe promises and which GPUs have kernels for it.

Names ModelOpt's presets; their content is ModelOpt's own and is never repeated here.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from bwdeploy.facts.reader import read_data


class FormatFacts(NamedTuple):
    """One word of `quantize.format`."""

    preset: str
    """Name of the constant in `modelopt.torch.quantization`."""
    quant_algo: str
    """What hf_quant_config.json of the export says."""
    weights: str
    activations: str
    group_size: int | None
    """Elements of a row that share a scale; None: one scale for each tensor or row."""
    bits_per_weight: float
    """Of a quantized weight, block scales included."""
    modules: str
    calibrated: bool
    """Whether text is needed to measure activation ranges."""
    sm: frozenset[int]
    """Compute capabilities times ten with TensorRT-LLM kernels. Test with membership, never with >=."""
    sm_status: str
    """How sure `sm` is, for example `documented`."""

    @property
    def documented(self) -> bool:
        """Whether `sm` is upstream's own statement."""
        return self.sm_status.startswith("documented")


class KvCacheFacts(NamedTuple):
    """One word of `quantize.kv_cache` other than `none`."""

    preset: str
    kv_cache_quant_algo: str
    bits_per_value: float
    sm: frozenset[int]
    """As of `FormatFacts`."""
    sm_status: str


class FormatTable(NamedTuple):
    """All formats by word."""

    formats: dict[str, FormatFacts]
    kv_cache: dict[str, KvCacheFacts]


@cache
def format_table() -> FormatTable:
    """The table, read once."""
    data = read_data("formats.json")
    return FormatTable(
        formats={
            word: FormatFacts(**{**row, "sm": frozenset(row["sm"])}) for word, row in data["formats"].items()
        },
        kv_cache={
            word: KvCacheFacts(**{**row, "sm": frozenset(row["sm"])})
            for word, row in data["kv_cache"].items()
        },
    )
