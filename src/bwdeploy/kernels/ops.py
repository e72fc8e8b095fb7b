"""What an op declares in its op.toml, read strictly, and the ops that ship with bwdeploy.

The declaration is data for the builder, the checks of a recipe and the pack's manifest; what the op computes
stands in the folder beside it. Cheap: nothing but TOML is read.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bwdeploy.errors import Finding, RecipeError
from bwdeploy.kernels.declared_values import DeclaredTable, ProblemList
from bwdeploy.places import shipped_plugins

if TYPE_CHECKING:
    from collections.abc import Mapping

DECLARATION = "op.toml"
BINDING = "bind.cpp"
REFERENCE = "reference.py"
FORMATS = ("fp8", "nvfp4")
PLACES = ("norm", "mlp", "allreduce")

_KEYS = ("name", "summary", "quantizes", "replaces", "gpus", "sms", "schemas", "units")
_UNIT_KEYS = ("source", "defines")
_SM = re.compile(r"sm_\d{2,3}a")
_SCHEMA = re.compile(r"([a-z][a-z0-9_]*)\(.*\) -> \S.*")
_MACRO = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One translation unit of nvcc."""

    source: str
    """File in the op's folder."""
    defines: Mapping[str, str]
    """Macro → text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpDeclaration:
    """One folder of `plugins/`."""

    folder: Path
    name: str
    """Of the folder, the library and (as a prefix) the torch ops."""
    summary: str
    quantizes: tuple[str, ...]
    """Number formats that it writes, of FORMATS."""
    replaces: str
    """The piece of a model that it stands for, of PLACES."""
    gpus: tuple[int, ...]
    """Numbers of GPUs that it works over."""
    sms: tuple[str, ...]
    """Architectures that it is compiled for, for example `sm_100a`."""
    schemas: tuple[str, ...]
    """Torch schemas without the namespace."""
    units: tuple[Unit, ...]

    @property
    def torch_ops(self) -> tuple[str, ...]:
        """Names of the torch ops, in the order of their schemas."""
        return tuple(schema.partition("(")[0] for schema in self.schemas)


def shipped_ops() -> dict[str, OpDeclaration]:
    """The ops that come with bwdeploy, by name.

    Raises:
        RecipeError: a declaration is wrong.
    """
    return read_ops(shipped_plugins())


def read_ops(plugins: Path) -> dict[str, OpDeclaration]:
    """Every op below a directory of op folders, by name.

    Raises:
        RecipeError: declarations are wrong; carries what is wrong in all of them.
    """
    ops: dict[str, OpDeclaration] = {}
    findings: list[Finding] = []
    for file in sorted(plugins.glob(f"*/{DECLARATION}")):
        try:
            ops[file.parent.name] = read_op(file.parent)
        except RecipeError as error:
            findings += error.findings
    if findings:
        raise RecipeError(tuple(findings))
    return ops


def read_op(folder: Path) -> OpDeclaration:
    """The declaration of one op.

    Raises:
        RecipeError: op.toml is absent or wrong; carries every wrong key.
    """
    problems = ProblemList(folder / DECLARATION)
    table = DeclaredTable(_parsed(folder / DECLARATION, problems), problems)
    table.only_keys(_KEYS)
    declared = OpDeclaration(
        folder=folder,
        name=table.text("name"),
        summary=table.text("summary"),
        quantizes=table.words("quantizes", FORMATS),
        replaces=table.word("replaces", PLACES),
        gpus=table.positive_numbers("gpus"),
        sms=table.texts("sms", _SM, "an architecture like sm_100a"),
        schemas=table.texts("schemas", _SCHEMA, "a torch schema like name(Tensor x) -> Tensor"),
        units=tuple(_unit(folder, unit) for unit in table.tables("units")),
    )
    _look_at_folder(declared, problems)
    problems.raise_if_any()
    return declared


def _parsed(file: Path, problems: ProblemList) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        problems.add("", f"cannot be read: {error}", "write it as the other ops do")
    except tomllib.TOMLDecodeError as error:
        problems.add("", f"is no TOML: {error}", "correct that line")
    problems.raise_if_any()
    return {}


def _unit(folder: Path, table: DeclaredTable) -> Unit:
    table.only_keys(_UNIT_KEYS)
    source = table.text("source")
    if source and (Path(source).name != source or not (folder / source).is_file()):
        table.refuse(
            "source", f"there is no file {source!r} in the op's folder", "name a file beside op.toml"
        )
    return Unit(source=source, defines=table.text_mapping("defines", _MACRO))


def _look_at_folder(declared: OpDeclaration, problems: ProblemList) -> None:
    if declared.name and declared.name != declared.folder.name:
        problems.add(
            "name", f"got {declared.name!r} in the folder {declared.folder.name}", "name op and folder alike"
        )
    for name in (BINDING, REFERENCE):
        if not (declared.folder / name).is_file():
            problems.add("", f"there is no {name} beside it", f"every op has a {name}")
