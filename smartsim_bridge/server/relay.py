"""stdin and stdout <-> the server's unix socket: the head's end of the stdio rung.

Runs on its own inside one SSH session, for sites that forbid forwarding; its arguments are
the socket's path and a nonce.  Prints one marked line when it is connected, so that
whatever the login shell printed before can be told from frames.  Blocking; knows bytes only.

The near half sends the text of this file by itself to a Python on the head, so it imports
nothing of ours: not even the twin of `_owner` in links.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import sys
from contextlib import suppress

__all__ = ["CONNECTED", "relay"]

CONNECTED = "SMARTSIM-BRIDGE-RELAY"
PIECE = 64 * 1024


def relay(path: str, nonce: str) -> int:
    """Copies both ways until either end closes; the exit status."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        server.connect(path)
    except OSError as refused:
        sys.stderr.write(f"smartsim-bridge: no server at {path}: {refused.strerror}\n")
        return 1
    uid = _owner(server)
    if uid not in (None, os.getuid()):
        sys.stderr.write(f"smartsim-bridge: the server at {path} belongs to uid {uid}\n")
        return 1
    with suppress(ConnectionError):  # either end may go at any time; that is how a relay ends
        _write(sys.stdout.fileno(), f"\n{CONNECTED} {nonce}\n".encode())
        _copy(server)
    return 0


def _owner(server: socket.socket) -> int | None:
    """Who serves the socket; None where the kernel cannot be asked."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return None
    _, uid, _ = struct.unpack("3i", server.getsockopt(socket.SOL_SOCKET, option, 12))
    return int(uid)


def _copy(server: socket.socket) -> None:
    stdin, stdout = sys.stdin.fileno(), sys.stdout.fileno()
    while True:
        ready, _, _ = select.select([stdin, server], [], [])
        if stdin in ready:
            data = os.read(stdin, PIECE)
            if not data:
                return
            server.sendall(data)
        if server in ready:
            data = server.recv(PIECE)
            if not data:
                return
            _write(stdout, data)


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


if __name__ == "__main__":
    sys.exit(relay(*sys.argv[1:]))
