from __future__ import annotations

import socket

import pytest

from bwdeploy.errors import HostError
from bwdeploy.tools.free_ports import choose_ports


def test_three_different_ports_are_chosen_and_free() -> None:
    ports = choose_ports(http=None, grpc=None, metrics=None)
    assert len({ports.http, ports.grpc, ports.metrics}) == 3
    for port in (ports.http, ports.grpc, ports.metrics):
        socket.create_server(("127.0.0.1", port)).close()


def test_the_same_port_twice_is_refused() -> None:
    free = choose_ports(http=None, grpc=None, metrics=None).http
    with pytest.raises(HostError, match=f"gRPC port {free} "):
        choose_ports(http=free, grpc=free, metrics=None)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_that_does_not_exist_is_refused(port: int) -> None:
    with pytest.raises(HostError, match=f"metrics port {port} does not exist"):
        choose_ports(http=None, grpc=None, metrics=port)
