"""The verbs about recipes as files: recipes, schema."""

from __future__ import annotations

import shutil
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

import typer

from bwdeploy.cli.arguments import AsJson
from bwdeploy.cli.output import print_builds, print_json
from bwdeploy.errors import StoreError, argument_error
from bwdeploy.places import shipped_recipes

recipes = typer.Typer(help="The recipes that come with bwdeploy.")


@recipes.command("list")
def list_recipes(*, as_json: AsJson = False) -> None:
    """List them."""
    names = _shipped_names()
    if as_json:
        print_json([{"name": name, "command": _command(name)} for name in names])
    else:
        typer.echo("\n".join(names))


@recipes.command("show")
def show_recipe(
    name: str,
    *,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say what each value means and what it is worth.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print one, or explain each of its values."""
    file = _shipped(name)
    text = file.read_text(encoding="utf-8")
    if not explain:
        if as_json:
            print_json({"name": name, "text": text})
        else:
            typer.echo(text, nl=False)
        return
    from bwdeploy.recipe.load import load_recipes
    from bwdeploy.report.levers import explain_json, explain_text

    builds = load_recipes(file)
    if as_json:
        shown = [explain_json(loaded) for loaded in builds]
        print_builds(shown)
    else:
        typer.echo("\n\n".join(explain_text(loaded) for loaded in builds))


@recipes.command("copy")
def copy_recipe(name: str, destination: Path, *, as_json: AsJson = False) -> None:
    """Copy one, with the bases it stands on, to change it."""
    source = _shipped(name)
    target = destination / source.name if destination.is_dir() else destination
    if target.exists():
        raise StoreError(f"{target} exists", hint="Choose another place; nothing was written")
    copies = {
        base: beside
        for base in _bases_of(source)
        if not (beside := target.parent / base.relative_to(source.parent)).exists()
    }
    try:
        for file, copy in (*copies.items(), (source, target)):
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
    except OSError as error:
        raise StoreError(f"cannot write {target}: {error}", hint="Choose another place") from error
    if as_json:
        print_json(
            {"name": source.stem, "file": str(target), "bases": [str(copy) for copy in copies.values()]}
        )
    else:
        typer.echo(str(target))


def schema() -> None:
    """Print the JSON Schema of recipes, for editors."""
    from bwdeploy.recipe.editor_schema import editor_schema_text

    typer.echo(editor_schema_text(), nl=False)


def _shipped_names() -> list[str]:
    root = shipped_recipes()
    names = (path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.yaml"))
    return sorted(name for name in names if not any(part.startswith("_") for part in name.split("/")))


def _shipped(name: str) -> Path:
    names = _shipped_names()
    if name.removesuffix(".yaml") not in names:
        near = get_close_matches(name, names, n=3, cutoff=0.4)
        hint = f"Did you mean {' or '.join(near)}?" if near else f"They are: {', '.join(names)}"
        raise argument_error(f"there is no recipe {name!r}", hint)
    return shipped_recipes() / f"{name.removesuffix('.yaml')}.yaml"


def _command(name: str) -> str:
    """The command that the recipe opens with."""
    lines = _shipped(name).read_text(encoding="utf-8").splitlines()
    return next(line.removeprefix("# ") for line in lines if line.startswith("# bwdeploy "))


def _bases_of(recipe: Path) -> list[Path]:
    from bwdeploy.recipe.load import load_recipes

    return [path for path in load_recipes(recipe)[0].files if path != recipe]
