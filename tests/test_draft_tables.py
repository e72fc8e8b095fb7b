"""Files of `draft measure --acceptance`: what people write is read, what cannot be is one clear error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bwdeploy.errors import RecipeError
from bwdeploy.estimate.draft_tables import read_acceptance_file, read_timings_file
from bwdeploy.pipeline.training_jobs import StepTiming

STEPS = {"0": 9.0, "3": 11.1}


def written(directory: Path, content: object) -> Path:
    file = directory / "table.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def refusal(read: object, file: Path) -> str:
    assert callable(read)
    with pytest.raises(RecipeError) as caught:
        read(file)
    (finding,) = caught.value.findings
    assert finding.hint
    assert str(file) in finding.message
    return finding.message


def test_acceptance_lengths_begin_at_one_drafted_token(tmp_path: Path) -> None:
    table = read_acceptance_file(written(tmp_path, {"acceptance_length": [1.92, 2.58, 3], "source": "blog"}))
    assert table == ({1: 1.92, 2: 2.58, 3: 3.0}, ("source",))


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    file = written(tmp_path, "\ufeff" + json.dumps({"acceptance_length": [1.5]}))
    assert read_acceptance_file(file).lengths == {1: 1.5}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "not JSON"),
        ("acceptance_length: [1.9]", "not JSON"),
        ('{"acceptance_length": [1.9, NaN]}', "NaN is not a number"),
        ('{"acceptance_length": [1.9, Infinity]}', "Infinity is not a number"),
        ('{"acceptance_length": [1.9], "acceptance_length": [1.8]}', "twice"),
        ("[" * 100_000, "nested too deeply"),
        (" " * ((1 << 20) + 1), "larger than"),
        ([1.9, 2.4], "has no acceptance_length"),
        ({"acceptance_lenghts": [1.9]}, "is 'acceptance_lenghts' meant"),
        ({"acceptance_length": []}, "no list of 1 to 256"),
        ({"acceptance_length": {"1": 1.9}}, "no list of 1 to 256"),
        ({"acceptance_length": [1.0] * 257}, "no list of 1 to 256"),
        ({"acceptance_length": [1.9, "2.5"]}, "at k = 2 is '2.5', not a finite number"),
        ({"acceptance_length": [True]}, "at k = 1 is True"),
        ({"acceptance_length": [None]}, "at k = 1 is None"),
        ({"acceptance_length": [1e400]}, "not a finite number"),
        ({"acceptance_length": [10**400]}, "not a finite number"),
        ({"acceptance_length": [0.92, 0.8]}, "0.92 at k = 1 is impossible"),
        ({"acceptance_length": [1.9, 3.1]}, "3.1 at k = 2 is impossible"),
        ({"acceptance_length": [1e9]}, "1e+09 at k = 1 is impossible"),
        ({"acceptance_length": [1.9, 2.5, 2.3]}, "falls from 2.5 to 2.3 at k = 3"),
        ({"acceptance_length": [1.0, 1.92, 2.58]}, "1.92 at k = 2 after 1 at k = 1 is impossible"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_an_impossible_acceptance_file_is_one_clear_error(
    content: object, words: str, tmp_path: Path
) -> None:
    if content == {"acceptance_length": [1e400]}:
        content = '{"acceptance_length": [1e400]}'
    assert words in refusal(read_acceptance_file, written(tmp_path, content))


def test_what_is_no_file_is_one_clear_error(tmp_path: Path) -> None:
    assert "cannot be read" in refusal(read_acceptance_file, tmp_path / "none.json")
    assert "cannot be read" in refusal(read_timings_file, tmp_path)
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    assert "not JSON" in refusal(read_acceptance_file, binary)


@pytest.mark.parametrize(
    "content",
    [
        STEPS,
        {"step_ms": STEPS},
        {"step_ms": {"3": 11.1}, "target_ms": 9.0},
        {"timings": STEPS},
        {"timings": [{"step_ms": STEPS}]},
        {"timings": [{"batch_size": 1, "step_ms": STEPS, "draft_ms": 0.7}]},
        [{"batch_size": "1", "step_ms": STEPS}],
        {"1": STEPS},
        {"timings": {"1": STEPS}},
        {"ms": STEPS},
        [[0, 9.0], [3, 11.1]],
        [{"k": 0, "ms": 9.0}, {"draft_len": 3, "step_ms": 11.1}],
        {"k": [0, 3], "ms": [9.0, 11.1]},
        {"timings": [{"batch_size": 1, "draft_len": [0, 3], "step_ms": [9.0, 11.1]}]},
    ],
    ids=str,
)
def test_timings_may_be_written_in_every_obvious_way(content: object, tmp_path: Path) -> None:
    assert read_timings_file(written(tmp_path, content)) == (((1, {0: 9.0, 3: 11.1}),), ())


def test_a_list_of_times_begins_without_a_draft(tmp_path: Path) -> None:
    expected = (((1, {0: 9.0, 1: 9.7, 2: 10.4}),), ())
    assert read_timings_file(written(tmp_path, [9.0, 9.7, 10.4])) == expected
    assert read_timings_file(written(tmp_path, {"step_ms": [9.0, 9.7, 10.4]})) == expected


def test_a_small_fall_of_the_acceptance_length_is_noise(tmp_path: Path) -> None:
    assert read_acceptance_file(written(tmp_path, {"acceptance_length": [1.9, 2.5, 2.45]})).lengths[3] == 2.45


def test_timings_of_a_measurement_are_a_timings_file(tmp_path: Path) -> None:
    timings = [
        StepTiming(batch_size=size, target_ms=9.0, draft_ms=0.5, step_ms={1: 9.8, 2: 10.5}).model_dump(
            mode="json"
        )
        for size in (1, 8)
    ]
    read = read_timings_file(written(tmp_path, {"method": "eagle3", "timings": timings}))
    assert [one.batch_size for one in read.batches] == [1, 8]
    assert read.batches[1].step_ms == {0: 9.0, 1: 9.8, 2: 10.5}
    assert read.unused == ("method",)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, "no mapping of draft lengths|timings of 0 draft lengths"),
        ([], "no mapping of draft lengths"),
        (5, "no table of timings"),
        ({"step_ms": [9.0]}, "timings of 1 draft lengths"),
        ([[0, 9.0], [0, 9.7]], "no mapping of draft lengths"),
        ({"k": [0, 3], "ms": [9.0]}, "no mapping of draft lengths"),
        ([{"k": 0}, {"k": 3}], "k = 0 is None, not a finite number"),
        ({"step_ms": {"0": 9.0}}, "timings of 1 draft lengths"),
        ({"step_ms": {"0": 9.0, "three": 11.1}}, "draft length 'three' is no whole number"),
        ({"step_ms": {"0": 9.0, "-1": 11.1}}, "draft length '-1'"),
        ({"step_ms": {"0": 9.0, "1e3": 11.1}}, "draft length '1e3'"),
        ({"step_ms": {"0": 9.0, "257": 11.1}}, "draft length '257'"),
        ({"step_ms": {"0": 9.0, "3": 0}}, "k = 3 takes 0 ms"),
        ({"step_ms": {"0": 9.0, "3": -2}}, "k = 3 takes -2 ms"),
        ({"step_ms": {"0": 9.0, "3": 1e8}}, "k = 3 takes 1e+08 ms"),
        ({"step_ms": {"0": 9.0, "3": "11"}}, "k = 3 is '11', not a finite number"),
        ({"step_ms": STEPS, "target_ms": 8.0}, "two times without a draft"),
        ([{"batch_size": 0, "step_ms": STEPS}], "batch_size 0 is no whole number from 1"),
        ([{"batch_size": 1.5, "step_ms": STEPS}], "batch_size 1.5"),
        ([{"batch_size": True, "step_ms": STEPS}], "batch_size True"),
        ([{"batch_size": 8, "step_ms": STEPS}, {"batch_size": 8, "step_ms": STEPS}], "batch size 8 twice"),
        ({str(size): STEPS for size in range(1, 66)}, "timings of 65 batch sizes"),
        ([STEPS, 7], "no table of timings"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_impossible_timings_are_one_clear_error(content: object, words: str, tmp_path: Path) -> None:
    message = refusal(read_timings_file, written(tmp_path, content))
    assert any(word in message for word in words.split("|"))
