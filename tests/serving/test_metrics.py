from __future__ import annotations

import pytest

from bwdeploy.errors import ToolError
from bwdeploy.serving.client import Endpoint
from bwdeploy.serving.metrics import parse_samples, read_counts, total, wait_for_finished

PAGE = """
# HELP bwdeploy_finished_requests_total Requests by the reason of their end
# TYPE bwdeploy_finished_requests_total counter
bwdeploy_finished_requests_total{model="a",reason="stop",version="1"} 3.000000
bwdeploy_finished_requests_total{model="a",reason="length",version="1"} 2
bwdeploy_finished_requests_total{model="b \\"quoted\\"",reason="stop",version="1"} 7
nv_inference_count{model="a",version="1"} 99
nonsense
"""


def test_families_are_summed_over_the_labels_that_are_left_open() -> None:
    samples = parse_samples(PAGE)
    name = "bwdeploy_finished_requests_total"
    assert total(samples, name) == 12
    assert total(samples, name, model="a") == 5
    assert total(samples, name, model="a", reason="length") == 2
    assert total(samples, name, model="c") == 0


def test_only_our_own_families_are_read() -> None:
    assert {name for name, _ in parse_samples(PAGE)} == {"bwdeploy_finished_requests_total"}


def test_waiting_ends_when_nothing_comes(echo: Endpoint) -> None:
    before = read_counts(echo)
    assert wait_for_finished(echo, before, requests=5, timeout_s=0.1) == before


def test_a_closed_port_is_an_error() -> None:
    nobody = Endpoint(http="127.0.0.1:9", grpc="127.0.0.1:9", metrics="127.0.0.1:9", model="echo")
    with pytest.raises(ToolError, match=r"metrics at 127\.0\.0\.1:9 cannot be read"):
        read_counts(nobody)
