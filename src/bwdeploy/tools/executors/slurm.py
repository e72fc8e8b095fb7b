"""Run commands as jobs of a Slurm cluster whose nodes share this file system.

A job outlives bwdeploy: a note in the scratch directory lets the next run of the same request take it up
again, also when it has ended meanwhile. Ctrl-C cancels it. Its output is copied to the log while it runs.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bwdeploy.errors import HostError
from bwdeploy.tools.executors import slurm_client
from bwdeploy.tools.executors.guarded import interrupted
from bwdeploy.tools.executors.images import pinned_digest
from bwdeploy.tools.executors.launch import Outcome, start_afresh
from bwdeploy.tools.executors.local import found_program
from bwdeploy.tools.executors.slurm_note import RunningJob, read_note, remove_note, write_note
from bwdeploy.tools.executors.slurm_run import SlurmRun
from bwdeploy.tools.executors.slurm_script import (
    exported_names,
    image_of,
    script_environment,
    srun_words,
    submit_words,
)

if TYPE_CHECKING:
    from bwdeploy.errors import InterruptedBuild
    from bwdeploy.pipeline.jobs import ProgramNeed
    from bwdeploy.tools.executors.launch import Launch, Watch
    from bwdeploy.tools.executors.settings import SlurmSettings
    from bwdeploy.tools.executors.slurm_client import Job


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmLauncher:
    """The place `slurm`."""

    settings: SlurmSettings
    passed: tuple[str, ...] = ()
    """Variables of this process that jobs get too."""
    kind: Literal["slurm"] = "slurm"

    def require(self, need: ProgramNeed) -> None:
        """See `Launcher.require`; what only the nodes of the cluster have is left to them."""
        slurm_client.require_commands()
        self._image(need)

    def run(self, launch: Launch, watch: Watch) -> Outcome:
        """Submit it, or take up the running job of the same request; see `Launcher.run`."""
        image = self._image(launch.need)
        launch.log.write_bytes(b"")  # the output of a job that is taken up is copied from its beginning
        run = SlurmRun(self.settings, launch, watch, srun_words(self.settings, launch, image=image))
        outcome = run.finished_before() or self._through_queue(run, launch, image)
        return outcome._replace(image=image, image_digest=pinned_digest(image) if image else None)

    def _image(self, need: ProgramNeed) -> str | None:
        """The image of a command, or None when its program is not in a container."""
        image = image_of(self.settings, tensorrt_llm=need.tensorrt_llm)
        if image is None and not _only_on_nodes(need.program):
            found_program(need.program, tensorrt_llm=need.tensorrt_llm)
        return image

    def _through_queue(self, run: SlurmRun, launch: Launch, image: str | None) -> Outcome:
        try:
            outcome = run.follow(run.taken_up() or self._submit(run, launch, image))
        except KeyboardInterrupt as interrupt:
            raise _cancelled(launch.scratch) from interrupt
        remove_note(launch.scratch)
        return outcome

    def _submit(self, run: SlurmRun, launch: Launch, image: str | None) -> Job:
        start_afresh(launch)
        name = f"bwdeploy-{secrets.token_hex(6)}"
        script = run.prepared(script_environment(launch, image=image))
        exported = exported_names(os.environ, self.passed, contained=image is not None)
        words = submit_words(self.settings, launch, name=name, exported=exported)
        note = RunningJob(launch.identity, name, clusters=str(self.settings.options.get("clusters", "")))
        write_note(launch.scratch, note)
        try:
            job = slurm_client.submit((*words, *run.file_words(), script), directory=launch.scratch)
        except HostError:
            remove_note(launch.scratch)
            raise
        write_note(launch.scratch, note._replace(job=job))
        return job


def _only_on_nodes(program: str) -> bool:
    """Whether the executor file names a path that this machine, a login node, does not have."""
    return Path(program).is_absolute() and not Path(program).exists()


def cancel_noted(scratch: Path) -> str:
    """End the job that the note in `scratch` names; what is left to do by hand, or nothing.

    The note stays until Slurm took the order: a second Ctrl-C must not make the job a forgotten one.

    Raises:
        HostError: there is no Slurm here.
    """
    note = read_note(scratch)
    if note is not None and not _is_cancelled(note):
        return f"Its Slurm job may run on; end it with: {' '.join(_ending(note))}"
    remove_note(scratch)
    return ""


def _cancelled(scratch: Path) -> InterruptedBuild:
    """The error for Ctrl-C, which ends the job too."""
    note = read_note(scratch)
    to_do = cancel_noted(scratch)
    if to_do or note is None:
        return interrupted(to_do)
    job = f"Slurm job {note.job.id}" if note.job else f"any Slurm job {note.name}"
    return interrupted(ended=f"{job} was cancelled")


def _ending(note: RunningJob) -> tuple[str, ...]:
    if note.job is None:
        return slurm_client.cancel_called_words(note.name, clusters=note.clusters)
    return slurm_client.cancel_words(note.job)


def _is_cancelled(note: RunningJob) -> bool:
    if slurm_client.cancel(_ending(note)):
        return True
    if note.job is None:
        return False
    state = slurm_client.queue_state(note.job)  # an order to a job that has ended is refused
    return state is not None and not state.state
