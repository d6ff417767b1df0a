"""The stream beneath the SSH connection: a TCP socket, or a ProxyCommand.

Sockets are made here and not by paramiko, which sets neither a time limit nor TCP_NODELAY
(without it every command waits for a delayed acknowledgement).  Knows nothing of SSH.
"""

from __future__ import annotations

import os
import queue
import socket
import subprocess
import tempfile
import threading
from dataclasses import dataclass
from typing import Any

from ..deadline import Deadline
from ..errors import (
    ConnectTimedOut,
    HostNameUnknown,
    HostUnreachable,
    SshFailed,
    UnsupportedSshConfig,
)
from .target import Target

__all__ = ["Address", "Proxy", "dial", "resolve", "start_proxy"]

# So that one address that swallows packets does not use up the time of the others.
ONE_ADDRESS_SECONDS = 10.0

# Where the caller sets no limit; the resolver's own is about this long.
RESOLVE_SECONDS = 30.0

# A proxy that does not end by itself once its input is closed is ended.
PROXY_END_SECONDS = 1.0

# What is shown of a proxy's complaints.
PROXY_NOISE_BYTES = 2000

_FAMILIES = {"any": socket.AF_UNSPEC, "inet": socket.AF_INET, "inet6": socket.AF_INET6}


@dataclass(frozen=True)
class Address:
    """One of a host's addresses, as the resolver gives it."""

    family: int
    place: tuple[Any, ...]

    def __str__(self) -> str:
        return str(self.place[0])


def resolve(target: Target, deadline: Deadline) -> list[Address]:
    """All addresses of the host, in the resolver's order.  Raises HostNameUnknown."""
    answers: queue.Queue[list[Address] | Exception] = queue.Queue()
    # The resolver takes no limit, and silent name servers cost it half a minute.
    threading.Thread(
        target=_look_up, args=(target, answers), name="ssh-resolve", daemon=True
    ).start()
    try:
        answer = answers.get(timeout=deadline.at_most(RESOLVE_SECONDS))
    except queue.Empty:
        answer = TimeoutError("no name server answers in time")
    if isinstance(answer, list):
        return answer
    # UnicodeError: a label that is empty or too long to be a name at all.
    why = "not a host name" if isinstance(answer, UnicodeError) else str(answer)
    if isinstance(answer, socket.gaierror):
        why = answer.strerror or why
    raise HostNameUnknown(
        f"the name {target.hostname!r} has no address: {why}",
        host=target.destination,
        step="resolve",
    ) from answer


def _look_up(target: Target, answers: queue.Queue[list[Address] | Exception]) -> None:
    family = _FAMILIES.get(target.address_family, socket.AF_UNSPEC)
    try:
        found = socket.getaddrinfo(target.hostname, target.port, family, socket.SOCK_STREAM)
        answers.put([Address(entry[0], entry[4]) for entry in found])
    except (OSError, UnicodeError) as error:
        answers.put(error)


def dial(target: Target, addresses: list[Address], deadline: Deadline) -> socket.socket:
    """A TCP connection to the first address that answers.

    Raises ConnectTimedOut when none did in time, HostUnreachable when all refused.
    """
    complaints: list[str] = []
    is_silent = False
    for address in addresses:
        if deadline.is_over:
            is_silent = True
            break
        try:
            return _dial_one(target, address, deadline.at_most(ONE_ADDRESS_SECONDS))
        except OSError as error:
            # Before Python 3.10 socket.timeout is not TimeoutError.
            is_silent |= isinstance(error, (socket.timeout, TimeoutError))
            complaints.append(f"{address}: {error.strerror or error}")
    what = f"no TCP connection to port {target.port} ({'; '.join(complaints) or 'no time left'})"
    kind = ConnectTimedOut if is_silent else HostUnreachable
    raise kind(what, host=target.destination, step="connect")


def _dial_one(target: Target, address: Address, seconds: float) -> socket.socket:
    connection = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if target.bind_address is not None:
            connection.bind((target.bind_address, 0))
        connection.settimeout(seconds)
        connection.connect(address.place)
    except BaseException:
        connection.close()
        raise
    return connection


class Proxy:
    """A running ProxyCommand: `socket` is our end of its standard input and output."""

    def __init__(self, command: str, host: str, shell: str = "/bin/sh") -> None:
        if os.name == "nt":
            raise UnsupportedSshConfig("ProxyCommand needs a Unix", host=host, step="connect")
        self._noise = tempfile.TemporaryFile()  # noqa: SIM115 -- close() closes it
        self.socket, far_end = socket.socketpair()
        with far_end:
            self._process = subprocess.Popen(
                # As ssh: the user's shell, of which nothing is left between us and the proxy.
                [shell, "-c", f"exec {command}"],
                stdin=far_end.fileno(),
                stdout=far_end.fileno(),
                stderr=self._noise,
            )

    @property
    def noise(self) -> str:
        """The end of what it said on standard error."""
        self._noise.seek(0)
        return self._noise.read()[-PROXY_NOISE_BYTES:].decode("utf-8", "replace").strip()

    def close(self) -> None:
        """Ends the proxy and waits for it, so that no zombie stays."""
        self.socket.close()
        try:
            self._process.wait(PROXY_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._noise.close()


def start_proxy(target: Target) -> Proxy:
    """Runs the ProxyCommand of the target.  Whether it gets anywhere shows at the handshake."""
    assert target.proxy_command is not None
    try:
        return Proxy(target.proxy_command, target.destination, target.shell)
    except OSError as error:
        raise SshFailed(
            f"the ProxyCommand cannot be run: {error.strerror}",
            host=target.destination,
            step="connect",
        ) from error
