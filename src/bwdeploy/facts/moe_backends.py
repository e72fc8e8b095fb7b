"""Which MoE backend of TensorRT-LLM has kernels for which expert format on which GPU.

The names that a version accepts are no concern of this module: its argument schema says them.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from bwdeploy.facts.reader import read_data
from bwdeploy.facts.versions import parse_version

UNQUANTIZED = "BF16"
"""The row of experts that are not quantized."""
AUTO = "AUTO"
VANILLA = "VANILLA"
"""Plain PyTorch for comparing numbers; it is in no table."""


_NOT_OFFERED = frozenset({"TRITON", "WIDEEP"})
"""Made for gpt-oss, and retired by upstream."""


class MoeBackend(NamedTuple):
    """One value of `moe_config.backend`."""

    name: str
    since: str
    """First TensorRT-LLM version that has it; empty: all known ones."""
    gpt_oss: bool
    """Whether it knows the expert bias and the SwiGLU constants of gpt-oss."""
    formats: dict[str, frozenset[int] | None]
    """Expert format to compute capabilities; None: all that the format itself runs on."""
    maybe: dict[str, frozenset[int]]
    """Cells that only some versions have."""

    def has(self, algorithm: str, sm: int | None) -> bool:
        """Whether it has kernels for the format on `sm`, or on any GPU when `sm` is None."""
        if algorithm not in self.formats:
            return sm is None and algorithm in self.maybe
        cells = self.formats[algorithm]
        return cells is None or sm is None or sm in cells

    def may_have(self, algorithm: str, sm: int | None) -> bool:
        """Whether some version has kernels for the format on `sm`."""
        return self.has(algorithm, sm) or sm in self.maybe.get(algorithm, ())

    def runs_on(self, sm: int) -> bool:
        """Whether any of its formats may run on `sm`."""
        return any(self.may_have(algorithm, sm) for algorithm in (*self.formats, *self.maybe))


@cache
def moe_backends() -> dict[str, MoeBackend]:
    """Every known backend by name, in the order in which to offer them."""
    return {
        name: MoeBackend(
            name=name,
            since=row["since"],
            gpt_oss=row["gpt_oss"],
            formats={key: None if sm == "any" else frozenset(sm) for key, sm in row["formats"].items()},
            maybe={key: frozenset(sm) for key, sm in row["maybe"].items()},
        )
        for name, row in read_data("moe_backends.json")["backends"].items()
    }


def fitting_backends(
    algorithm: str | None, sm: int, *, gpt_oss: bool = False, version: str = ""
) -> tuple[str, ...]:
    """Backends of `version` with kernels for the format (None: for any of theirs) on `sm`."""
    wanted = parse_version(version)
    return tuple(
        backend.name
        for backend in moe_backends().values()
        if (backend.has(algorithm, sm) if algorithm else backend.runs_on(sm))
        and (backend.gpt_oss if gpt_oss else backend.name not in _NOT_OFFERED)
        and _is_in(backend, wanted)
    )


def default_backend(*, version: str, architecture: str, sm: int) -> str:
    """What runs when a recipe names no backend, or AUTO: CUTLASS, but for gpt-oss since 1.3.

    Source: `ModelConfig.resolve_moe_backend` in tensorrt_llm/_torch/model_config.py. Late 1.3 versions choose
    TRTLLM for FP8 block scales on SM100 and SM103; which is the first one is not known.
    """
    if architecture == "GptOssForCausalLM" and _at_least(version, "1.3"):
        return {100: "TRTLLM", 103: "TRTLLM", 90: "TRITON"}.get(sm, "CUTLASS")
    return "CUTLASS"


def _is_in(backend: MoeBackend, version: tuple[int, ...] | None) -> bool:
    since = parse_version(backend.since) if backend.since else None
    return since is None or version is None or version >= since


def _at_least(version: str, bound: str) -> bool:
    one, other = parse_version(version), parse_version(bound)
    return one is not None and other is not None and one >= other
