"""The verb that looks without running: check."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bwdeploy.cli.arguments import AsJson, Overrides
from bwdeploy.cli.output import print_json
from bwdeploy.errors import RecipeError, argument_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bwdeploy.errors import Finding


def check(
    path: Annotated[
        Path | None,
        typer.Argument(metavar="RECIPE", help="A recipe file, or a Triton model repository."),
    ] = None,
    *,
    overrides: Overrides = None,
    as_json: AsJson = False,
    sarif: Annotated[bool, typer.Option("--sarif", help="Print SARIF 2.1.0, for code scanning.")] = False,
    explain: Annotated[
        str | None,
        typer.Option("--explain", metavar="RULE", help="Say why a rule is there; `all` prints the table."),
    ] = None,
) -> None:
    """Check a recipe or a Triton model repository: no GPU, no network, nothing is run."""
    if explain is not None:
        _explain(explain, as_json=as_json)
        return
    if path is None:
        raise argument_error("check needs a recipe or a rule", "Write check RECIPE or check --explain RULE")
    findings = _findings_of(path, overrides or ())
    from bwdeploy.report.findings import as_json as findings_json
    from bwdeploy.report.findings import as_lines, has_errors, summary

    if sarif:
        from bwdeploy.report.sarif import as_sarif

        print_json(as_sarif(findings, root=Path.cwd(), checked=path))
    elif as_json:
        print_json(findings_json(findings))
    else:
        typer.echo("\n".join([*as_lines(findings), f"{path}: {summary(findings)}"]))
    raise typer.Exit(RecipeError.exit_code if has_errors(findings) else 0)


def _findings_of(path: Path, overrides: Sequence[str]) -> tuple[Finding, ...]:
    from bwdeploy.checks.recipes import all_findings, check_recipes

    if path.is_dir():
        from bwdeploy.serving.repository_check import check_repository, is_repository

        if not is_repository(path):
            raise argument_error(
                f"{path} is no Triton model repository: no directory in it has a config.pbtxt",
                "Name a recipe file, a model repository (OUT/model_repository) or one of its models",
            )
        return check_repository(path)
    try:
        return all_findings(check_recipes(path, overrides=overrides))
    except RecipeError as error:
        return error.findings


def _explain(name: str, *, as_json: bool) -> None:
    from bwdeploy.report.rules import find_rule, rule_json, rule_sections, rule_table, rule_text

    if name != "all":
        rule = find_rule(name)
        if as_json:
            print_json(rule_json(rule))
        else:
            typer.echo(rule_text(rule))
    elif as_json:
        print_json([rule_json(rule) for section in rule_sections() for rule in section])
    else:
        typer.echo(rule_table(), nl=False)
