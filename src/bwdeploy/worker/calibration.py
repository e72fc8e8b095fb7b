"""Text for calibration, training, validation and evaluation: from a dataset to fixed-length token sequences.

Every dataset is split by document into a calibration part and a held-out evaluation part (about a quarter),
by a hash of the document, so the two never overlap even when a recipe names the same data for both. Where a
model is trained, the calibration part is split once more, into training and validation (an eighth of the
text, as nearly as whole documents allow). The result depends on the data, the tokenizer, the seed and nothing
else. Sequences are cut from one token stream, so none is padded. No code from a dataset is run.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import random
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bwdeploy.worker.failures import recipe_error

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from torch import Tensor

    from bwdeploy.errors import RecipeError
    from bwdeploy.recipe.schema import Calibration, Evaluation, Training

Part = Literal["calibration", "evaluation", "training", "validation"]
"""Calibration is training and validation together."""
_LOG = logging.getLogger(__name__)
_BUILTIN = "builtin://python-topics"
_TEXT_FIELDS = ("text", "content", "prompt")
# One bucket of four is held out; this one holds a quarter of the built-in topics, of all sizes.
_BUCKETS, _HELD_OUT = 4, 2
# An eighth of the text decides when a training stops. Not a bucket of hashes: the built-in topics are few, of
# very different sizes, and another text in every CPython, so that a bucket may hold next to nothing.
_VALIDATION = 1 / 8
_OF_TRAINING: tuple[Part, ...] = ("training", "validation")
_WARNINGS = 3
_STREAMED_DOCUMENTS = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRequest:
    """Which sequences are wanted; `section` is the recipe path for error messages."""

    section: str
    dataset: str
    text_field: str | None
    samples: int
    seq_len: int
    seed: int
    part: Part
    chat_template: bool = False

    @classmethod
    def of(
        cls, section: str, settings: Calibration | Evaluation | Training, *, samples: int, part: Part
    ) -> TextRequest:
        """What a section of the recipe asks for."""
        return cls(
            section=section,
            dataset=settings.dataset,
            text_field=settings.text_field,
            samples=samples,
            seq_len=settings.seq_len,
            seed=settings.seed,
            part=part,
            chat_template=getattr(settings, "chat_template", False),  # what the gate evaluates is plain text
        )


def model_sequences(model: Path, request: TextRequest, *, trust_remote_code: bool) -> Tensor:
    """`token_sequences` in tokens of the model in directory `model`."""
    tokenizer = import_module("transformers").AutoTokenizer.from_pretrained(
        model, trust_remote_code=trust_remote_code
    )
    return token_sequences(request, tokenizer)


def token_sequences(request: TextRequest, tokenizer: Any) -> Tensor:  # noqa: ANN401 - a transformers tokenizer
    """Token ids, int64 [samples, seq_len].

    Raises:
        RecipeError: the dataset cannot be read, has no such column, or holds too little text.
    """
    import torch  # noqa: PLC0415 - worker only

    wanted = request.samples * request.seq_len
    documents = _of_part(request.part, _documents(request))
    random.Random(request.seed).shuffle(documents)  # noqa: S311 - reproducible choice, no secret
    stream: list[int] = []
    for text in documents:
        stream += _tokens(request, tokenizer, text)
        if len(stream) >= wanted:
            return torch.tensor(stream[:wanted], dtype=torch.int64).view(request.samples, request.seq_len)
    raise _too_little(request, tokens=len(stream), documents=len(documents))


def _too_little(request: TextRequest, *, tokens: int, documents: int) -> RecipeError:
    field = "validation_samples" if request.part == "validation" else "samples"
    enough, hub = tokens // request.seq_len, request.dataset.startswith("hf://")
    lower = f"Lower {field} to {enough} or seq_len" if enough else "Lower seq_len"
    return recipe_error(
        request.section,
        f"{request.samples} x {request.seq_len} = {request.samples * request.seq_len} tokens are wanted, but "
        f"the {request.part} part of {request.dataset} has {tokens} tokens in {documents} documents",
        hint=f"{lower}, or give more text (a quarter of the documents is held out for evaluation"
        + (", an eighth of the others for validation" if request.part in _OF_TRAINING else "")
        + (
            f"; of a hub's data set {_STREAMED_DOCUMENTS:,} rows are read, of file://X.jsonl all)."
            if hub
            else ")."
        ),
    )


def _of_part(part: Part, texts: Iterable[str]) -> list[str]:
    """The documents of `part`, in their order; equal ones are all in the same part."""
    hashed = ((text, hashlib.sha256(text.encode("utf-8", errors="replace")).digest()) for text in texts)
    held_out = part == "evaluation"
    chosen = [(text, digest) for text, digest in hashed if (digest[0] % _BUCKETS == _HELD_OUT) == held_out]
    if part not in _OF_TRAINING:
        return [text for text, _ in chosen]
    validates = _validation_digests({digest: len(text) for text, digest in chosen})
    return [text for text, digest in chosen if (digest in validates) == (part == "validation")]


def _validation_digests(sizes: Mapping[bytes, int]) -> set[bytes]:
    """The first documents in the order of their hashes: as near to an eighth of all text as they come."""
    # Their first byte has chosen them already.
    order = sorted(sizes, key=lambda digest: digest[1:])
    ends = list(itertools.accumulate(sizes[digest] for digest in order))
    away = [abs(end - ends[-1] * _VALIDATION) for end in ends[:-1]]  # one document is left to train on
    return set(order[: away.index(min(away)) + 1]) if away else set()


def _tokens(request: TextRequest, tokenizer: Any, text: str) -> list[int]:  # noqa: ANN401
    if not request.chat_template:
        return list(tokenizer(text, verbose=False)["input_ids"])
    if not tokenizer.chat_template:
        raise recipe_error(
            f"{request.section}.chat_template",
            "the model's tokenizer has no chat template",
            hint="Set chat_template: false.",
        )
    turn = tokenizer.apply_chat_template([{"role": "user", "content": text}], tokenize=False)
    return list(tokenizer(turn, add_special_tokens=False, verbose=False)["input_ids"])


def _documents(request: TextRequest) -> Iterator[str]:
    scheme, _, rest = request.dataset.partition("://")
    if request.dataset == _BUILTIN:
        return _python_topics()
    if scheme == "file" and rest:
        return _file_documents(request, Path(rest))
    if scheme == "hf" and rest:
        return _hub_documents(request, rest)
    raise recipe_error(
        f"{request.section}.dataset",
        f"{request.dataset!r} is no dataset",
        hint=f"Use {_BUILTIN}, file://X.jsonl, .txt or .parquet, or hf://org/name@revision.",
    )


def _python_topics() -> Iterator[str]:
    """The help texts that every CPython carries: 465 kB of English in about 80 topics."""
    topics: dict[str, str] = import_module("pydoc_data.topics").topics
    for name in sorted(topics):
        yield topics[name].strip()


def _file_documents(request: TextRequest, path: Path) -> Iterator[str]:
    readers = {".jsonl": _jsonl_rows, ".txt": _paragraphs, ".parquet": _parquet_rows}
    if path.suffix not in readers:
        raise recipe_error(
            f"{request.section}.dataset",
            f"{path} is neither .jsonl, .txt nor .parquet",
            hint="Convert it to JSON lines with one object of a text column a line.",
        )
    try:
        yield from _texts(request, readers[path.suffix](path))
    except OSError as error:
        raise recipe_error(
            f"{request.section}.dataset", f"{path} cannot be read: {error.strerror or error}"
        ) from error
    except ValueError as error:
        raise recipe_error(f"{request.section}.dataset", f"{path} is damaged: {error}") from error


def _jsonl_rows(path: Path) -> Iterator[Any]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise ValueError(f"line {number} is not JSON ({error})") from error


def _paragraphs(path: Path) -> Iterator[Any]:
    for paragraph in path.read_text(encoding="utf-8").split("\n\n"):
        if paragraph.strip():
            yield paragraph.strip()


def _parquet_rows(path: Path) -> Iterator[Any]:
    parquet = import_module("pyarrow.parquet")
    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches():
            yield from batch.to_pylist()


def _hub_documents(request: TextRequest, name: str) -> Iterator[str]:
    repository, _, revision = name.partition("@")
    if not revision:
        raise recipe_error(
            f"{request.section}.dataset",
            f"{request.dataset} names no revision",
            hint="Append @ and the 40-hex commit of the dataset, so that the build can be repeated.",
        )
    datasets = import_module("datasets")
    try:
        rows = datasets.load_dataset(repository, revision=revision, split="train", streaming=True)
        yield from _texts(request, rows.take(_STREAMED_DOCUMENTS))
    except (OSError, ValueError, RuntimeError) as error:
        raise recipe_error(
            f"{request.section}.dataset",
            f"{request.dataset} cannot be loaded: {error}",
            hint="Check name, revision and network, or export its text to file://X.jsonl.",
        ) from error


def _texts(request: TextRequest, rows: Iterable[Any]) -> Iterator[str]:
    """The text of each row; rows without one are skipped, the first few with a warning."""
    skipped = 0
    field = request.text_field
    for number, row in enumerate(rows, 1):
        if isinstance(row, str):
            yield row
            continue
        if not isinstance(row, dict):
            raise recipe_error(f"{request.section}.dataset", f"row {number} is no object but {row!r:.60}")
        field = field or _find_field(request, row)
        text = row.get(field)
        if isinstance(text, str) and text.strip():
            yield text
        else:
            skipped += 1
            if skipped <= _WARNINGS:
                _LOG.warning("row %d of %s has no text in column %r", number, request.dataset, field)
    if skipped:
        _LOG.warning("%d rows of %s without text were left out", skipped, request.dataset)


def _find_field(request: TextRequest, row: dict[str, Any]) -> str:
    for field in _TEXT_FIELDS:
        if isinstance(row.get(field), str):
            return field
    raise recipe_error(
        f"{request.section}.text_field",
        f"{request.dataset} has none of the columns {', '.join(_TEXT_FIELDS)}",
        hint=f"Set text_field to one of its columns: {', '.join(map(str, row))}.",
    )
