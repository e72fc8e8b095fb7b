"""Groups of equal weights, written the way that a model's layers are built: by place, then by name."""

from __future__ import annotations

from typing import NamedTuple

from bwdeploy.model.shape import Role, Split, Weight


class Place(NamedTuple):
    """Where weights stand: a module, and the layers that hold it."""

    prefix: str
    """With its dot: `model.layers.{layer}.self_attn.`; empty for the root."""
    layers: tuple[int, ...] = ()
    mtp: bool = False

    def inside(self, name: str) -> Place:
        """The place of a module in this one; an empty name is the same place."""
        return self._replace(prefix=f"{self.prefix}{name}.") if name else self

    def matrix(
        self,
        name: str,
        *,
        role: Role,
        rows: int,
        columns: int,
        split: Split = "none",
        copies: int = 1,
        bias: bool = False,
    ) -> tuple[Weight, ...]:
        """A linear layer, its bias after it. Split by columns, the bias stands whole on every rank."""
        module = self.prefix + name
        found = (Weight(module, role, rows, columns, self.layers, copies, split, self.mtp),)
        if not bias:
            return found
        kept: Split = "rows" if split == "rows" else "none"
        return (*found, Weight(f"{module}.bias", "bias", rows, 1, self.layers, copies, kept, self.mtp))

    def vector(
        self, name: str, *, size: int, role: Role = "norm", copies: int = 1, split: Split = "none"
    ) -> tuple[Weight, ...]:
        """Parameters that no matrix product takes: a norm, a bias of its own, a convolution's taps."""
        return (Weight(self.prefix + name, role, size, 1, self.layers, copies, split, self.mtp),)

    def norm(self, name: str, *, size: int, bias: bool = False) -> tuple[Weight, ...]:
        """A normalization: its scale and, of a LayerNorm, its shift."""
        shift = self.vector(f"{name}.bias", size=size) if bias else ()
        return (*self.vector(name, size=size), *shift)
