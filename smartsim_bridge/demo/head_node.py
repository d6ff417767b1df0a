"""The embedded head node: an SSH server on loopback, for the demo and for tests.

Run as `python -m smartsim_bridge.demo.head_node DIRECTORY`, by `embedded`, which puts the
keys into the directory and keeps our stdin open.  Prints `READY PORT` once it listens.
Ends on SIGTERM, and when its stdin ends: a parent that dies takes it along.  Before it
ends, it prints `LEFT PID COMMAND` for each process that sessions left and it had to end.

What it can: one user, one public key, exec requests, direct-tcpip to loopback.  No
passwords, terminals, shells, subsystems, agents or other addresses.  Not a server for
anything but a demonstration, and it knows nothing of the bridge.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from pathlib import Path

import paramiko
from paramiko.common import (
    AUTH_FAILED,
    AUTH_SUCCESSFUL,
    MSG_CHANNEL_REQUEST,
    OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED,
    OPEN_SUCCEEDED,
)

from .children import Children, adopt_orphans
from .forward import Forward, connect_loopback
from .pump import start_thread
from .session import Session

__all__ = ["AUTHORIZED_KEY", "HOME", "HOST_KEY", "LEFT", "READY", "USER", "HeadNode", "main"]

USER = "demo"
HOST_KEY, AUTHORIZED_KEY, HOME = "host_key", "authorized_key", "home"  # in the directory
READY, LEFT = "READY", "LEFT"
ACCEPT_SECONDS = 1.0  # how soon the thread of a connection sees that it has ended
# Seconds for what still runs when we end: a busy machine needs some to end what is over.
GRACE, PATIENCE = 5.0, 2.0


class HeadNode:
    """Listens on a loopback port of the system's choice; one thread per connection."""

    def __init__(self, directory: Path) -> None:
        self.home = directory / HOME
        self.children = Children()
        self.host_key = paramiko.Ed25519Key.from_private_key_file(str(directory / HOST_KEY))
        self.authorized = (directory / AUTHORIZED_KEY).read_text().split()[1]
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]

    def serve(self) -> None:
        """Accepts until the listener is closed."""
        while True:
            try:
                sock, peer = self._listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            start_thread(f"connection {peer}", Connection(self, sock, peer).run)

    def close(self) -> tuple[str, ...]:
        """Stops listening and ends what runs; names what would not end by itself."""
        self._listener.close()
        return self.children.end_all(grace=GRACE, patience=PATIENCE)


class _Transport(paramiko.Transport):
    """Starts an exec only after the client was told that it may.

    paramiko asks `check_channel_exec_request` and sends the answer after it returns.  A
    command started in there may end, and its channel close, before that answer is sent;
    the client then reports a refusal.
    """

    def __init__(self, sock: socket.socket, connection: Connection) -> None:
        super().__init__(sock)

        def answer(channel: paramiko.Channel, message: paramiko.Message) -> None:
            channel._handle_request(message)  # type: ignore[attr-defined]
            connection.start_session(channel)

        self._channel_handler_table = {
            **paramiko.Transport._channel_handler_table,  # type: ignore[attr-defined]
            MSG_CHANNEL_REQUEST: answer,
        }


class Connection(paramiko.ServerInterface):
    """One client: says what it may do, and keeps what it opened.

    The check_ methods are called by the transport's thread, one at a time; `run` has its
    own thread.
    """

    def __init__(self, head: HeadNode, sock: socket.socket, peer: tuple[str, int]) -> None:
        self._head = head
        self._socket = sock
        self._peer = peer
        # paramiko holds channels weakly: one nobody keeps is closed before its first request.
        self._channels: dict[int, paramiko.Channel] = {}
        self._asked: dict[int, str] = {}
        self._forwards: dict[int, socket.socket] = {}

    def run(self) -> None:
        """Serves until the client has gone."""
        transport = _Transport(self._socket, self)
        transport.add_server_key(self._head.host_key)
        try:
            transport.start_server(server=self)
            while transport.is_active():
                channel = transport.accept(ACCEPT_SECONDS)
                if channel is not None:
                    self._keep(channel)
        except (paramiko.SSHException, EOFError, OSError) as error:
            logging.getLogger(__name__).info("connection %s: %s", self._peer, error)
        finally:
            transport.close()

    def start_session(self, channel: paramiko.Channel) -> None:
        """Runs what was asked for on this channel, if anything was."""
        command = self._asked.pop(channel.get_id(), None)
        if command is None:
            return
        session = Session(channel, command)
        env = self._environment()
        work = session.run
        start_thread("session", lambda: work(self._head.children, home=self._head.home, env=env))

    def _keep(self, channel: paramiko.Channel) -> None:
        number = channel.get_id()
        for gone in [old for old, kept in self._channels.items() if kept.closed]:
            del self._channels[gone]
        self._channels[number] = channel
        sock = self._forwards.pop(number, None)
        if sock is not None:
            start_thread("forward", Forward(channel, sock).run)

    def _environment(self) -> dict[str, str]:
        """Like sshd's, and nothing of ours: the parent may hold secrets.

        Our Python comes first on PATH, so that the head has one that can import pyzmq.
        """
        own = str(Path(sys.executable).parent)
        server = f"127.0.0.1 {self._head.port}"
        client = f"{self._peer[0]} {self._peer[1]}"
        return {
            "HOME": str(self._head.home),
            "USER": USER,
            "LOGNAME": USER,
            "SHELL": "/bin/sh",
            "PATH": f"{own}:/usr/local/bin:/usr/bin:/bin",
            "TMPDIR": str(self._head.home.parent / "tmp"),
            "SSH_CLIENT": f"{client} {self._head.port}",
            "SSH_CONNECTION": f"{client} {server}",
        }

    def get_allowed_auths(self, username: str) -> str:
        """Keys only."""
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        """The one user with the one key."""
        known = username == USER and key.get_base64() == self._head.authorized
        return AUTH_SUCCESSFUL if known else AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        """Sessions, as many as the client likes."""
        if kind == "session":
            return OPEN_SUCCEEDED
        return OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        """Noted here, started by `start_session` once the answer is out."""
        self._asked[channel.get_id()] = os.fsdecode(command)
        return True

    def check_channel_direct_tcpip_request(
        self, chanid: int, origin: tuple[str, int], destination: tuple[str, int]
    ) -> int:
        """Connects first, so that a refusal can say why."""
        connected = connect_loopback(*destination)
        if isinstance(connected, int):
            return connected
        self._forwards[chanid] = connected
        return OPEN_SUCCEEDED


def main(argv: list[str]) -> int:
    """Serves the directory named in `argv` until told to end."""
    (directory,) = argv
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends us
    adopt_orphans()
    head = HeadNode(Path(directory))
    start_thread("listener", head.serve)
    start_thread("parent", lambda: _watch_parent(over))
    print(READY, head.port, flush=True)
    over.wait()
    for left in head.close():
        print(LEFT, left, flush=True)
    return 0


def _watch_parent(over: threading.Event) -> None:
    """The parent holds the other end of our stdin, and says nothing on it."""
    sys.stdin.buffer.read()
    over.set()


if __name__ == "__main__":
    status = main(sys.argv[1:])
    # Threads still in paramiko or in a pipe must not hold up the end.
    sys.stdout.flush()
    os._exit(status)
