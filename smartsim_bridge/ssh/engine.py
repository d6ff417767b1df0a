"""What both engines offer: paramiko's `SshConnection`, and `OpensshConnection` on the system's ssh.

The rooms above are written against these shapes and load neither engine for them.  Knows
no library; imports nothing that would cost a direct link its start.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, TypeVar

from ..deadline import Deadline

__all__ = [
    "KERBEROS",
    "KERBEROS_ADVICE",
    "OVER_MASTER",
    "Completed",
    "Connection",
    "Destination",
    "Forward",
    "Kept",
    "Pipe",
]

C = TypeVar("C", bound="Connection")


# What `login` says of one that was there before us, and stays when we close.
OVER_MASTER = "over your ControlMaster"

# What hosts call it, and what is said where one that takes it refused the rest.
KERBEROS = "gssapi-with-mic"
KERBEROS_ADVICE = (
    'The host takes Kerberos, too: get a ticket with kinit; ssh="openssh" logs in with it where '
    "ssh_config has GSSAPIAuthentication yes."
)


@dataclass(frozen=True)
class Completed:
    """How a command ended; `status` is None where nobody said, as after a signal."""

    status: int | None
    stdout: bytes = field(repr=False)
    stderr: bytes = field(repr=False)


class Kept:
    """Collects a stream up to a limit; what is beyond is dropped."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._data = bytearray()

    def add(self, data: bytes) -> None:
        """Keeps what there is room for."""
        room = self._limit - len(self._data)
        self._data += data[: max(room, 0)]

    def __bytes__(self) -> bytes:
        return bytes(self._data)


class Destination(Protocol):
    """Whom a connection leads to."""

    @property
    def spelled(self) -> str:
        """As the user wrote it."""

    @property
    def names(self) -> tuple[str, ...]:
        """What it is called: by the user, and by ssh_config."""

    @property
    def hostname(self) -> str:
        """The name to connect to."""

    @property
    def port(self) -> int:
        """Of its sshd."""

    @property
    def destination(self) -> str:
        """`user@host:port`, an IPv6 address in brackets."""


class Pipe(Protocol):
    """A running command whose standard input and output are the local socket `socket`."""

    @property
    def socket(self) -> socket.socket:
        """Both directions; at its end when the command has ended."""

    @property
    def noise(self) -> str:
        """What it said on standard error so far, up to a limit; all of it at its end."""

    @property
    def status(self) -> int | None:
        """The exit status, once the command ended and the host said so."""

    def wait(self) -> None:
        """Until the command ended, or the pipe was closed."""

    def close(self) -> None:
        """Ends the pipe; the command sees its input end."""


class Forward(Protocol):
    """A local endpoint whose connections end at a port of the host."""

    endpoint: str

    @property
    def is_alive(self) -> bool:
        """Whether new connections can pass."""

    def close(self) -> None:
        """Takes no more connections, and removes the local end."""


class Connection(Protocol):
    """One login at a host, for all that needs one.  Its methods may be called from any thread."""

    #: How the login was done: "publickey /home/me/.ssh/id_ed25519, password".
    login: str
    #: The ways to log in that the host offered at first, where the engine knows them.
    offered: tuple[str, ...]

    @property
    def target(self) -> Destination:
        """The host this leads to."""

    @property
    def is_alive(self) -> bool:
        """Whether it is open as far as we know; a peer that froze is not noticed."""

    def answers(self, deadline: Deadline) -> bool:
        """Whether the host is still there at the other end, asked of it."""

    def execute(self, command: str, *, stdin: bytes = b"", deadline: Deadline) -> Completed:
        """Runs a command in the user's login shell, to its end.  Raises SshFailed."""

    def open_stdio(self, command: str, *, deadline: Deadline | None = None) -> Pipe:
        """Starts a command and offers its standard input and output.

        Only the start has a `deadline`.  Raises SshFailed.
        """

    def forward(self, host: str, port: int, *, directory: str, deadline: Deadline) -> Forward:
        """A local endpoint for `host:port` as the SSH host sees it.

        Raises ForwardingRefused, NobodyListening or SshFailed; nothing stays behind then.
        """

    def close(self) -> None:
        """Ends what is ours of it, and all that uses it.  More than once does no harm."""

    def __enter__(self: C) -> C: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...
