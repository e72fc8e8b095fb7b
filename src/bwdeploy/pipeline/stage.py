"""The stage protocol: what a stage of a build must say before it runs, and how it runs.

`plan_step` is pure and says everything that the result depends on; the key is computed from that alone
(`keys`). `run` fills an empty directory; `verify` looks at the directory once more before it is published.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from bwdeploy.pipeline.host import Host
    from bwdeploy.pipeline.jobs import (
        Executor,
        JobRequest,
        ProgramNeed,
        Progress,
        ResultT,
        ToolResult,
        ToolRun,
    )
    from bwdeploy.recipe.schema import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One stage applied to one recipe."""

    params: Mapping[str, Any]
    """Everything of the recipe and host that the result depends on, as JSON data; no paths."""
    sources: Mapping[str, Path] = field(default_factory=dict)
    """Files or directories outside the store that are read; their content enters the key, not their path."""
    inputs: tuple[str, ...] = ()
    """Names of the stages whose artifacts are read."""
    tools: tuple[str, ...] = ()
    """Python distributions whose version the result depends on."""
    program: ProgramNeed | None = None
    """The outside program that will run: looked for before anything runs, and no part of the key."""
    command: str = ""
    """What will run, for `plan`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """All that a running stage may touch."""

    step: Step
    inputs: Mapping[str, Path]
    """Stage name → directory of its artifact; read only."""
    out: Path
    """Empty directory to fill."""
    scratch: Path
    """Directory beside `out` for files of running jobs; kept while one of them outlives this process."""
    state: Path
    """Directory that outlives an interrupted build: the next one of the same key finds it as it was left."""
    executor: Executor
    log: Path
    on_progress: Callable[[Progress], None]

    def run(self, request: JobRequest[ResultT]) -> ResultT:
        """Let the executor answer `request`; see `Executor.run`."""
        return self.executor.run(request, log=self.log, scratch=self.scratch, on_progress=self.on_progress)

    def run_tool(self, tool: ToolRun) -> ToolResult:
        """Let the executor run an outside program; see `Executor.run_tool`."""
        return self.executor.run_tool(tool, log=self.log, scratch=self.scratch, on_progress=self.on_progress)


class Stage(Protocol):
    """One stage of a build."""

    name: str
    version: int
    """Raised when the same step would now give another result."""

    def plan_step(self, recipe: Recipe, host: Host) -> Step | None:
        """What this stage does for `recipe`; None when it has nothing to do."""
        ...

    def run(self, work: Work) -> None:
        """Fill `work.out`."""
        ...

    def verify(self, out: Path) -> None:
        """Look at a filled directory before it is published.

        Raises:
            ToolError: something that must be there is missing or wrong.
        """
        ...

    def judge(self, recipe: Recipe, out: Path) -> None:
        """Hold a finished artifact, new or cached, against the recipe's limits.

        Limits are not part of the key: changing one judges the same measurement anew.

        Raises:
            GateError: a limit is broken.
        """
        ...
