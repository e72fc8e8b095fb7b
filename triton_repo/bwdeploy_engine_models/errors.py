"""What is wrong with a request, or with a model's settings."""

from __future__ import annotations


class RequestError(ValueError):
    """The request cannot be answered; the client is told why."""


class StepError(RuntimeError):
    """Another model of the repository failed; the message is its own."""


class SettingError(ValueError):
    """The model cannot be loaded as its config.pbtxt says."""
