"""A difference for people and for programs (`diff --json`)."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from bwdeploy.difference.figures import Range
from bwdeploy.report.findings import as_json as findings_json
from bwdeploy.report.findings import as_lines
from bwdeploy.report.levers import Sources, lever_json, lever_text
from bwdeploy.report.wrapping import wrapped

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bwdeploy.difference import Difference
    from bwdeploy.difference.figures import Figure, FigureGroup, Value
    from bwdeploy.difference.sides import Side
    from bwdeploy.difference.values import Change
    from bwdeploy.errors import Finding

_GIB, _MIB = 2**30, 2**20
_NOT_SET = "not set"
_WHOSE = {"a": "A's was ", "b": "B's was ", "either": ""}
_DIGEST_SHOWN = 12


def difference_text(difference: Difference) -> str:
    """All that differs, grouped; `no difference` when there is nothing."""
    lines = [f"A: {_side_text(difference.a)}", f"B: {_side_text(difference.b)}"]
    if difference.is_empty:
        return "\n".join([*lines, *_unknown_lines(difference.groups), "no difference"])
    sources = Sources()
    lines += _titled("levers", _value_lines(difference.values, sources))
    for group in difference.groups:
        title = f"{group.title} ({group.remark})" if group.remark else group.title
        lines += _titled(title, map(_figure_line, group.figures))
    lines += _unknown_lines(difference.groups)
    lines += _titled("findings of A only", as_lines(difference.findings_a))
    lines += _titled("findings of B only", as_lines(difference.findings_b))
    lines += _titled("builds", _build_lines(difference.builds))
    return "\n".join([*lines, *sources.lines()])


def difference_json(difference: Difference) -> dict[str, Any]:
    """The object that `diff --json` prints."""
    return {
        "same": difference.is_empty,
        "a": _side_json(difference.a),
        "b": _side_json(difference.b),
        "levers": [_change_json(one) for one in difference.values],
        **{group.title: _group_json(group) for group in difference.groups},
        "findings": {"a": _rows(difference.findings_a), "b": _rows(difference.findings_b)},
        "builds": [_change_json(one) for one in difference.builds],
    }


def _side_text(side: Side) -> str:
    kind = "recipe" if side.manifest is None else "build"
    return f"{side.loaded.recipe.name} ({kind} {side.place})"


def _titled(title: str, lines: Iterable[str]) -> list[str]:
    shown = [f"  {line}" for line in lines]
    return [title, *shown] if shown else []


def _value_lines(changes: Iterable[Change], sources: Sources) -> Iterator[str]:
    for one in changes:
        yield f"{'.'.join(one.path)}: {_value_text(one.a)} → {_value_text(one.b)}"
        for side, lever in one.worth:
            yield from wrapped(f"{_WHOSE[side]}{lever_text(lever, sources)}", indent=4, hanging=6)


def _value_text(value: object) -> str:
    if value is None:
        return _NOT_SET
    if isinstance(value, dict) and {"metric", "value"} <= value.keys():  # a figure of `expect`
        return f"{value['value']:,g} {value['metric']}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _figure_line(figure: Figure) -> str:
    return f"{figure.name}: {_figure_text(figure.a, figure.unit)} → {_figure_text(figure.b, figure.unit)}"


def _figure_text(value: Value, unit: str) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, Range):
        return f"{value.low:,.0f} to {value.high:,.0f}"
    if unit != "bytes":
        return f"{value:,}"
    return f"{value / _GIB:.2f} GiB" if value >= _MIB else f"{value:,} bytes"


def _unknown_lines(groups: Iterable[FigureGroup]) -> list[str]:
    lines = []
    for group in groups:
        if group.unknown_a == group.unknown_b:
            sides = [(group.title, group.unknown_a)]
        else:
            sides = [(f"{group.title} of A", group.unknown_a), (f"{group.title} of B", group.unknown_b)]
        lines += [f"{title} is not known: {reason}" for title, reason in sides if reason]
    return lines


def _build_lines(changes: Iterable[Change]) -> Iterator[str]:
    """Tools and keys one by one; files, of which there may be hundreds, as a number for each stage."""
    files = Counter[str]()
    for one in changes:
        group, *rest = one.path
        if rest and group != "tools" and rest != ["key"]:
            files[group] += 1
            continue
        yield f"{' '.join(one.path)}: {_short(one.a)} → {_short(one.b)}"
    for stage, count in files.items():
        yield f"{stage}: 1 file differs" if count == 1 else f"{stage}: {count} files differ"


def _short(value: object) -> str:
    return _NOT_SET if value is None else str(value)[:_DIGEST_SHOWN]


def _side_json(side: Side) -> dict[str, Any]:
    kind = "recipe" if side.manifest is None else "build"
    return {"name": side.loaded.recipe.name, "place": str(side.place), "kind": kind}


def _change_json(change: Change) -> dict[str, Any]:
    shown = {"path": ".".join(change.path), "a": change.a, "b": change.b}
    return shown | {"worth": [{"side": side} | lever_json(lever) for side, lever in change.worth]}


def _group_json(group: FigureGroup) -> dict[str, Any]:
    return {
        "remark": group.remark,
        "changed": [
            {"name": one.name, "unit": one.unit, "a": _figure_json(one.a), "b": _figure_json(one.b)}
            for one in group.figures
        ],
        "unknown": {"a": group.unknown_a or None, "b": group.unknown_b or None},
    }


def _figure_json(value: Value) -> Any:  # noqa: ANN401 - any JSON value
    return value._asdict() if isinstance(value, Range) else value


def _rows(findings: tuple[Finding, ...]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = findings_json(findings)["findings"]
    return rows
