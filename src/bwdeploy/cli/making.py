"""The verbs that read recipes: recipes, schema, check, plan, build."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bwdeploy.cli.arguments import AsJson, Overrides, RecipePath
from bwdeploy.cli.output import print_json
from bwdeploy.errors import Finding, RecipeError, StoreError
from bwdeploy.places import shipped_recipes

if TYPE_CHECKING:
    from collections.abc import Iterable

_recipes = typer.Typer(help="The recipes that come with bwdeploy.")


def add_to(app: typer.Typer) -> None:
    """Add these verbs."""
    app.add_typer(_recipes, name="recipes")
    for verb in (schema, check, plan, build):
        app.command()(verb)


@_recipes.command("list")
def list_recipes(*, as_json: AsJson = False) -> None:
    """List them."""
    names = _shipped_names()
    if as_json:
        print_json([{"name": name, "command": _first_comment(name)} for name in names])
    else:
        typer.echo("\n".join(names))


@_recipes.command("show")
def show_recipe(name: str) -> None:
    """Print one."""
    typer.echo(_shipped(name).read_text(encoding="utf-8"), nl=False)


@_recipes.command("copy")
def copy_recipe(name: str, destination: Path) -> None:
    """Copy one, with the bases it stands on, to change it."""
    source = _shipped(name)
    target = destination / source.name if destination.is_dir() else destination
    if target.exists():
        raise StoreError(f"{target} exists", hint="Choose another place; nothing was written")
    target.parent.mkdir(parents=True, exist_ok=True)
    for base in _bases_of(source):
        beside = target.parent / base.relative_to(source.parent)
        beside.parent.mkdir(parents=True, exist_ok=True)
        if not beside.exists():
            shutil.copyfile(base, beside)
    shutil.copyfile(source, target)
    typer.echo(str(target))


def schema() -> None:
    """Print the JSON Schema of recipes, for editors."""
    from bwdeploy.recipe.editor_schema import editor_schema_text

    typer.echo(editor_schema_text(), nl=False)


def check(
    recipe: RecipePath,
    *,
    overrides: Overrides = None,
    as_json: AsJson = False,
    sarif: Annotated[bool, typer.Option("--sarif", help="Print SARIF 2.1.0, for code scanning.")] = False,
) -> None:
    """Check a recipe: no GPU, no network, nothing is run."""
    from bwdeploy.checks.recipes import all_findings, check_recipes
    from bwdeploy.report.findings import as_json as findings_json
    from bwdeploy.report.findings import as_lines, summary

    status = 0
    try:
        findings = all_findings(check_recipes(recipe, overrides=overrides or ()))
    except RecipeError as error:
        findings, status = error.findings, error.exit_code
    if sarif:
        from bwdeploy.report.sarif import as_sarif

        print_json(as_sarif(findings, root=Path.cwd()))
    elif as_json:
        print_json(findings_json(findings))
    else:
        typer.echo("\n".join([*as_lines(findings), f"{recipe}: {summary(findings)}"]))
    raise typer.Exit(status)


def plan(
    recipe: RecipePath,
    *,
    overrides: Overrides = None,
    why: Annotated[bool, typer.Option("--why", help="Say why each stage runs or does not.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the stages of a build, what is cached, and the memory it will need."""
    from bwdeploy.build import open_store, plan_recipe, planned_memory
    from bwdeploy.checks.recipes import all_findings, check_recipes
    from bwdeploy.report.plans import plan_json, plan_text

    store = open_store()
    checked = check_recipes(recipe, overrides=overrides or ())
    _tell(all_findings(checked))
    plans = [plan_recipe(one.loaded, store=store) for one in checked]
    if as_json:
        shown = [plan_json(one, planned_memory(one)) for one in plans]
        print_json(shown[0] if len(shown) == 1 else {"builds": shown})
    else:
        typer.echo("\n\n".join(plan_text(one, planned_memory(one), why=why) for one in plans))


def build(
    recipe: RecipePath,
    *,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            help="Where to write; several builds each get a directory in it.",
            show_default="out/<name>",
        ),
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="STAGE", help="Stop after this stage.")] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Build a recipe into a Triton model repository; what is finished already is not done again."""
    from bwdeploy.build import build_recipe, open_store
    from bwdeploy.checks.recipes import all_findings, check_recipes
    from bwdeploy.report.build_progress import build_display
    from bwdeploy.report.builds import build_json, build_text
    from bwdeploy.tools.local_executor import LocalExecutor

    _require_stage(until)
    checked = check_recipes(recipe, overrides=overrides or ())
    _tell(all_findings(checked))
    results = []
    with build_display() as display:
        for one in checked:
            target = _output_directory(out, one.loaded.recipe.name, several=len(checked) > 1)
            results.append(
                build_recipe(
                    one.loaded,
                    target,
                    store=open_store(),
                    executor=LocalExecutor(),
                    watcher=display,
                    until=until,
                )
            )
    if as_json:
        shown = [build_json(result) for result in results]
        print_json(shown[0] if len(shown) == 1 else {"ok": True, "builds": shown})
    else:
        typer.echo("\n".join(build_text(result) for result in results))


def _tell(findings: Iterable[Finding]) -> None:
    for finding in findings:
        typer.echo(f"{finding.severity}: {finding}", err=True)


def _output_directory(out: Path | None, name: str, *, several: bool) -> Path:
    if out is None:
        return Path("out", name)
    return out / name if several else out


def _require_stage(name: str | None) -> None:
    from bwdeploy.recipe.words import nearest
    from bwdeploy.stages import STAGES

    names = [stage.name for stage in STAGES]
    if name is not None and name not in names:
        raise _argument_error(
            f"--until: there is no stage {name!r}",
            f"did you mean {near}"
            if (near := nearest(name, names))
            else f"The stages are {', '.join(names)}",
        )


def _argument_error(message: str, hint: str) -> RecipeError:
    finding = Finding(rule="command-line", severity="error", path="", message=message, hint=hint)
    return RecipeError((finding,))


def _shipped_names() -> list[str]:
    root = shipped_recipes()
    names = (path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.yaml"))
    return sorted(name for name in names if not any(part.startswith("_") for part in name.split("/")))


def _shipped(name: str) -> Path:
    names = _shipped_names()
    if name.removesuffix(".yaml") not in names:
        raise _argument_error(f"there is no recipe {name!r}", f"They are: {', '.join(names)}")
    return shipped_recipes() / f"{name.removesuffix('.yaml')}.yaml"


def _first_comment(name: str) -> str:
    first, *_ = _shipped(name).read_text(encoding="utf-8").splitlines()
    return first.removeprefix("#").strip()


def _bases_of(recipe: Path) -> list[Path]:
    from bwdeploy.recipe.load import load_recipes

    return [path for path in load_recipes(recipe)[0].files if path != recipe]
