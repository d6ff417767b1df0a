"""The one SSH connection to a host: reached, verified, logged in; it serves all the rest.

`SshConnection.open` goes through the stages resolve, connect, host key and authenticate
under one deadline, and reports each to the `Journey`.  Algorithms are what paramiko offers
less what is broken or weak, so a host that speaks nothing better is refused rather than
obliged; see `algorithms`.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from dataclasses import dataclass, field
from types import TracebackType
from typing import Union

from ..deadline import ONE_DAY, Deadline
from ..errors import ForwardingRefused, SshFailed
from ..stages import Journey
from .algorithms import disabled, offered
from .ask import Ask, printable
from .auth import authenticate
from .dialling import Proxy, dial, resolve, start_proxy
from .engine import Completed
from .execution import StdioPipe, answers, execute
from .host_keys import algorithms_in_order, verify
from .keys import Opened
from .library import paramiko
from .target import Target
from .transport import BROKEN, Transport
from .tunnel import Tunnel

__all__ = ["SshConnection"]

# Below the shortest idle limits of firewalls; paramiko asks for no answer to them.
KEEPALIVE_SECONDS = 30

# The start of a pipe, for callers without a deadline of their own.
PIPE_SECONDS = 30.0

# Event.wait takes no infinity.

# paramiko complains there in lines and tracebacks; the errors raised say it better, and
# without a handler Python would print it all into the user's terminal.
_LOG = "smartsim_bridge.ssh.paramiko"
logging.getLogger(_LOG).addHandler(logging.NullHandler())


_Stream = Union[socket.socket, paramiko.Channel]


class SshConnection:
    """A connection that is logged in.  Its methods may be called from any thread."""

    def __init__(
        self,
        target: Target,
        transport: Transport,
        login: str,
        beneath: contextlib.ExitStack,
    ) -> None:
        self.target = target
        #: How the login was done: "publickey /home/me/.ssh/id_ed25519, password".
        self.login = login
        #: The ways to log in that the host offered at first, where the engine knows them.
        self.offered = transport.offered
        self._transport = transport
        # Closed after the transport: the proxy, or the connection to the jump host.
        self._beneath = beneath
        self._lock = threading.Lock()
        self._is_closed = False

    @classmethod
    def open(
        cls,
        target: Target,
        *,
        ask: Ask | None,
        host_keys: str = "strict",
        deadline: Deadline,
        journey: Journey,
    ) -> SshConnection:
        """Connects, verifies the host, logs in.

        Raises HostUnreachable, HostKeyRefused, LoginFailed or SshFailed, each with host and
        step; nothing stays open then.
        """
        with contextlib.ExitStack() as beneath:
            way = _Way(beneath, ask, host_keys, deadline)
            stream = way.to(target, journey)
            return cls._over(stream, target, way, journey)
        raise AssertionError  # pragma: no cover -- the stack swallows nothing

    @classmethod
    def _over(cls, stream: _Stream, target: Target, way: _Way, journey: Journey) -> SshConnection:
        """Verifies and logs in over a stream that is there; both go down with the connection."""
        transport = Transport(stream, disabled_algorithms=disabled(target))
        way.beneath.callback(transport.close)
        transport.set_log_channel(_LOG)
        options = transport.get_security_options()
        options.key_types = algorithms_in_order(target, offered(target, "HostKeyAlgorithms"))
        ask = way.ask if target.may_ask else None
        with journey.stage("host key") as note:
            _exchange_keys(transport, target, way)
            key = transport.get_remote_server_key()
            note.detail = f"{key.get_name()} {verify(target, key, way.host_keys, ask)}"
        with journey.stage("authenticate") as note:
            note.detail = authenticate(transport, target, ask, way.deadline, way.opened_keys)
        transport.set_keepalive(KEEPALIVE_SECONDS)
        return cls(target, transport, note.detail, way.beneath.pop_all())

    @property
    def is_alive(self) -> bool:
        """Whether it is open as far as we know; a peer that froze is not noticed."""
        return not self._is_closed and self._transport.is_active()

    def answers(self, deadline: Deadline) -> bool:
        """Whether the host is still there at the other end, asked of it."""
        return self.is_alive and answers(self._transport, deadline)

    def execute(self, command: str, *, stdin: bytes = b"", deadline: Deadline) -> Completed:
        """Runs a command in the user's login shell, to its end.  Raises SshFailed."""
        return execute(self._transport, command, stdin, self._host, deadline)

    def open_stdio(self, command: str, *, deadline: Deadline | None = None) -> StdioPipe:
        """Starts a command, until `deadline`, and offers its standard input and output."""
        limit = (deadline or Deadline(None)).within(PIPE_SECONDS)
        return StdioPipe(self._transport, command, self._host, limit)

    def forward(self, host: str, port: int, *, directory: str, deadline: Deadline) -> Tunnel:
        """A local endpoint for `host:port` as the SSH host sees it; see `Tunnel`."""
        return Tunnel(
            self._transport, host, port, directory=directory, via=self._host, deadline=deadline
        )

    def open_channel(self, host: str, port: int, deadline: Deadline) -> paramiko.Channel:
        """A raw stream from the SSH host to `host:port`: how a jump host is passed."""
        try:
            return self._transport.open_channel(
                "direct-tcpip", (host, port), ("127.0.0.1", 0), timeout=deadline.at_most(3600.0)
            )
        except paramiko.ChannelException as error:
            kind = SshFailed if error.code == 2 else ForwardingRefused
            raise kind(
                f"the jump host cannot reach {host}:{port}: {error.text}",
                host=self._host,
                step="connect",
            ) from error
        except BROKEN as error:
            raise SshFailed(
                f"the jump host gave no way to {host}:{port}: {error}",
                host=self._host,
                step="connect",
            ) from error

    def close(self) -> None:
        """Ends the connection and all that uses it.  More than once does no harm."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        self._beneath.close()

    @property
    def _host(self) -> str:
        return self.target.destination

    def __enter__(self) -> SshConnection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "open" if self.is_alive else "closed" if self._is_closed else "broken"
        return f"<SshConnection {self._host}, {state}>"


@dataclass
class _Way:
    """How far we have come: what is open beneath, and the terms for all hosts passed."""

    beneath: contextlib.ExitStack
    ask: Ask | None
    host_keys: str
    deadline: Deadline
    proxy: Proxy | None = None
    opened_keys: Opened = field(default_factory=dict, repr=False)

    def to(self, target: Target, journey: Journey) -> _Stream:
        """A byte stream to the target's SSH port: direct, by proxy, or through jump hosts."""
        if target.hops:
            with journey.stage("resolve") as note:
                note.detail = "left to the jump host"
            with journey.stage("connect") as note:
                note.detail = "through " + ", ".join(hop.alias for hop in target.hops)
                return self._through(target)
        return self._first_leg(target, journey)

    def _first_leg(self, target: Target, journey: Journey) -> _Stream:
        if target.proxy_command is not None:
            with journey.stage("resolve") as note:
                note.detail = "left to the ProxyCommand"
            with journey.stage("connect") as note:
                self.proxy = start_proxy(target)
                self.beneath.callback(self.proxy.close)
                note.detail = "ProxyCommand"
                return self.proxy.socket
        with journey.stage("resolve") as note:
            addresses = resolve(target, self.deadline)
            note.detail = ", ".join(dict.fromkeys(map(str, addresses)))
        with journey.stage("connect") as note:
            stream = dial(target, addresses, self.deadline)
            self.beneath.callback(stream.close)
            note.detail = f"{stream.getpeername()[0]} port {target.port}"
            return stream

    def _through(self, target: Target) -> _Stream:
        """Logs in to each jump host in turn, over a channel of the one before."""
        first, *_ = target.hops
        stream = self._first_leg(first, Journey(first.alias))
        for hop, following in zip(target.hops, (*target.hops[1:], target)):
            connection = SshConnection._over(stream, hop, self, Journey(hop.alias))
            self.beneath.callback(connection.close)
            stream = connection.open_channel(following.hostname, following.port, self.deadline)
        return stream


def _exchange_keys(transport: paramiko.Transport, target: Target, way: _Way) -> None:
    """Agrees on keys, after which the host's own key is known but not yet trusted."""
    seconds = way.deadline.at_most(ONE_DAY)
    transport.banner_timeout = transport.handshake_timeout = max(seconds, 0.1)
    done = threading.Event()
    transport.start_client(event=done)
    is_done = done.wait(seconds)
    # After a failure its timer would go on, as a thread, up to the deadline.
    transport.packetizer.complete_handshake()
    if not is_done:
        raise _no_exchange("the host does not answer in time", target, way)
    error = transport.get_exception()
    if error is not None or not transport.is_active():
        raise _no_exchange(_why_no_exchange(error), target, way) from error


def _why_no_exchange(error: Exception | None) -> str:
    if isinstance(error, paramiko.ssh_exception.IncompatiblePeer):
        return f"the host speaks no algorithm that is safe: {error}"
    if error is not None and isinstance(error.__context__, socket.timeout):
        return "the host does not answer in time"  # paramiko's clock struck before ours
    if "banner" in str(error):
        return "what answers there does not speak SSH"
    return f"the host hung up: {str(error) or 'it closed the connection'}"


def _no_exchange(why: str, target: Target, way: _Way) -> SshFailed:
    if way.proxy is not None:
        why += f", by the ProxyCommand `{printable(target.proxy_command or '')}`"
        noise = printable(way.proxy.noise)
        why += f"; the ProxyCommand said: {noise}" if noise else ""
    return SshFailed(why, host=target.destination, step="host key")
