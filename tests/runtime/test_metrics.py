from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

from bwdeploy_runtime.stub.metrics import Metrics

THREADS = 4


class Server:
    """Triton's side of custom metrics; it survives one exchange at a time."""

    def __init__(self) -> None:
        self._talking = threading.Lock()
        self.crashed = False
        self.counts: dict[str, float] = {}

    def exchange(self, name: str, value: float) -> None:
        if not self._talking.acquire(blocking=False):
            self.crashed = True
            return
        time.sleep(0.0005)
        self.counts[name] = self.counts.get(name, 0) + value
        self._talking.release()


def pb_utils_of(server: Server) -> SimpleNamespace:
    class MetricFamily:
        COUNTER = GAUGE = HISTOGRAM = None

        def __init__(self, name: str, description: str, kind: Any) -> None:
            self.name = name

        def Metric(self, labels: dict[str, str], **_buckets: Any) -> SimpleNamespace:  # noqa: N802 - Triton's
            key = f"{self.name}/{labels.get('reason', '')}"
            server.exchange(key, 0)
            return SimpleNamespace(
                increment=lambda by: server.exchange(key, by),
                set=lambda _value: server.exchange(key, 0),
                observe=lambda _value: server.exchange(key, 1),
            )

    return SimpleNamespace(MetricFamily=MetricFamily)


def test_threads_talk_to_the_server_about_metrics_one_at_a_time() -> None:
    server = Server()
    metrics = Metrics(pb_utils_of(server), model="m", version="1", device="cpu", kernel_ops=())

    def serve(thread: int) -> None:
        for number in range(10):
            metrics.finished("unavailable", tokens=2, times={})
            metrics.update(in_flight=thread, queued=number, restarts=0, kernel_calls={})

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(serve, range(THREADS)))
    assert not server.crashed
    assert server.counts["bwdeploy_finished_requests_total/unavailable"] == 10 * THREADS
    assert server.counts["bwdeploy_output_tokens_total/"] == 20 * THREADS
