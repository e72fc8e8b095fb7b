"""One request on its way through the queue of a Slurm cluster: its files, its job and its end."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING, Final

from bwdeploy.errors import HostError
from bwdeploy.pipeline.jobs import Progress
from bwdeploy.tools.executors import slurm_client
from bwdeploy.tools.executors.follow import Follower
from bwdeploy.tools.executors.launch import Outcome
from bwdeploy.tools.executors.slurm_endings import ENDINGS, RUNNING_STATES
from bwdeploy.tools.executors.slurm_note import read_note, remove_note
from bwdeploy.tools.executors.slurm_script import script_text

if TYPE_CHECKING:
    from bwdeploy.tools.executors.launch import Launch, Watch
    from bwdeploy.tools.executors.settings import SlurmSettings
    from bwdeploy.tools.executors.slurm_client import Job, QueueState

_SETTLE_TRIES: Final = 6
"""Looks, `poll_s` apart, at files and accounting that lag behind the end of a job."""
_FAILED: Final = 1


class SlurmRun:
    """One request on its way through the queue, and its files below the scratch directory."""

    def __init__(self, settings: SlurmSettings, launch: Launch, watch: Watch, srun: tuple[str, ...]) -> None:
        self.srun = srun
        self._settings = settings
        self._launch = launch
        self._watch = watch
        self._directory = launch.scratch / f"slurm-{launch.identity[:12]}"
        self._status_file = self._directory / "status"
        self._follower = Follower(self._directory / "log")
        self._told = ""

    def finished_before(self) -> Outcome | None:
        """The end of this request when it came while nobody looked, and its job's number is not known.

        Either a dead run left the job of a later request here, or it died before it learned the number.
        """
        note = read_note(self._launch.scratch)
        mine = note is not None and note.identity == self._launch.identity
        if note is None or (mine and note.job is not None) or self._status() != 0:
            return None
        if mine:
            remove_note(self._launch.scratch)
        self._look()
        return Outcome(status=0, command=self.srun)

    def taken_up(self) -> Job | None:
        """The job of the same request that an earlier run left, unless it is dead; others are cancelled."""
        note = read_note(self._launch.scratch)
        if note is None:
            return None
        job = note.job or slurm_client.job_called(note.name, clusters=note.clusters)
        if job is None:
            return None
        if note.identity != self._launch.identity:
            slurm_client.cancel(slurm_client.cancel_words(job))
            return None
        state = slurm_client.queue_state(job)
        dead = state is not None and not state.state and self._status() is None
        if dead:
            return None
        self._watch.on_progress(Progress(phase=f"Slurm job {job.id} of an earlier run is taken up"))
        return job

    def prepared(self, environment: dict[str, str]) -> str:
        """Write the script; its path as the job's directory knows it."""
        shutil.rmtree(self._directory, ignore_errors=True)
        self._directory.mkdir()
        text = script_text(self.srun, environment=environment, status_file=self._status_file)
        script = self._directory / "job.sh"
        script.write_text(text, encoding="utf-8")
        script.chmod(0o700)
        return f"{self._directory.name}/job.sh"

    def file_words(self) -> tuple[str, ...]:
        """Where the job writes, relative to its directory: in a whole path `%` would be a pattern."""
        log = f"{self._directory.name}/log"
        if self._launch.output is None:
            return (f"--output={log}",)
        output = self._launch.output.relative_to(self._launch.scratch)
        return (f"--output={output}", f"--error={log}")

    def follow(self, job: Job) -> Outcome:
        """Wait for the end of the job.

        Raises:
            HostError: Slurm does not answer any more; the job goes on.
        """
        answered = time.monotonic()
        while self._status() is None:
            state = slurm_client.queue_state(job)
            if state is not None:
                answered = time.monotonic()
                if not state.state:
                    break
                self._tell(job, state)
            elif time.monotonic() - answered > self._settings.patience_s:
                raise _no_answer(job, self._settings.patience_s)
            self._look()
            time.sleep(self._settings.poll_s)
        self._settle()
        self._look()
        return self._outcome(job)

    def _outcome(self, job: Job) -> Outcome:
        status = self._status()
        if status == 0:
            return Outcome(status=0, command=self.srun)
        state = self._final_state(job)
        ending = ENDINGS.get(state)
        if ending is not None:
            text = f"{ending.words} (Slurm job {job.id}: {state})"
            return Outcome(status=status or _FAILED, command=self.srun, ended=text, hint=ending.hint)
        if status is None:
            text = f"left the queue without an exit status (Slurm job {job.id}: {state or 'no accounting'})"
            hint = f"Ask the cluster: sacct -j {job.id}, scontrol show job {job.id}"
            return Outcome(status=_FAILED, command=self.srun, ended=text, hint=hint)
        return Outcome(status=status, command=self.srun)

    def _final_state(self, job: Job) -> str:
        for _ in range(_SETTLE_TRIES):
            state = slurm_client.final_state(job)
            if state not in RUNNING_STATES:
                return state
            time.sleep(self._settings.poll_s)
        return state

    def _settle(self) -> None:
        """Wait for files that the shared file system shows late."""
        for _ in range(_SETTLE_TRIES):
            answer = self._launch.answer
            status = self._status()
            if status is not None and (status != 0 or answer is None or answer.exists()):
                return
            time.sleep(self._settings.poll_s)

    def _status(self) -> int | None:
        try:
            return int(self._status_file.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None

    def _look(self) -> None:
        added = self._follower.added()
        if added:
            with self._launch.log.open("ab") as log:
                log.write(added)
        self._watch.look()

    def _tell(self, job: Job, state: QueueState) -> None:
        reason = f" ({state.reason})" if state.reason else ""
        text = f"Slurm job {job.id}: {state.state}{reason}"
        if text != self._told:
            self._told = text
            self._watch.on_progress(Progress(phase=text))


def _no_answer(job: Job, patience_s: float) -> HostError:
    ending = " ".join(slurm_client.cancel_words(job))
    return HostError(
        f"Slurm has not answered for {patience_s:g} s; its job {job.id} may go on",
        hint=f"Run the same command again to take it up, or end it with: {ending}",
    )
