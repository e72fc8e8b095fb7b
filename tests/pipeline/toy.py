"""A build of two small stages, real in every respect but the work they do; also run as a child process."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from bwdeploy.errors import GateError, ToolError
from bwdeploy.pipeline.host import Host
from bwdeploy.pipeline.jobs import ProgramNeed, Progress
from bwdeploy.pipeline.plan import Plan, make_plan
from bwdeploy.pipeline.run import StageResult, run_plan
from bwdeploy.pipeline.stage import Stage, Step, Work
from bwdeploy.pipeline.store import Store
from bwdeploy.recipe.schema import Recipe
from bwdeploy.tools.executors import local_executor

HOST = Host(device="cpu", machine="x86_64", system="Linux", python="3.11.0", cores=2)


@dataclass
class CopyStage:
    """Copies its source; each run is noted in a journal file."""

    source: Path
    journal: Path
    seconds: float = 0.0
    version: int = 1
    tools: tuple[str, ...] = ("pydantic",)
    name: str = "copy"

    def plan_step(self, recipe: Recipe, host: Host) -> Step | None:
        return Step(params={"device": host.device}, sources={"text": self.source}, tools=self.tools)

    def run(self, work: Work) -> None:
        with self.journal.open("a") as journal:
            journal.write("copy\n")
        (work.out / "first").write_text("half")
        work.on_progress(Progress(phase="copying", done=0, total=1))
        time.sleep(self.seconds)
        (work.out / "text").write_bytes(work.step.sources["text"].read_bytes())

    def verify(self, out: Path) -> None:
        if not (out / "text").is_file():
            raise ToolError("no text")

    def judge(self, recipe: Recipe, out: Path) -> None:
        if recipe.gate.max_weight_error == 0:
            raise GateError("nothing is that good")


@dataclass
class UpperStage:
    """Upper-cases what `copy` made."""

    journal: Path
    name: str = "upper"
    version: int = 1
    fails: bool = False
    program: ProgramNeed | None = None

    def plan_step(self, recipe: Recipe, host: Host) -> Step | None:
        return Step(params={"name": recipe.name}, inputs=("copy",), program=self.program)

    def run(self, work: Work) -> None:
        with self.journal.open("a") as journal:
            journal.write("upper\n")
        (work.out / "upper").write_text((work.inputs["copy"] / "text").read_text().upper())
        if self.fails:
            raise ToolError("the tool broke", hint="Mend it")

    def verify(self, out: Path) -> None:
        pass

    def judge(self, recipe: Recipe, out: Path) -> None:
        pass


@dataclass
class Journal:
    """A `Watcher` that keeps what it saw."""

    seen: list[str] = field(default_factory=list)

    def started(self, stage: str) -> None:
        self.seen.append(f"started {stage}")

    def progressed(self, stage: str, progress: Progress) -> None:
        self.seen.append(f"progress {stage} {progress.phase}")

    def waiting(self, stage: str) -> None:
        self.seen.append(f"waiting {stage}")

    def finished(self, result: StageResult) -> None:
        self.seen.append(f"{result.status} {result.name}")


def recipe(name: str = "toy", **gate: float) -> Recipe:
    return Recipe.model_validate(
        {"schema": 1, "name": name, "model": {"source": "file:///unused"}, "gate": gate}
    )


def plan(stages: list[Stage], store: Store, made_of: Recipe | None = None) -> Plan:
    return make_plan(made_of or recipe(), stages=stages, host=HOST, store=store)


def build(stages: list[Stage], store: Store, made_of: Recipe | None = None) -> tuple[StageResult, ...]:
    return run_plan(plan(stages, store, made_of), store=store, executor=local_executor(), watcher=Journal())


if __name__ == "__main__":
    root, pause_s = Path(sys.argv[1]), float(sys.argv[2])
    journal = root / "journal"
    build([CopyStage(root / "source", journal, pause_s), UpperStage(journal)], Store(root / "store"))
