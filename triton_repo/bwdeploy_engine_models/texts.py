"""Text out of string tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy_engine_models.errors import RequestError

if TYPE_CHECKING:
    from bwdeploy_engine_models.triton_types import Array


def texts_of(name: str, array: Array) -> list[list[str]]:
    """The strings of each request of a batch.

    Raises:
        RequestError: one of them is not UTF-8.
    """
    return [[_text(name, item) for item in row.reshape(-1)] for row in array]


def _text(name: str, value: bytes | str) -> str:
    if isinstance(value, str):
        return value
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RequestError(f"{name} is not UTF-8: {error}.") from error
