"""The reception's side of SHIM WIRE 1, played by the test itself, frame by frame."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any

import pytest

from smartsim_bridge.shims import wire
from smartsim_bridge.shims.folder import make_folder

__all__ = ["Caller", "Reception", "read", "reception"]

SECONDS = 60.0
COMMANDS = ("sbatch", "squeue", "srun")


class Caller:
    """One shim that has called; `hello` is what it said first."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        connection.settimeout(SECONDS)
        self._frames = wire.Frames()
        self._held: list[tuple[bytes, bytes]] = []
        kind, payload = self.receive()
        assert kind == wire.HELLO
        self.hello = wire.parse_hello(payload)

    def receive(self) -> tuple[bytes, bytes]:
        """The next frame; fails where the shim has gone."""
        while not self._held:
            data = self.connection.recv(1 << 20)
            assert data, "the shim has gone"
            self._held += self._frames.feed(data)
        return self._held.pop(0)

    def receive_input(self) -> bytes:
        """All of stdin, to its end."""
        found = b""
        while True:
            kind, payload = self.receive()
            assert kind == wire.INPUT
            if not payload:
                return found
            found += payload

    def is_gone(self) -> bool:
        """Waits until the shim has closed the connection; it must have nothing left to say."""
        return not self._held and self.connection.recv(1) == b""

    def send(self, kind: bytes, payload: bytes = b"") -> None:
        self.connection.sendall(wire.frame(kind, payload))

    def end(self, returncode: int) -> None:
        self.connection.sendall(wire.exit_frame(returncode))


class Reception:
    """A socket where shims call, and the folder that they lie in."""

    def __init__(self, directory: Path, python: str = sys.executable) -> None:
        self.folder = make_folder(directory / "the state's", COMMANDS, python)
        self.path = directory / "socket"
        self._stack = ExitStack()
        self.listener = self._stack.enter_context(socket.socket(socket.AF_UNIX))
        self.listener.bind(str(self.path))
        self.listener.listen(64)
        self.listener.settimeout(SECONDS)

    def environment(self, **more: str) -> dict[str, str]:
        """Of a process inside the session."""
        path = f"{self.folder}:{os.environ['PATH']}"
        return {"PATH": path, wire.SOCKET_VARIABLE: str(self.path), **more}

    def start(self, *argv: str | bytes | Path, **options: Any) -> subprocess.Popen[bytes]:
        """A process of the session that ends with the test; its streams are pipes."""
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        options = {"env": self.environment(), **streams, **options}
        process = subprocess.Popen(argv, **options)
        self._stack.callback(_end, process)
        return process

    def accept(self) -> Caller:
        """The next shim that calls."""
        connection, _ = self.listener.accept()
        return Caller(self._stack.enter_context(connection))

    def call(
        self, *argv: str | bytes | Path, **options: Any
    ) -> tuple[subprocess.Popen[bytes], Caller]:
        """Starts a shim and takes its call."""
        return self.start(*argv, **options), self.accept()

    def close(self) -> None:
        self._stack.close()


def read(stream: IO[bytes] | None) -> bytes:
    """What a process has written, to the end."""
    assert stream is not None
    return stream.read()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait(SECONDS)
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with suppress(BrokenPipeError):
                stream.close()


@pytest.fixture
def reception(tmp_path: Path) -> Iterator[Reception]:
    """Played by the test."""
    playing = Reception(tmp_path)
    yield playing
    playing.close()
