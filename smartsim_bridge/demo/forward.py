"""One forwarded connection (direct-tcpip): a channel on one side, a TCP socket on the other.

Loopback only: this head node must not become a way to anywhere else.
"""

from __future__ import annotations

import contextlib
import socket

import paramiko
from paramiko.common import (
    OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED,
    OPEN_FAILED_CONNECT_FAILED,
)

from .pump import pump, start_thread

__all__ = ["Forward", "connect_loopback"]

LOOPBACK = {"127.0.0.1": "127.0.0.1", "localhost": "127.0.0.1", "::1": "::1"}
CONNECT_SECONDS = 5.0  # loopback answers at once, or not at all


def connect_loopback(host: str, port: int) -> socket.socket | int:
    """The socket, or the SSH code for why there is none."""
    if host not in LOOPBACK:
        return OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
    try:
        sock = socket.create_connection((LOOPBACK[host], port), CONNECT_SECONDS)
    except (OSError, OverflowError):
        return OPEN_FAILED_CONNECT_FAILED
    sock.settimeout(None)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


class Forward:
    """Carries both directions until both have ended; half-closed connections stay so."""

    def __init__(self, channel: paramiko.Channel, sock: socket.socket) -> None:
        self._channel = channel
        self._socket = sock

    def run(self) -> None:
        """Blocking: in a thread of its own."""
        outward = start_thread("forward out", self._carry_out)
        try:
            pump(self._socket.recv, self._channel.sendall)
            with contextlib.suppress(OSError, EOFError):
                self._channel.shutdown_write()
            outward.join()
        finally:
            self._channel.close()
            self._socket.close()

    def _carry_out(self) -> None:
        pump(self._channel.recv, self._socket.sendall)
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
