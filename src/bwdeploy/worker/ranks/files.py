"""The weight files of a rank checkpoint, opened together and read one tensor at a time.

Reads safetensors only. A file that is missing or broken is an error here; `checks` looks before it opens.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from bwdeploy.worker.ranks.cut import Cut, cut_of
from bwdeploy.worker.ranks.tensors import Storage, stage_tensors, storage_of
from bwdeploy_runtime.quantization import CheckpointError, read_json

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from torch import Tensor

    from bwdeploy.worker.ranks.tensors import RankTensor


def rank_file(directory: Path, rank: int) -> Path:
    """Where the weights of a rank lie."""
    return directory / f"rank{rank}.safetensors"


class RankFiles:
    """Random access to the tensors of all ranks; use as a context manager.

    Raises:
        CheckpointError: config.json is unreadable or lacks a size; on entry, when a rank's file is missing or
            broken.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.config = read_json(directory / "config.json")
        try:
            self.cut: Cut = cut_of(self.config)
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            raise CheckpointError(f"{directory / 'config.json'} lacks a size: {error}") from error
        self._stack = ExitStack()
        self._ranks: list[Any] = []
        self._names: list[frozenset[str]] = []

    def __enter__(self) -> Self:
        for rank in range(self.cut.tp * self.cut.pp):
            path = rank_file(self.directory, rank)
            try:
                handle = self._stack.enter_context(safe_open(path, framework="pt", device="cpu"))
            except (SafetensorError, OSError, ValueError) as error:
                self._stack.close()
                raise CheckpointError(f"{path} is missing or broken: {error}") from error
            self._ranks.append(handle)
            self._names.append(frozenset(handle.keys()))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def names(self, rank: int) -> frozenset[str]:
        """All tensors of a rank."""
        return self._names[rank]

    def dtype(self, rank: int, name: str) -> str | None:
        """The safetensors dtype word, None when the rank has no such tensor."""
        if name not in self._names[rank]:
            return None
        return str(self._ranks[rank].get_slice(name).get_dtype())

    def shape(self, rank: int, name: str) -> tuple[int, ...]:
        """The stored shape; a single number has none, whether it is stored as [] or [1]."""
        shape = tuple(self._ranks[rank].get_slice(name).get_shape())
        return () if shape == (1,) else shape

    def tensor(self, rank: int, name: str, rows: slice | None = None) -> Tensor:
        """The stored tensor, or some rows of it."""
        if rows is None:
            return self._ranks[rank].get_tensor(name)
        return self._ranks[rank].get_slice(name)[rows.start : rows.stop]

    def stage_ranks(self, stage: int) -> range:
        """The ranks of a pipeline stage."""
        return range(stage * self.cut.tp, (stage + 1) * self.cut.tp)

    def storage(self, stage: int, module: str) -> Storage:
        """How the first rank of a stage stores the weight of a module."""
        return storage_of(module, partial(self.dtype, self.stage_ranks(stage)[0]))

    def expected(self, stage: int) -> tuple[RankTensor, ...]:
        """The tensors that each rank of a stage must have."""
        return tuple(stage_tensors(self.cut, stage, partial(self.storage, stage)))
