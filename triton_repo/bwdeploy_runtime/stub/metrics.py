"""The model's own metric families, which Triton serves on its metrics port.

Triton's core metrics count a decoupled model wrongly (failures as success, durations of execute() only),
hence these. A call costs an exchange with the server process (about 0.1 ms), so counters and histograms
are touched once per finished request and gauges once per housekeeping period.

Only one thread talks to the server about metrics at a time. Requests end in several threads, and two such
exchanges at once crash the server (seen with Triton 2.51: signal 11 in the Python backend).
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bwdeploy_runtime.stub.triton_types import Metric, MetricFamily, PbUtils

_FIRST_TOKEN_BUCKETS_S = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]
_INTER_TOKEN_BUCKETS_S = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0]


class Metrics:
    """Families of one model; `pb_utils` is Triton's module, passed in. Thread-safe."""

    def __init__(
        self,
        pb_utils: PbUtils,
        *,
        model: str,
        version: str,
        device: str,
        kernel_ops: Sequence[str],
    ) -> None:
        """`device`, cuda or cpu, is where the ops of the kernel pack run: on a CPU their references do."""
        self._one_at_a_time = threading.Lock()
        self._labels = {"model": model, "version": version}
        self._kinds = pb_utils.MetricFamily
        self._families: list[
            MetricFamily
        ] = []  # Triton deletes a family, and with it its metrics, that nobody holds
        self._in_flight = self._gauge("bwdeploy_in_flight_requests", "Requests in the engine")
        self._queued = self._gauge("bwdeploy_queued_requests", "Requests waiting for a place in the engine")
        self._tokens = self._counter("bwdeploy_output_tokens_total", "Tokens sent to clients")
        self._restarts = self._counter(
            "bwdeploy_engine_restarts_total", "Engine processes lost and restarted"
        )
        self._finished = self._new_family(
            "bwdeploy_finished_requests_total", "Requests by the reason of their end", self._kinds.COUNTER
        )
        self._by_reason: dict[str, Metric] = {}
        self._first_token = self._histogram(
            "bwdeploy_time_to_first_token_seconds",
            "From the request's arrival in the model to its first token",
            _FIRST_TOKEN_BUCKETS_S,
        )
        self._inter_token = self._histogram(
            "bwdeploy_inter_token_seconds",
            "Mean time between the tokens of an answer; one observation per answer",
            _INTER_TOKEN_BUCKETS_S,
        )
        self._kernel_calls = self._by_op(
            "bwdeploy_kernel_calls_total", "Runs of an op of the kernel pack", kernel_ops, device
        )
        self._last_gauges = (0, 0)
        self._known_restarts = 0
        self._known_calls = dict.fromkeys(kernel_ops, 0)

    def update(self, *, in_flight: int, queued: int, restarts: int, kernel_calls: Mapping[str, int]) -> None:
        """Housekeeping: the current state of the link."""
        with self._one_at_a_time:
            self._update(in_flight, queued, restarts, kernel_calls)

    def finished(self, reason: str, *, tokens: int, times: dict[str, float]) -> None:
        """A request has ended; `times` by names of tensors.PERFORMANCE_OUTPUTS, in ns."""
        with self._one_at_a_time:
            self._finish(reason, tokens, times)

    def _update(self, in_flight: int, queued: int, restarts: int, kernel_calls: Mapping[str, int]) -> None:
        if (in_flight, queued) != self._last_gauges:
            self._last_gauges = (in_flight, queued)
            self._in_flight.set(in_flight)
            self._queued.set(queued)
        if restarts > self._known_restarts:
            self._restarts.increment(restarts - self._known_restarts)
            self._known_restarts = restarts
        for op, metric in self._kernel_calls.items():
            calls = kernel_calls.get(op, 0)
            if calls > self._known_calls[op]:
                metric.increment(calls - self._known_calls[op])
                self._known_calls[op] = calls

    def _finish(self, reason: str, tokens: int, times: dict[str, float]) -> None:
        if reason not in self._by_reason:
            self._by_reason[reason] = self._finished.Metric(labels=self._labels | {"reason": reason})
        self._by_reason[reason].increment(1)
        if tokens:
            self._tokens.increment(tokens)
        first_ns = times.get("first_token_time_ns")
        if first_ns is None:
            return
        self._first_token.observe((first_ns - times["arrival_time_ns"]) / 1e9)
        if tokens > 1:
            self._inter_token.observe((times["last_token_time_ns"] - first_ns) / 1e9 / (tokens - 1))

    def _gauge(self, name: str, description: str) -> Metric:
        return self._new_family(name, description, self._kinds.GAUGE).Metric(labels=self._labels)

    def _counter(self, name: str, description: str) -> Metric:
        return self._new_family(name, description, self._kinds.COUNTER).Metric(labels=self._labels)

    def _by_op(self, name: str, description: str, ops: Sequence[str], device: str) -> dict[str, Metric]:
        """A counter for each op, there from the start: one that stays 0 must be seen."""
        if not ops:
            return {}
        family = self._new_family(name, description, self._kinds.COUNTER)
        return {op: family.Metric(labels=self._labels | {"op": op, "device": device}) for op in ops}

    def _histogram(self, name: str, description: str, buckets: list[float]) -> Metric:
        family = self._new_family(name, description, self._kinds.HISTOGRAM)
        return family.Metric(labels=self._labels, buckets=buckets)

    def _new_family(self, name: str, description: str, kind: object) -> MetricFamily:
        self._families.append(self._kinds(name=name, description=description, kind=kind))
        return self._families[-1]
