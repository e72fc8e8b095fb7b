"""Read the model's own metrics from Triton's Prometheus page.

Triton's core metrics mislead for decoupled models (failures and cancellations count as success), so only
the families that our runtime exports are looked at. An ensemble in front of an engine exports none of them.
"""

from __future__ import annotations

import http.client
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bwdeploy.errors import ToolError

if TYPE_CHECKING:
    from bwdeploy.serving.client import Endpoint

_PREFIX: Final = "bwdeploy_"
_TOKENS: Final = "bwdeploy_output_tokens_total"
_FINISHED: Final = "bwdeploy_finished_requests_total"
_SAMPLE: Final = re.compile(r"^(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_POLL_S: Final = 0.05

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What a model has done since it was loaded."""

    finished: int
    """Requests that ended, for whatever reason."""
    cancelled: int
    """Those of them that were cancelled."""
    tokens: int
    """Tokens sent to clients by finished requests."""


class Tally:
    """Counts what the model does from now on."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._before = read_counts(endpoint) if endpoint.vocabulary.ours else None

    def tokens(self, *, requests: int = 1, timeout_s: float) -> int | None:
        """Tokens that were made once `requests` more have ended; None when the model does not count.

        Raises:
            ToolError: the metrics port does not answer.
        """
        if self._before is None:
            return None
        after = wait_for_finished(self._endpoint, self._before, requests=requests, timeout_s=timeout_s)
        return after.tokens - self._before.tokens


def read_counts(endpoint: Endpoint) -> Counts:
    """The model's counters now.

    Raises:
        ToolError: the metrics port does not answer.
    """
    samples = read_samples(endpoint.metrics)
    model = endpoint.model
    return Counts(
        finished=round(total(samples, _FINISHED, model=model)),
        cancelled=round(total(samples, _FINISHED, model=model, reason="cancelled")),
        tokens=round(total(samples, _TOKENS, model=model)),
    )


def wait_for_finished(endpoint: Endpoint, before: Counts, *, requests: int = 1, timeout_s: float) -> Counts:
    """The counters once `requests` more have ended (the model counts just after its last response).

    Returns what there is when `timeout_s` is over.

    Raises:
        ToolError: the metrics port does not answer.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        counts = read_counts(endpoint)
        if counts.finished >= before.finished + requests or time.monotonic() > deadline:
            return counts
        time.sleep(_POLL_S)


def read_samples(address: str, *, timeout_s: float = 5.0) -> Samples:
    """All samples of our families: (name, labels) → value.

    Raises:
        ToolError: the metrics port does not answer.
    """
    connection = http.client.HTTPConnection(address, timeout=timeout_s)
    try:
        connection.request("GET", "/metrics")
        page = connection.getresponse().read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        raise ToolError(
            f"The metrics at {address} cannot be read: {error}.", hint="Is the server running?"
        ) from error
    finally:
        connection.close()
    return parse_samples(page)


def parse_samples(page: str) -> Samples:
    """The samples of our families on a Prometheus text page."""
    samples: Samples = {}
    for line in page.splitlines():
        match = _SAMPLE.match(line)
        if match and match["name"].startswith(_PREFIX):
            labels = frozenset(_LABEL.findall(match["labels"] or ""))
            samples[match["name"], labels] = float(match["value"])
    return samples


def total(samples: Samples, name: str, **labels: str) -> float:
    """Sum of a family over all samples that carry these labels; 0 when there is none."""
    wanted = set(labels.items())
    return sum(value for (sample, carried), value in samples.items() if sample == name and wanted <= carried)
