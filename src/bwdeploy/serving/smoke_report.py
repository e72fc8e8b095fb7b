"""The result of a smoke test, as data: what was asked, what came, and what was checked."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, computed_field


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SmokeCheck(_Data):
    """One check. `id` is stable, for example `stop-string`."""

    id: str
    ok: bool
    """False only when the check failed; a skipped one is ok."""
    skipped: bool = False
    detail: str


class SmokeAnswer(_Data):
    """One prompt and its greedy answer."""

    prompt: str
    text: str
    finish_reason: str | None
    seconds: float
    first_piece_s: float


class SmokeReport(_Data):
    """The whole test of one model."""

    model: str
    checks: tuple[SmokeCheck, ...]
    answers: tuple[SmokeAnswer, ...]
    seconds: float

    @computed_field  # type: ignore[prop-decorator]  # https://github.com/python/mypy/issues/14461
    @property
    def ok(self) -> bool:
        """Whether no check failed."""
        return all(check.ok for check in self.checks)

    @property
    def failures(self) -> tuple[SmokeCheck, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if not check.ok)


def passed(identity: str, detail: str) -> SmokeCheck:
    """A check that holds."""
    return SmokeCheck(id=identity, ok=True, detail=detail)


def failed(identity: str, detail: str) -> SmokeCheck:
    """A check that does not hold."""
    return SmokeCheck(id=identity, ok=False, detail=detail)


def skipped(identity: str, detail: str) -> SmokeCheck:
    """A check that could not be made, and why."""
    return SmokeCheck(id=identity, ok=True, skipped=True, detail=detail)


def judged(identity: str, problems: list[str], detail: str) -> SmokeCheck:
    """Passed with `detail` when there are no problems, else failed with them."""
    return failed(identity, "; ".join(problems)) if problems else passed(identity, detail)
