"""Every obvious way to write down what steps took, brought into one: entries of a batch size and its steps.

{"0": ms, "3": ms}            by draft length, also below step_ms or ms
[ms at k = 0, at k = 1, …]    from no draft upward
[[0, ms], [3, ms]]            pairs
[{"k": 0, "ms": ms}, …]       records; draft_len and step_ms are the same words
{"k": [0, 3], "ms": [ms, ms]} columns
"""

from __future__ import annotations

from typing import Any

_LENGTHS = ("k", "draft_len")
_TIMES = ("step_ms", "ms", "t_ms", "step_time_ms", "times_ms", "timings_ms")
_PAIR = 2


def timing_entries(document: Any) -> list[Any]:  # noqa: ANN401 - JSON
    """The timings of each batch size as `{"batch_size": …, "step_ms": {draft length: ms}}`.

    What cannot be read comes back as it is, for the reader to complain about.
    """
    inner = document.get("timings", document) if isinstance(document, dict) else document
    if isinstance(inner, list):
        return [{"step_ms": _by_length(inner)}] if _is_one_batch(inner) else [_entry(one) for one in inner]
    if not isinstance(inner, dict):
        return [inner]
    if inner and all(isinstance(value, dict) for value in inner.values()) and not _named(inner, _TIMES):
        return [{"batch_size": size, "step_ms": steps} for size, steps in inner.items()]
    return [_entry(inner) if _named(inner, _TIMES) else {"step_ms": inner}]


def _is_one_batch(rows: list[Any]) -> bool:
    """Whether a list is the steps of one batch size, and not a list of such."""
    return all(not isinstance(row, dict) or _is_record(row) for row in rows)


def _is_record(row: dict[str, Any]) -> bool:
    """Whether it is one step, with its draft length beside its time."""
    name = _named(row, _LENGTHS)
    return name is not None and not isinstance(row[name], list)


def _entry(one: Any) -> Any:  # noqa: ANN401 - JSON
    """An entry with its steps by draft length under the name step_ms."""
    times = _named(one, _TIMES) if isinstance(one, dict) else None
    if times is None:
        return one
    lengths = _named(one, _LENGTHS)
    rest = {key: value for key, value in one.items() if key not in {times, lengths}}
    if lengths and isinstance(one[lengths], list) and isinstance(one[times], list):
        same = len(one[lengths]) == len(one[times])
        steps = (
            _by_length([list(pair) for pair in zip(one[lengths], one[times], strict=True)]) if same else None
        )
        return rest | {"step_ms": steps}
    return rest | {"step_ms": _by_length(one[times])}


def _by_length(steps: Any) -> Any:  # noqa: ANN401 - JSON
    """Draft length → time, of any of the list forms; anything else as it is."""
    if not isinstance(steps, list) or not steps:
        return steps
    if all(isinstance(row, dict) for row in steps):
        steps = [[row.get(_named(row, _LENGTHS) or ""), row.get(_named(row, _TIMES) or "")] for row in steps]
    if all(isinstance(row, list) for row in steps):
        pairs = [row for row in steps if len(row) == _PAIR]
        lengths = [str(length) for length, _ in pairs]
        twice = len(set(lengths)) < len(lengths)
        return (
            steps
            if twice or len(pairs) < len(steps)
            else dict(zip(lengths, (ms for _, ms in pairs), strict=True))
        )
    return {str(length): ms for length, ms in enumerate(steps)}


def _named(mapping: dict[str, Any], names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in mapping), None)
