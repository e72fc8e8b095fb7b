"""The command line: verbs that read arguments, call the room that does the work, and print the result.

Results go to stdout (`--json` for machines), talk goes to stderr. Verbs import what they need when they
run, so that `--help` and `check` stay fast; torch is imported by none. `main` turns every error into its
exit code.
"""

from __future__ import annotations

import sys
import traceback
from importlib import import_module
from typing import Annotated

import typer

from bwdeploy import __version__
from bwdeploy.cli.output import print_json
from bwdeploy.errors import BUG_EXIT_CODE, BwdeployError, InterruptedBuild, RecipeError, ToolError

_AFTER_CTRL_C = "Run the same command again: finished stages are kept"
VERBS = {
    "recipes": "shipped",
    "schema": "shipped",
    "check": "checking",
    "plan": "planning",
    "estimate": "planning",
    "diff": "comparing",
    "migrate": "migrating",
    "build": "making",
    "draft": "draft",
    "report": "reporting",
    "serve": "serving",
    "smoke": "serving",
    "bench": "serving",
    "kernels": "kernels",
    "verify": "upkeep",
    "store": "upkeep",
    "doctor": "upkeep",
}
"""Each verb and the module that has it, in the order of `--help`."""


def app_for(verb: str) -> typer.Typer:
    """The command line with `verb` alone, or with every verb when there is no such one.

    Describing every verb to typer costs a tenth of what `check` may take.
    """
    app = typer.Typer(
        name="bwdeploy",
        help="From one YAML recipe to a quantized, checked and served TensorRT-LLM deployment.",
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_global_options)
    for name in (verb,) if verb in VERBS else VERBS:
        made = getattr(import_module(f"bwdeploy.cli.{VERBS[name]}"), name)
        if isinstance(made, typer.Typer):
            app.add_typer(made, name=name)
        else:
            app.command()(made)
    return app


def _global_options(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=lambda wanted: _version(wanted=wanted)),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback with every error.")] = False,
) -> None:
    del version, debug  # the first is answered by its callback, the second is read by `main`


def _version(*, wanted: bool) -> None:
    if wanted:
        typer.echo(f"bwdeploy {__version__}")
        raise typer.Exit


def main() -> int:
    """Run the command line; its exit code."""
    try:
        status = app_for(_verb())(sys.argv[1:] or ["--help"], standalone_mode=False)
    except typer.TyperException as error:
        command = " ".join(["bwdeploy", *_verb().split()])
        typer.echo(f"error: {error.format_message()} See `{command} --help`.", err=True)
        return error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        status = InterruptedBuild.exit_code
    except BwdeployError as error:
        return _told(error)
    except BrokenPipeError:
        return 1
    except Exception:  # noqa: BLE001 - the last line of defense: a bug of ours is shown as one
        traceback.print_exc()
        typer.echo("This is a bug of bwdeploy; please report it with the lines above.", err=True)
        return BUG_EXIT_CODE
    if status == InterruptedBuild.exit_code:  # typer answers Ctrl-C with this status and says nothing
        return _told(InterruptedBuild("interrupted", hint=_AFTER_CTRL_C))
    return status if isinstance(status, int) else 0


def _verb() -> str:
    """The verb that was called, as far as it can be told."""
    return next((word for word in sys.argv[1:] if not word.startswith("-")), "")


def _told(error: BwdeployError) -> int:
    """Say what went wrong on stderr (and, with --json, as JSON on stdout); the exit code of it."""
    if "--debug" in sys.argv:
        traceback.print_exception(error)
    if "--json" in sys.argv:
        print_json({"ok": False, "error": _error_json(error)})
    for line in _error_lines(error):
        typer.echo(line, err=True)
    return error.exit_code


def _error_lines(error: BwdeployError) -> list[str]:
    if isinstance(error, RecipeError):
        return [f"{finding.severity}: {finding}" for finding in error.findings]
    hint = f" {error.hint.rstrip('.')}." if error.hint else ""
    lines = [f"error: {error.message.rstrip('.')}.{hint}"]
    if isinstance(error, ToolError) and error.log is not None:
        lines += [f"  | {line}" for line in error.last_lines]
        lines.append(f"log: {error.log}")
    return lines


def _error_json(error: BwdeployError) -> dict[str, object]:
    shown: dict[str, object] = {
        "kind": type(error).__name__,
        "exit_code": error.exit_code,
        "message": error.message,
        "hint": error.hint,
    }
    if isinstance(error, RecipeError):
        shown["findings"] = [finding._asdict() for finding in error.findings]
    if isinstance(error, ToolError) and error.log is not None:
        shown["log"] = str(error.log)
    return shown
