"""Keys depend on content and nothing else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bwdeploy.pipeline.keys import differences, key_of

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
documents = st.dictionaries(st.text(), json_values, max_size=5)


@given(documents)
def test_order_of_keys_does_not_count(document: dict[str, object]) -> None:
    assert key_of(document) == key_of(dict(reversed(list(document.items()))))


@given(documents, st.text(), st.integers())
def test_any_added_value_changes_the_key(document: dict[str, object], name: str, value: int) -> None:
    if document.get(name) != value:
        assert key_of(document) != key_of({**document, name: value})


def test_differences_name_the_value_before_and_after() -> None:
    before = {"params": {"format": "nvfp4", "seed": 0}, "tools": {"torch": "2.9"}}
    now = {"params": {"format": "fp8", "seed": 0}, "tools": {"torch": "2.9"}}
    assert differences(before, now) == ['params.format: "nvfp4" → "fp8"']


def test_digests_are_shortened_in_differences() -> None:
    line = differences({"sources": {"a": "0" * 64}}, {"sources": {"a": "1" * 64}})[0]
    assert line == 'sources.a: "00000000…" → "11111111…"'
