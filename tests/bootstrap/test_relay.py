from __future__ import annotations

import socket
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from smartsim_bridge.bootstrap.relay import COMMAND, start_relay
from smartsim_bridge.deadline import Deadline
from smartsim_bridge.errors import LaunchFailed
from tests.bootstrap.samples import BEACON, Head, write_program


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """A unix socket, as the server has one; it greets whoever comes."""
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(Path(directory) / "socket"))
        listener.listen()
        yield listener


def received(stream: socket.socket, size: int) -> bytes:
    stream.settimeout(60)
    said = b""
    while len(said) < size:
        said += stream.recv(size - len(said))
    return said


@pytest.mark.parametrize("flood", [0, 1, 65_500, 65_536, 3_000_000])
def test_whatever_start_up_files_print_the_link_gets_its_own_bytes_only(
    head: Head, server: socket.socket, flood: int
) -> None:
    loud = f"head -c {flood} /dev/zero; echo warning >&2; exec /bin/sh"
    login = write_program(head.programs / "login", loud)
    pipe = head.host(str(login)).open_stdio(COMMAND)
    beacon = replace(BEACON, python=sys.executable, socket=server.getsockname())
    try:
        start_relay(pipe, beacon, prelude="echo loading", host="h", deadline=Deadline(60))
        link, _ = server.accept()
        with link:
            link.sendall(b"\n\0first")
            assert received(pipe.socket, 7) == b"\n\0first"
            pipe.socket.sendall(b"second")
            assert received(link, 6) == b"second"
    finally:
        pipe.close()


def test_a_relay_that_does_not_start_is_told_with_what_was_said(head: Head) -> None:
    pipe = head.host().open_stdio(COMMAND)
    beacon = replace(BEACON, python="/no/such/python")
    try:
        with pytest.raises(LaunchFailed, match="/no/such/python, cannot be run") as raised:
            start_relay(pipe, beacon, prelude="", host="h", deadline=Deadline(60))
    finally:
        pipe.close()
    assert "/no/such/python" in raised.value.noise
    assert f"pid {BEACON.pid} on {BEACON.host}" in raised.value.advice


@pytest.mark.parametrize("status", [1, 127])
def test_a_relay_that_ends_for_another_reason_does_not_accuse_the_python(
    head: Head, status: int
) -> None:
    python = head.add_program("broken", f"echo no module named socket >&2; exit {status}")
    beacon = replace(BEACON, python=python)
    pipe = head.host().open_stdio(COMMAND)
    try:
        with pytest.raises(LaunchFailed, match="ended at once") as raised:
            start_relay(pipe, beacon, prelude="", host="h", deadline=Deadline(60))
    finally:
        pipe.close()
    assert "no module named socket" in raised.value.noise
