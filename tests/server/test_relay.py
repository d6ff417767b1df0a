from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from smartsim_bridge.server import relay
from smartsim_bridge.server.relay import CONNECTED
from tests.support.waiting import PATIENCE

# As the near half sends it: the text alone, in an interpreter that knows nothing of us.
SCRIPT = Path(relay.__file__).read_text("utf-8")


@contextmanager
def relaying(path: Path) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes], IO[bytes]]]:
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", SCRIPT, str(path), "n1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process, process.stdin, process.stdout
        finally:
            process.kill()


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[tuple[Path, socket.socket]]:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        server.listen()
        server.settimeout(PATIENCE)
        yield tmp_path / "s", server


def test_bytes_go_both_ways_after_the_marked_line(listening: tuple[Path, socket.socket]) -> None:
    path, server = listening
    everything = bytes(range(256)) * 400  # what pipe and socket hold, for one test that does both
    with relaying(path) as (process, stdin, stdout):
        peer, _ = server.accept()
        assert stdout.readline() == b"\n"
        assert stdout.readline() == f"{CONNECTED} n1\n".encode()
        with peer:
            stdin.write(everything)
            stdin.flush()
            came = b""
            while len(came) < len(everything):
                came += peer.recv(65536)
            assert came == everything
            peer.sendall(everything)
            assert stdout.read(len(everything)) == everything
        assert process.wait(PATIENCE) == 0


def test_end_of_stdin_closes_the_connection(listening: tuple[Path, socket.socket]) -> None:
    path, server = listening
    with relaying(path) as (process, stdin, _):
        peer, _ = server.accept()
        with peer:
            stdin.write(b"last word")
            stdin.close()
            assert peer.makefile("rb").read() == b"last word"
        assert process.wait(PATIENCE) == 0


def test_nobody_listening_is_one_line_and_status_1(tmp_path: Path) -> None:
    with relaying(tmp_path / "none") as (process, _, _):
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (1, b"")
    assert str(tmp_path / "none") in err.decode()
    assert b"Traceback" not in err


def test_reader_that_went_away_ends_it_quietly(listening: tuple[Path, socket.socket]) -> None:
    path, server = listening
    with relaying(path) as (process, _, stdout):
        peer, _ = server.accept()
        stdout.close()
        with peer:
            peer.sendall(bytes(10))
            process.wait(PATIENCE)
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()


def test_server_of_another_user_is_told_nothing(
    listening: tuple[Path, socket.socket],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, server = listening
    monkeypatch.setattr(relay, "_owner", lambda _: os.getuid() + 1)
    assert relay.relay(str(path), "n1") == 1
    said = capsys.readouterr()
    assert f"uid {os.getuid() + 1}" in said.err
    assert CONNECTED not in said.out
    peer, _ = server.accept()
    with peer:
        assert peer.recv(10) == b""
