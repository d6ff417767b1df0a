"""One port of the host, reachable here: sshtunnel's forwarder over our connection.

sshtunnel would make a connection of its own, check no host key and listen on all addresses;
so it gets the transport that is logged in already, and a unix socket in a directory that
only the user can enter.  It calls a tunnel up whatever the host thinks of it: whether the
site permits forwarding is found out first, by opening one channel, which is then that of the
first connection.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import socket
import threading
import time
from typing import Any

import sshtunnel

from ..deadline import Deadline
from ..errors import ForwardingRefused, NobodyListening, SshFailed
from .library import paramiko
from .pump import Pump
from .socket_directory import socket_directory
from .transport import BROKEN

__all__ = ["Tunnel"]

HAS_UNIX_SOCKETS = hasattr(socket, "AF_UNIX")

# Connections that arrive in one moment; a unix socket refuses those beyond at once, and
# socketserver would let five wait.
BACKLOG = 128

# Long enough for a busy host; a firewall that swallows packets takes minutes.
PROOF_SECONDS = 15.0

# A server hangs up on who says nothing: the channel of the proof is used soon, or not at all.
PROVEN_SECONDS = 1.0

_logger = logging.getLogger("smartsim_bridge.ssh.tunnel")
# sshtunnel adds handlers of its own, also to paramiko's logger, where it finds none.
_logger.addHandler(logging.NullHandler())
# It warns at each stop that its transport is not there; we took it away, see `end`.
_logger.setLevel(logging.ERROR)
_failures = logging.getLogger("smartsim_bridge.ssh")


class Tunnel:
    """A local endpoint whose connections end at `host:port` as seen from the SSH host.

    Starts in the constructor.  Raises ForwardingRefused when the site forbids it,
    NobodyListening when the port does not answer, SshFailed when the connection is broken;
    nothing stays behind then.
    """

    def __init__(
        self,
        transport: paramiko.Transport,
        host: str,
        port: int,
        *,
        directory: str,
        via: str,
        deadline: Deadline,
    ) -> None:
        self._remote = (host, port)
        self._via = via
        self._lock = threading.Lock()
        self._is_closed = False
        way = _Way(transport, _prove(transport, self._remote, via, deadline))
        try:
            self._directory = socket_directory(directory) if HAS_UNIX_SOCKETS else None
        except SshFailed:
            way.close()
            raise
        bind = ("127.0.0.1", 0) if self._directory is None else f"{self._directory}/t"
        self._forwarder = _Forwarder(transport, way, self._remote, bind)
        try:
            self._forwarder.start()
            self.endpoint = _endpoint(self._forwarder.local_bind_addresses[0])
        # sshtunnel's own exception says nothing that the reason behind it would not say better.
        except (sshtunnel.BaseSSHTunnelForwarderError, OSError) as error:
            self.close()
            raise SshFailed(
                f"the tunnel could not be set up: {error}", host=via, step="tunnel"
            ) from error

    @property
    def is_alive(self) -> bool:
        """Whether new connections can pass."""
        return not self._is_closed and bool(self._forwarder.is_active)

    def close(self) -> None:
        """Cuts what passes through it, and removes the socket; the SSH connection stays."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        self._forwarder.end()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "open" if self.is_alive else "broken"
        return f"<Tunnel {self._remote[0]}:{self._remote[1]} via {self._via}, {state}>"


class _Way:
    """Gives each connection its channel, as sshtunnel asks for it; the first one the proven."""

    def __init__(self, transport: paramiko.Transport, proven: paramiko.Channel) -> None:
        self._transport = transport
        self._lock = threading.Lock()
        self._proven: paramiko.Channel | None = proven
        self._spoilt_at = time.monotonic() + PROVEN_SECONDS

    def open_channel(self, **place: Any) -> paramiko.Channel:
        """What paramiko's does, and raises."""
        with self._lock:
            proven, self._proven = self._proven, None
        if proven is None:
            return self._transport.open_channel(**place)
        if time.monotonic() < self._spoilt_at and not (proven.closed or proven.eof_received):
            return proven
        proven.close()
        return self._transport.open_channel(**place)

    def close(self) -> None:
        """Ends the proven channel, if nobody has taken it."""
        with self._lock:
            proven, self._proven = self._proven, None
        if proven is not None:
            with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
                proven.close()


class _Forwarder(sshtunnel.SSHTunnelForwarder):  # type: ignore[misc]  # it has no types
    """sshtunnel's forwarder with a transport that is not its own."""

    def __init__(
        self,
        transport: paramiko.Transport,
        way: _Way,
        remote: tuple[str, int],
        bind: str | tuple[str, int],
    ) -> None:
        self._shared = transport
        self._way = way
        self._pumps: set[Pump] = set()
        self._pumps_lock = threading.Lock()
        super().__init__(
            # It connects to none of these: see _connect_to_gateway.
            ("127.0.0.1", 22),
            ssh_username="-",
            ssh_password="-",  # noqa: S106
            ssh_config_file=None,
            allow_agent=False,
            host_pkey_directories=[],
            remote_bind_address=remote,
            local_bind_address=bind,
            logger=_logger,
        )
        # Its check of a good tunnel takes 11 s, and is no check: ours came first.
        self.skip_tunnel_checkup = True

    def _connect_to_gateway(self) -> None:
        self._transport = self._shared

    def _make_ssh_forward_handler_class(self, remote: tuple[str, int]) -> Any:
        forwarder = self

        class Handler(super()._make_ssh_forward_handler_class(remote)):  # type: ignore[misc]
            """Carries one connection with our pump: theirs has one thread and uses select()."""

            ssh_transport = forwarder._way

            def _redirect(self, channel: paramiko.Channel) -> None:
                # The copy outlives the handler, which closes its own.
                pump = Pump(self.request.dup(), channel)
                with forwarder._tracked(pump):
                    pump.start()
                    pump.wait()

        return Handler

    def _make_ssh_forward_server_class(self, remote: tuple[str, int]) -> Any:
        return _listener_class(super()._make_ssh_forward_server_class(remote))

    def _make_stream_ssh_forward_server_class(self, remote: tuple[str, int]) -> Any:
        return _listener_class(super()._make_stream_ssh_forward_server_class(remote))

    @contextlib.contextmanager
    def _tracked(self, pump: Pump) -> Any:
        with self._pumps_lock:
            self._pumps.add(pump)
        try:
            yield
        finally:
            with self._pumps_lock:
                self._pumps.discard(pump)

    def end(self) -> None:
        """Stops listening and cuts the connections, without closing the shared transport."""
        # What is not there cannot be closed: stop() and __del__ both look.
        self.__dict__.pop("_transport", None)
        self.stop()
        self._way.close()
        with self._pumps_lock:
            pumps = list(self._pumps)
        for pump in pumps:
            pump.close()

    def __repr__(self) -> str:
        # Theirs shows the password; even ours, which is none, looks bad in a traceback.
        return f"<forwarder to {self._remote_binds}>"

    __str__ = __repr__


def _listener_class(theirs: Any) -> Any:
    class Listener(theirs):  # type: ignore[misc]
        """Takes many connections at once, and keeps failures out of the user's terminal."""

        request_queue_size = BACKLOG

        def __init__(self, *arguments: Any, **keywords: Any) -> None:
            self._turn = threading.Lock()
            self._is_served = self._is_over = False
            super().__init__(*arguments, **keywords)

        def serve_forever(self, poll_interval: float = 0.5) -> None:
            with self._turn:
                if self._is_over:
                    return
                self._is_served = True
            super().serve_forever(poll_interval)

        def shutdown(self) -> None:
            # Theirs waits for the end of what never began, where the connection broke before.
            with self._turn:
                self._is_over = True
            if self._is_served:
                super().shutdown()

        def handle_error(self, _request: Any, _client: Any) -> None:
            # The connection is closed, which is all its client can be told.
            _failures.debug("a connection found no way through the tunnel", exc_info=True)

    return Listener


def _prove(
    transport: paramiko.Transport, remote: tuple[str, int], via: str, deadline: Deadline
) -> paramiko.Channel:
    """Opens one channel to the port: an sshd that forbids forwarding says so only at the first
    connection."""
    place = f"{remote[0]}:{remote[1]}"
    try:
        return transport.open_channel(
            "direct-tcpip", remote, ("127.0.0.1", 0), timeout=deadline.at_most(PROOF_SECONDS)
        )
    except paramiko.ChannelException as error:
        if error.code == paramiko.common.OPEN_FAILED_CONNECT_FAILED:
            raise NobodyListening(
                f"nobody listens on {place} of the host: {error.text}", host=via, step="tunnel"
            ) from error
        raise ForwardingRefused(
            f"the host refuses to forward {place}: {error.text}", host=via, step="tunnel"
        ) from error
    except BROKEN as error:
        raise SshFailed(
            f"no channel to {place}: {str(error) or 'the connection ended'}",
            host=via,
            step="tunnel",
        ) from error


def _endpoint(bound: str | tuple[str, int]) -> str:
    return f"ipc://{bound}" if isinstance(bound, str) else f"tcp://127.0.0.1:{bound[1]}"
