"""Sends the package's log records to Triton's log."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bwdeploy_runtime.stub.triton_types import PbUtils, TritonLogger


class _TritonHandler(logging.Handler):
    def __init__(self, logger: TritonLogger) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        if record.levelno >= logging.ERROR:
            self._logger.log_error(text)
        elif record.levelno >= logging.WARNING:
            self._logger.log_warn(text)
        else:
            self._logger.log_info(text)


def forward_logging(pb_utils: PbUtils) -> None:
    """Attach the handler once; call it from initialize, before which Triton's logger is not there."""
    logger = logging.getLogger("bwdeploy_runtime")
    logger.setLevel(logging.INFO)
    if not logger.handlers:
        handler = _TritonHandler(pb_utils.Logger)
        handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
        logger.addHandler(handler)
