"""Choose free ports on the loopback address, and say clearly when an asked-for port is taken."""

from __future__ import annotations

import errno
import socket
from contextlib import ExitStack

from bwdeploy.errors import HostError
from bwdeploy.tools.triton_request import LOOPBACK, Ports

_LARGEST_PORT = 65535


def choose_ports(*, http: int | None, grpc: int | None, metrics: int | None) -> Ports:
    """Three different free ports; those given are checked and kept.

    Raises:
        HostError: a given port is taken, not allowed, or given twice.
    """
    asked = {"HTTP": http, "gRPC": grpc, "metrics": metrics}
    chosen: list[int] = []
    with ExitStack() as held:  # all three stay bound until the last is chosen, so that they differ
        for purpose, port in asked.items():
            listener = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            _bind(listener, port=port, purpose=purpose)
            chosen.append(listener.getsockname()[1])
    return Ports(http=chosen[0], grpc=chosen[1], metrics=chosen[2])


def _bind(listener: socket.socket, *, port: int | None, purpose: str) -> None:
    if port is not None and not 1 <= port <= _LARGEST_PORT:
        raise HostError(f"{purpose} port {port} does not exist.", hint=f"Name one from 1 to {_LARGEST_PORT}.")
    try:
        listener.bind((LOOPBACK, port or 0))
        listener.listen(1)
    except OSError as error:
        raise HostError(
            f"{purpose} port {port} on {LOOPBACK} cannot be used: {_reason(error)}.",
            hint="Name another port, or none to let a free one be chosen.",
        ) from error


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another process listens there"
    return error.strerror or str(error)
