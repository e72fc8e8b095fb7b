"""The verbs that look after what is there: verify, store, doctor."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from bwdeploy.cli.arguments import AsJson, OutPath
from bwdeploy.cli.output import print_json
from bwdeploy.errors import GateError, HostError

if TYPE_CHECKING:
    from bwdeploy.pipeline.store import Leftover, Store

store = typer.Typer(help="The store of finished artifacts.")
_MEGABYTE = 1_000_000


def verify(out: OutPath, *, as_json: AsJson = False) -> None:
    """Read every file of an output and compare it with the manifest; exit 6 when one differs."""
    from bwdeploy.pipeline.output import damaged_files, read_manifest, recorded_files

    manifest = read_manifest(out)
    problems = damaged_files(out)
    if as_json:
        print_json({"ok": not problems, "name": manifest["name"], "problems": problems})
        raise typer.Exit(GateError.exit_code if problems else 0)
    if problems:
        raise GateError(
            f"{out} is damaged: {'; '.join(problems)}", hint="Build the recipe again: it is repaired"
        )
    typer.echo(f"{out}: {len(recorded_files(manifest))} files are as they were built")


def doctor(*, as_json: AsJson = False) -> None:
    """Say what this machine has for building and serving, and what to do about what it lacks."""
    from bwdeploy.build import open_store
    from bwdeploy.doctor import diagnose

    diagnoses = diagnose(open_store())
    if as_json:
        print_json({"ok": all(one.ok for one in diagnoses), "checks": [asdict(one) for one in diagnoses]})
        return
    for one in diagnoses:
        typer.echo(f"{'ok  ' if one.ok else 'MISS'} {one.name}: {one.detail}")
        if not one.ok:
            typer.echo(f"     {one.hint}")


@store.command("ls")
def list_store(*, as_json: AsJson = False) -> None:
    """List the artifacts."""
    from bwdeploy.build import open_store

    artifacts = open_store().artifacts()
    if as_json:
        print_json(
            [
                {"stage": one.stage, "key": one.key, "bytes": one.size_bytes, "path": str(one.directory)}
                for one in artifacts
            ]
        )
        return
    for one in artifacts:
        typer.echo(f"{one.stage:<11} {one.key[:12]} {one.size_bytes / _MEGABYTE:>10.1f} MB  {one.directory}")


@store.command("gc")
def collect_garbage(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove artifacts that the newest build of no recipe uses; outputs keep their files.

    What dead builds left half-made goes too, also a training that could go on, and cluster jobs that nobody
    waits for are cancelled.
    """
    from bwdeploy.build import open_store
    from bwdeploy.pipeline.store import storage_errors

    kept = open_store()
    used, artifacts = kept.referenced_keys(), kept.artifacts()
    unused = [one for one in artifacts if one.key not in used]
    wanted = used - {one.key for one in artifacts}
    with storage_errors(kept.root):
        if not dry_run:
            for one in unused:
                kept.remove(one)
        ended = _end_forgotten(kept, used, dry_run=dry_run)
        states = _remove_states(kept, wanted, dry_run=dry_run)
    freed = sum(one.size_bytes for one in unused) + sum(states)
    if as_json:
        removed = [one.key for one in unused]
        print_json({"removed": removed, "bytes": freed, "jobs": list(ended), "dry_run": dry_run})
        return
    would = "would be " if dry_run else ""
    unfinished = f" and {len(states)} unfinished trainings" if states else ""
    typer.echo(f"{len(unused)} artifacts{unfinished} {would}removed, {freed / _MEGABYTE:.1f} MB")
    for job in ended:
        typer.echo(f"{job} {would}cancelled")


def _remove_states(kept: Store, wanted: set[str], *, dry_run: bool) -> list[int]:
    """Remove what trainings have kept that no recipe wants to go on with; the bytes of each."""
    sizes = []
    for key, state in kept.states():
        if key not in wanted:
            sizes.append(sum(path.stat().st_size for path in state.rglob("*") if path.is_file()))
            if not dry_run:
                shutil.rmtree(state, ignore_errors=True)
    return sizes


def _end_forgotten(kept: Store, used: set[str], *, dry_run: bool) -> tuple[str, ...]:
    """Remove what dead builders left half-made; the jobs that were cancelled for it."""
    ended = []
    for leftover in kept.leftovers():
        if leftover.job and leftover.key in used:
            continue  # the next build of that recipe takes it up
        if dry_run or _is_over(kept, leftover):
            ended += [leftover.job] if leftover.job else []
            if not dry_run:
                kept.discard(leftover)
    return tuple(ended)


def _is_over(kept: Store, leftover: Leftover) -> bool:
    from bwdeploy.tools.executors import cancel_noted

    if not leftover.job:
        return True
    try:
        to_do = cancel_noted(kept.scratch_of(leftover.workspace))
    except HostError as error:
        to_do = f"{error.message}. {error.hint}"
    if to_do:
        typer.echo(f"{leftover.job} was not cancelled: {to_do}", err=True)
    return not to_do
