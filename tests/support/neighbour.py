"""A second user of the head, who tries what a login node lets anybody try."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .head_python import run_as
from .users import User

__all__ = ["Neighbour", "watched_processes"]

# A peer of its own: what became of its handshake, and whether anybody answered.
_ZMQ_CLIENT = """
import json, sys
import zmq
from zmq.utils.monitor import parse_monitor_message
wish = json.loads(sys.argv[1])
socket = zmq.Context.instance().socket(zmq.DEALER)
socket.linger = 0
if wish["server_key"]:
    public, secret = zmq.curve_keypair()
    socket.curve_publickey = wish["client_key"].encode() or public
    socket.curve_secretkey = wish["client_secret"].encode() or secret
    socket.curve_serverkey = wish["server_key"].encode()
monitor = socket.get_monitor_socket()
socket.connect(wish["endpoint"])
for frames in wish["messages"]:
    socket.send_multipart([frame.encode() for frame in frames])
names = {value: name for name, value in vars(zmq).items() if name.startswith("EVENT_")}
seen, answer = [], False
for _ in range(200):
    if socket.poll(10):
        answer = True
        break
    while monitor.poll(0):
        seen.append(names.get(parse_monitor_message(monitor.recv_multipart())["event"]))
    if any("HANDSHAKE" in name or "DISCONNECTED" in name for name in seen):
        break
print(json.dumps({"events": seen, "answered": answer or socket.poll(200) != 0}))
"""

_UNIX_CLIENT = """
import socket, sys
with socket.socket(socket.AF_UNIX) as end:
    end.settimeout(5)
    try:
        end.connect(sys.argv[1])
        end.sendall(b"hello")
        print("came in:", end.recv(100) or "and was cut")
    except OSError as refused:
        print("refused:", type(refused).__name__)
"""


class Neighbour:
    """Acts as `user`, with the head's Python."""

    def __init__(self, user: User, python: str, zmq_directory: str) -> None:
        self.user = user
        self._python = python
        self._environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
        if zmq_directory:
            self._environment["PYTHONPATH"] = zmq_directory

    def says(self, *command: str) -> str:
        """Both streams of a command."""
        done = run_as(self.user, list(command), env=self._environment)
        return done.stdout + done.stderr

    def can(self, *command: str) -> bool:
        """Whether a command succeeds."""
        return run_as(self.user, list(command), env=self._environment).returncode == 0

    def dial_zmq(
        self,
        endpoint: str,
        *,
        server_key: str = "",
        client_key: str = "",
        client_secret: str = "",
        messages: list[list[str]],
    ) -> dict[str, Any]:
        """What became of a handshake; without `server_key` in plain text."""
        wish = {
            "endpoint": endpoint,
            "server_key": server_key,
            "client_key": client_key,
            "client_secret": client_secret,
            "messages": messages,
        }
        said = self.says(self._python, "-c", _ZMQ_CLIENT, json.dumps(wish))
        found: dict[str, Any] = json.loads(said)
        return found

    def dial_unix(self, path: str) -> str:
        """What became of a connection to a unix socket."""
        return self.says(self._python, "-c", _UNIX_CLIENT, path)


@contextmanager
def watched_processes() -> Iterator[set[bytes]]:
    """Every command line that `ps` could have shown in the meantime."""
    seen: set[bytes] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            for file in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    seen.add(file.read_bytes())
                except OSError:
                    continue

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join(10)
