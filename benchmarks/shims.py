"""Chapter: what a shim costs, from its start to its exit status, beside a bare interpreter.

The reception answers as soon as it is called, so what is measured is the shim alone: the
shell that starts it, the interpreter, its modules and a connection.  What the head and the
way there add is told by the other chapters.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from smartsim_bridge.shims import wire
from smartsim_bridge.shims.folder import make_folder

from .rounds import Contest, Parts, Turn, hold, stopwatch

__all__ = ["BARE", "SECONDS", "SHIM", "measure_shims"]

LIMIT = 60.0
SECONDS = "seconds"
BARE = "python -I -S -c pass"
SHIM = "a shim, answered at once"
OUTSIDE = "a shim without a session: the real command, `true`"


def measure_shims(count: int, chance: random.Random) -> Contest:
    """Each is a process of its own, started and waited for."""
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        folder = make_folder(place / "shims", ["true"], sys.executable)
        path = f"{folder}{os.pathsep}{os.environ['PATH']}"
        shim = str(folder / "true")
        with _reception(place / "socket") as address:
            turns = {
                BARE: _turn_of([sys.executable, "-I", "-S", "-c", "pass"], path),
                SHIM: _turn_of([shim], path, address),
                OUTSIDE: _turn_of([shim], path),
                "true": _turn_of(["true"], os.environ["PATH"]),
            }
            for take in turns.values():
                take()  # so that all byte code is compiled and in the page cache
            return hold("shims", turns, count, chance)


def _turn_of(argv: list[str], path: str, address: str = "") -> Turn:
    environment = {**os.environ, "PATH": path, wire.SOCKET_VARIABLE: address}

    def take() -> Parts:
        return {
            SECONDS: stopwatch(
                lambda: subprocess.run(
                    argv, env=environment, capture_output=True, check=True, timeout=LIMIT
                )
            )
        }

    return take


@contextlib.contextmanager
def _reception(path: Path) -> Iterator[str]:
    """Tells each shim that its command has ended well."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        waiting = threading.Thread(target=_answer, args=(listener,), daemon=True)
        waiting.start()
        yield str(path)
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # which ends `accept`
        waiting.join(LIMIT)


def _answer(listener: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            with connection:
                frames = wire.Frames()
                while not list(frames.feed(connection.recv(wire.INPUT_PIECE))):
                    pass
                connection.sendall(wire.exit_frame(0))
                connection.recv(1)  # it has gone
