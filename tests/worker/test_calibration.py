from __future__ import annotations

import json
import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from bwdeploy.errors import RecipeError
from bwdeploy.recipe.schema import Training
from bwdeploy.worker import calibration
from bwdeploy.worker.calibration import TextRequest, token_sequences

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def tokenizer(tiny_llama: Path) -> Any:
    return import_module("transformers").AutoTokenizer.from_pretrained(tiny_llama)


def request(**changes: Any) -> TextRequest:
    fields: dict[str, Any] = {
        "section": "quantize.calibration",
        "dataset": "builtin://python-topics",
        "text_field": None,
        "samples": 4,
        "seq_len": 32,
        "seed": 0,
        "part": "calibration",
    } | changes
    return TextRequest(**fields)


def words(count: int, start: int = 0) -> list[str]:
    return [
        f"Document number {number} talks about subject {number * number}." for number in range(start, count)
    ]


def test_sequences_have_the_asked_shape_and_depend_only_on_the_seed(tokenizer: Any) -> None:
    first, again = token_sequences(request(), tokenizer), token_sequences(request(), tokenizer)
    other = token_sequences(request(seed=1), tokenizer)
    assert tuple(first.shape) == (4, 32)
    assert first.tolist() == again.tolist() != other.tolist()


def words_of(tokenizer: Any, path: Path, part: Any, tokens: int) -> set[str]:
    """Those of the only sequence of a part, but the last, which may be cut."""
    wanted = request(dataset=f"file://{path}", part=part, samples=1, seq_len=tokens)
    return set(tokenizer.decode(token_sequences(wanted, tokenizer)[0]).split()[:-1])


def test_calibration_and_evaluation_of_the_same_data_share_no_document(
    tokenizer: Any, tmp_path: Path
) -> None:
    path = tmp_path / "text.jsonl"
    path.write_text("".join(json.dumps({"text": f"{number:04d} "}) + "\n" for number in range(200)))
    seen = {part: words_of(tokenizer, path, part, 150) for part in ("calibration", "evaluation")}
    assert len(seen["calibration"]) > 20
    assert len(seen["evaluation"]) > 20
    assert not seen["calibration"] & seen["evaluation"]


def test_training_and_validation_share_no_document_with_each_other_or_with_evaluation(
    tokenizer: Any, tmp_path: Path
) -> None:
    path = tmp_path / "text.jsonl"
    path.write_text("".join(json.dumps({"text": f"{number:04d} "}) + "\n" for number in range(400)))
    lengths = {"evaluation": 300, "training": 600, "validation": 100, "calibration": 700}
    seen = {part: words_of(tokenizer, path, part, length) for part, length in lengths.items()}
    assert all(len(words) > 15 for words in seen.values())
    assert not seen["training"] & seen["validation"]
    assert not (seen["training"] | seen["validation"]) & seen["evaluation"]


def test_validation_gets_its_share_of_few_documents_of_very_different_sizes(
    tokenizer: Any, tmp_path: Path
) -> None:
    sizes = [2 ** (number % 8) for number in range(64)]  # as in the built-in topics
    for edition in range(12):
        texts = [f"Edition {edition}, topic {number}. " * size for number, size in enumerate(sizes)]
        path = tmp_path / f"{edition}.jsonl"
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        tokens = sum(len(tokenizer(text)["input_ids"]) for text in texts)
        for part, share in (("validation", 1 / 16), ("training", 1 / 2)):
            wanted = request(dataset=f"file://{path}", part=part, samples=1, seq_len=int(tokens * share))
            assert token_sequences(wanted, tokenizer).numel() == int(tokens * share)


def test_equal_documents_are_in_the_same_part(tokenizer: Any, tmp_path: Path) -> None:
    path = tmp_path / "text.jsonl"
    path.write_text("".join(json.dumps({"text": f"{number % 8:04d} "}) + "\n" for number in range(400)))
    seen = {part: words_of(tokenizer, path, part, 50) for part in ("training", "validation")}
    assert all(seen.values())
    assert not seen["training"] & seen["validation"]


def test_builtin_text_is_enough_for_the_default_training(tokenizer: Any) -> None:
    training = Training()
    for part, samples in (("training", training.samples), ("validation", training.validation_samples)):
        wanted = request(samples=samples, seq_len=training.seq_len, part=part)
        assert token_sequences(wanted, tokenizer).shape == (samples, training.seq_len)


def test_builtin_text_is_enough_for_the_default_settings(tokenizer: Any) -> None:
    assert token_sequences(request(samples=128, seq_len=512), tokenizer).numel() == 65536
    assert token_sequences(request(samples=16, seq_len=256, part="evaluation"), tokenizer).numel() == 4096


@pytest.mark.parametrize("suffix", ["jsonl", "txt", "parquet"])
def test_local_files_are_read(suffix: str, tokenizer: Any, tmp_path: Path) -> None:
    path = tmp_path / f"text with space.{suffix}"
    if suffix == "jsonl":
        path.write_text("".join(json.dumps({"content": text}) + "\n" for text in words(40)))
    elif suffix == "txt":
        path.write_text("\n\n".join(words(40)))
    else:
        pyarrow = import_module("pyarrow")
        import_module("pyarrow.parquet").write_table(pyarrow.table({"prompt": words(40)}), path)
    sequences = token_sequences(request(dataset=f"file://{path}"), tokenizer)
    assert "subject" in tokenizer.decode(sequences[0])


def test_chat_template_wraps_each_text(tokenizer: Any, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("\n\n".join(words(40)))
    sequences = token_sequences(request(dataset=f"file://{path}", chat_template=True), tokenizer)
    assert tokenizer.decode(sequences.flatten()).startswith("<|im_start|>user\nDocument")


def refusal(tokenizer: Any, **changes: Any) -> str:
    with pytest.raises(RecipeError) as caught:
        token_sequences(request(**changes), tokenizer)
    return str(caught.value)


def test_too_little_text_says_how_much_there_is(tokenizer: Any, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("\n\n".join(words(12)))
    message = refusal(tokenizer, dataset=f"file://{path}", samples=100)
    assert "100 x 32 = 3200 tokens are wanted" in message
    assert "Lower samples to" in message
    assert "Lower validation_samples to" in refusal(tokenizer, samples=10_000, part="validation")
    too_long = refusal(tokenizer, dataset=f"file://{path}", samples=1, seq_len=10_000)
    assert "Lower seq_len, or give more text" in too_long


def test_too_little_text_from_a_hub_says_that_not_all_of_it_was_read(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "_hub_documents", lambda _request, _name: iter(words(12)))
    message = refusal(tokenizer, dataset=f"hf://org/name@{'0' * 40}", samples=100)
    assert "of a hub's data set 100,000 rows are read, of file://X.jsonl all" in message


@pytest.mark.parametrize(
    ("dataset", "words_in_message"),
    [
        ("file:///nowhere/x.jsonl", ["cannot be read", "No such file"]),
        ("file:///nowhere/x.csv", [".jsonl, .txt nor .parquet"]),
        ("builtin://nothing", ["is no dataset", "builtin://python-topics"]),
        ("hf://org/name", ["names no revision"]),
        ("hf://org/name@0123", ["cannot be loaded"]),
    ],
)
def test_unusable_dataset_is_refused(dataset: str, words_in_message: list[str], tokenizer: Any) -> None:
    message = refusal(tokenizer, dataset=dataset)
    assert "quantize.calibration.dataset" in message
    assert all(word in message for word in words_in_message)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ('{"text": "a"}\n{broken\n', "line 2 is not JSON"),
        ('{"body": "a"}\n', "Set text_field to one of its columns: body"),
        ("[1, 2]\n", "row 1 is no object"),
    ],
)
def test_damaged_rows_are_named(content: str, word: str, tokenizer: Any, tmp_path: Path) -> None:
    path = tmp_path / "text.jsonl"
    path.write_text(content)
    assert word in refusal(tokenizer, dataset=f"file://{path}")


def test_damaged_parquet_is_refused(tokenizer: Any, tmp_path: Path) -> None:
    path = tmp_path / "text.parquet"
    path.write_bytes(b"PAR1 this is not parquet PAR1")
    assert "is damaged" in refusal(tokenizer, dataset=f"file://{path}")


def test_rows_without_text_are_left_out_and_only_the_first_few_are_logged(
    tokenizer: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "text.jsonl"
    rows: list[dict[str, Any]] = [{"text": text} for text in words(60)] + [{"text": None}] * 7
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with caplog.at_level(logging.WARNING):
        token_sequences(request(dataset=f"file://{path}"), tokenizer)
    assert sum("has no text" in message for message in caplog.messages) == 3
    assert "7 rows" in caplog.messages[-1]


def test_missing_chat_template_is_refused(tokenizer: Any) -> None:
    plain = import_module("copy").copy(tokenizer)
    plain.chat_template = None
    assert "has no chat template" in refusal(plain, chat_template=True)
