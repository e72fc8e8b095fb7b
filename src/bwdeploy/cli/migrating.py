"""The verb that brings in what runs already: migrate."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from bwdeploy.cli.arguments import AsJson
from bwdeploy.cli.output import print_json
from bwdeploy.errors import RecipeError, argument_error

if TYPE_CHECKING:
    from bwdeploy.errors import Finding
    from bwdeploy.migration.found import Found

_STDOUT = Path("-")


def migrate(
    src: Annotated[
        Path | None,
        typer.Argument(
            metavar="SRC",
            help="An engine, a TensorRT-LLM or ModelOpt checkpoint, a Triton repository, a YAML of LLM API "
            "arguments, a Truss, or a script with trtllm-build.",
            show_default=False,
        ),
    ] = None,
    *,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="FILE", help="Recipe to write; `-` prints it.", show_default="-"),
    ] = None,
    to: Annotated[
        Literal["pytorch", "tensorrt"] | None,
        typer.Option("--to", help="Backend of the recipe; default: as the deployment has it."),
    ] = None,
    tensorrt_llm: Annotated[
        str | None,
        typer.Option("--tensorrt-llm", metavar="VERSION", help="Version of the recipe; default: its own."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", metavar="SOURCE", help="Model it was made from: hf://org/name@REVISION or a DIR."
        ),
    ] = None,
    gpu: Annotated[str | None, typer.Option("--gpu", metavar="NAME", help="GPU of the recipe.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the recipe.")] = None,
    command: Annotated[
        str | None,
        typer.Option("--command", metavar="TEXT", help="A trtllm-build command line, in place of SRC."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file of -o.")] = False,
    as_json: AsJson = False,
) -> None:
    """Turn an existing deployment into a recipe, and say what does not come through."""
    from bwdeploy.migration.found import Wanted
    from bwdeploy.migration.migrate import migrate_command, migrate_path
    from bwdeploy.migration.writing import recipe_text, require_free, write_recipe
    from bwdeploy.report.findings import has_errors

    if (src is None) == (command is None):
        raise argument_error(
            "migrate needs SRC or --command TEXT, and not both", "See `bwdeploy migrate --help`"
        )
    target = None if out in {None, _STDOUT} else out
    if target is not None:
        require_free(target, force=force)
    wanted = Wanted(model=model, backend=to, tensorrt_llm=tensorrt_llm, name=name)
    if src is not None:
        found = migrate_path(src, wanted, gpu=gpu)
    else:
        found = migrate_command(command or "", wanted, gpu=gpu)
    source = "a command line" if src is None else src.absolute().name
    text = recipe_text(found, source=source, file=str(target or "recipe.yaml"))
    if target is not None:
        write_recipe(text, target, force=force)
    findings = _findings_of(text, target)
    _show(found, text, target, findings, as_json=as_json)
    raise typer.Exit(RecipeError.exit_code if has_errors(findings) else 0)


def _findings_of(text: str, target: Path | None) -> tuple[Finding, ...]:
    """What `check` says of the recipe; of one that is only printed, without the name of a file."""
    from bwdeploy.checks.recipes import all_findings, check_recipes

    try:
        if target is not None:
            return all_findings(check_recipes(target))
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory, "recipe.yaml")
            file.write_text(text, encoding="utf-8")
            try:
                found = all_findings(check_recipes(file))
            except RecipeError as error:
                found = error.findings
            return tuple(finding._replace(file=file.name) for finding in found)
    except RecipeError as error:
        return error.findings


def _show(
    found: Found, text: str, target: Path | None, findings: tuple[Finding, ...], *, as_json: bool
) -> None:
    from bwdeploy.migration.writing import one_line
    from bwdeploy.report.findings import as_lines, has_errors, summary
    from bwdeploy.report.migration import notes_json, notes_text

    if as_json:
        shown: dict[str, Any] = {
            "ok": not has_errors(findings),
            "kind": found.kind,
            "out": str(target) if target is not None else None,
            "recipe": found.recipe,
            "notes": notes_json(found.notes),
            "findings": [finding._asdict() for finding in findings],
        }
        print_json(shown)
        return
    if target is None:
        typer.echo(text, nl=False)
    # The recipe on stdout must stay a recipe, so the talk goes to stderr then.
    talk = target is None
    typer.echo(one_line(f"read: {found.kind}"), err=talk)
    typer.echo(notes_text(found.notes), err=talk)
    lines = [*as_lines(findings), f"{target or 'recipe.yaml'}: {summary(findings)}"]
    typer.echo("\n".join(lines), err=talk)
