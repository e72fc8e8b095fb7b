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
from bwdeploy.tools.executors.slurm_script import image_of, script_environment, srun_words, submit_words

if TYPE_CHECKING:
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

    def run(self, launch: Launch, watch: Watch) -> Outcome:
        """Submit it, or take up the running job of the same request; see `Launcher.run`."""
        image = image_of(self.settings, launch)
        if image is None and not _only_on_nodes(launch.command[0]):
            found_program(launch.command[0], tensorrt_llm=launch.tensorrt_llm)
        launch.log.write_bytes(b"")  # the output of a job that is taken up is copied from its beginning
        run = SlurmRun(self.settings, launch, watch, srun_words(self.settings, launch, image=image))
        outcome = run.finished_before() or self._through_queue(run, launch, image)
        return outcome._replace(image=image, image_digest=pinned_digest(image) if image else None)

    def _through_queue(self, run: SlurmRun, launch: Launch, image: str | None) -> Outcome:
        try:
            outcome = run.follow(run.taken_up() or self._submit(run, launch, image))
        except KeyboardInterrupt as interrupt:
            raise interrupted(_cancelled(launch.scratch)) from interrupt
        remove_note(launch.scratch)
        return outcome

    def _submit(self, run: SlurmRun, launch: Launch, image: str | None) -> Job:
        start_afresh(launch)
        name = f"bwdeploy-{secrets.token_hex(6)}"
        script = run.prepared(script_environment(launch, image=image))
        words = submit_words(self.settings, launch, name=name, present=os.environ, passed=self.passed)
        write_note(launch.scratch, RunningJob(launch.identity, name))
        try:
            job = slurm_client.submit((*words, *run.file_words(), script), directory=launch.scratch)
        except HostError:
            remove_note(launch.scratch)
            raise
        write_note(launch.scratch, RunningJob(launch.identity, name, job))
        return job


def _only_on_nodes(program: str) -> bool:
    """Whether the executor file names a path that this machine, a login node, does not have."""
    return Path(program).is_absolute() and not Path(program).exists()


def _cancelled(scratch: Path) -> str:
    """End the job that the note names; what to say when that did not work."""
    note = read_note(scratch)
    remove_note(scratch)
    if note is None:
        return ""
    if note.job is None:
        slurm_client.cancel_called(note.name)
    elif not slurm_client.cancel(note.job):
        return f"Slurm job {note.job.id} may run on; end it with: scancel {note.job.id}"
    return ""
