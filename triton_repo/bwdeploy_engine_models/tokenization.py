"""Text into tokens and back, with the tokenizer files of the model.

A tokenizer.json is read directly. Only a model without one needs transformers; code that comes with a model
is never run. Truncation and padding that an export left in tokenizer.json are switched off: they would cut
prompts without a word.
"""

from __future__ import annotations

import json
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from bwdeploy_engine_models.errors import RequestError, SettingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

UNFINISHED = "\N{REPLACEMENT CHARACTER}"
"""What a decoder writes for bytes of a character that is not complete."""

NO_TOKEN = -1
"""An end id that no token has: the engine then stops at the requested length only."""


class TextTokenizer(Protocol):
    """Either kind of tokenizer."""

    vocab_size: int
    longest_token: int
    """Characters of its longest token."""

    def encode(self, text: str, *, special: bool) -> list[int]:
        """Tokens of `text`, with the special tokens of a prompt if wanted."""
        ...

    def decode(self, tokens: Sequence[int], *, skip_special: bool) -> str:
        """Text of `tokens`; bytes of an unfinished character become U+FFFD."""
        ...

    def token_id(self, token: str) -> int | None:
        """The number of a token, None when there is no such token."""
        ...


class SpecialIds(NamedTuple):
    """The tokens that the engine must know."""

    end: int
    pad: int


def load_tokenizer(directory: Path) -> TextTokenizer:
    """The tokenizer of the model whose files lie in `directory`.

    Raises:
        SettingError: there is none, or it cannot be read.
    """
    file = directory / "tokenizer.json"
    try:
        return _FastTokenizer(file) if file.is_file() else _SlowTokenizer(directory)
    except ModuleNotFoundError as error:
        raise SettingError(
            f"{directory} has no tokenizer.json, and {error.name} is not installed."
        ) from error
    except Exception as error:
        # tokenizers raises a bare Exception for a file that it cannot read.
        raise SettingError(f"the tokenizer in {directory} cannot be read: {error}") from error


def special_ids(directory: Path, tokenizer: TextTokenizer) -> SpecialIds:
    """End and padding token: as the tokenizer names them, else as the generation or model configuration."""
    end = _first(directory, tokenizer, "eos_token")
    pad = _first(directory, tokenizer, "pad_token")
    if pad is None:
        pad = end if end is not None else 0
    return SpecialIds(NO_TOKEN if end is None else end, pad)


def decode_checked(tokenizer: TextTokenizer, tokens: Sequence[int], *, skip_special: bool) -> str:
    """Text of tokens that came from outside.

    Raises:
        RequestError: a number is no token.
    """
    wrong = next((token for token in tokens if token < 0), None)
    if wrong is not None:
        raise RequestError(f"{wrong} is not a token.")
    return tokenizer.decode(tokens, skip_special=skip_special)


class _FastTokenizer:
    def __init__(self, file: Path) -> None:
        self._tokenizer = import_module("tokenizers").Tokenizer.from_file(str(file))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.vocab_size = int(self._tokenizer.get_vocab_size(with_added_tokens=True))
        self.longest_token = _longest(self._tokenizer.get_vocab(with_added_tokens=True))

    def encode(self, text: str, *, special: bool) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=special).ids
        return ids

    def decode(self, tokens: Sequence[int], *, skip_special: bool) -> str:
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=skip_special))

    def token_id(self, token: str) -> int | None:
        found: int | None = self._tokenizer.token_to_id(token)
        return found


class _SlowTokenizer:
    def __init__(self, directory: Path) -> None:
        self._tokenizer: Any = import_module("transformers").AutoTokenizer.from_pretrained(
            str(directory), trust_remote_code=False, local_files_only=True
        )
        self.vocab_size = len(self._tokenizer)
        self.longest_token = _longest(self._tokenizer.get_vocab())

    def encode(self, text: str, *, special: bool) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=special)
        return ids

    def decode(self, tokens: Sequence[int], *, skip_special: bool) -> str:
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=skip_special))

    def token_id(self, token: str) -> int | None:
        found: int | None = self._tokenizer.convert_tokens_to_ids(token)
        return found


def _longest(vocabulary: Iterable[str]) -> int:
    return max(map(len, vocabulary), default=1)


def _first(directory: Path, tokenizer: TextTokenizer, name: str) -> int | None:
    """The first answer to what `name` is: two files name the token, two others its number."""
    ways: tuple[tuple[str, str, Callable[[Any], int | None]], ...] = (
        ("tokenizer_config.json", name, lambda value: _named(tokenizer, value)),
        ("special_tokens_map.json", name, lambda value: _named(tokenizer, value)),
        ("generation_config.json", f"{name}_id", _numbered),
        ("config.json", f"{name}_id", _numbered),
    )
    found = (read(_object(directory / file).get(key)) for file, key, read in ways)
    return next((one for one in found if one is not None), None)


def _named(tokenizer: TextTokenizer, value: Any) -> int | None:  # noqa: ANN401 - JSON data
    token = value.get("content") if isinstance(value, dict) else value
    return tokenizer.token_id(token) if isinstance(token, str) else None


def _numbered(value: Any) -> int | None:  # noqa: ANN401 - JSON data
    first = value[0] if isinstance(value, list) and value else value
    return first if isinstance(first, int) and first >= 0 else None


def _object(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # none of these files has to be there
        return {}
    return value if isinstance(value, dict) else {}
