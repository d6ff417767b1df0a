from __future__ import annotations

import os
import select
import socket
from contextlib import suppress

from smartsim_bridge.bootstrap.host import Host, LocalHost, LocalPipe
from tests.bootstrap.samples import Head


def all_of(pipe: LocalPipe, stdin: bytes = b"") -> bytes:
    # A command that reads nothing may have ended before.
    with suppress(BrokenPipeError, ConnectionResetError):
        pipe.socket.sendall(stdin)
        pipe.socket.shutdown(socket.SHUT_WR)
    said = b""
    while piece := pipe.socket.recv(65536):
        said += piece
    return said


def test_this_machine_is_a_host() -> None:
    host: Host = LocalHost()
    pipe = host.open_stdio("echo here")
    try:
        assert pipe.socket.recv(100) == b"here\n"
    finally:
        pipe.close()


def test_both_directions_carry_any_bytes_and_complaints_are_apart(head: Head) -> None:
    pipe = head.host().open_stdio("cat; echo err >&2")

    assert all_of(pipe, b"\0\xff\n") == b"\0\xff\n"
    assert pipe.noise == "err\n"
    pipe.close()


def test_a_flood_of_complaints_neither_blocks_nor_fills_memory(head: Head) -> None:
    pipe = head.host().open_stdio("dd if=/dev/zero bs=100000 count=10 >&2; echo done")

    assert all_of(pipe) == b"done\n"
    assert len(pipe.noise) == 16384
    pipe.close()


def test_a_command_starts_in_the_home_as_sshd_would_have_it(head: Head) -> None:
    pipe = head.host().open_stdio("echo $HOME; pwd")

    assert all_of(pipe).decode().split() == [str(head.home)] * 2
    pipe.close()


def test_a_home_that_is_not_there_does_not_matter(head: Head) -> None:
    head.home.rmdir()
    pipe = head.host().open_stdio("pwd")

    assert all_of(pipe) == b"/\n"
    pipe.close()


def test_closing_ends_what_still_runs(head: Head) -> None:
    pipe = head.host().open_stdio("echo $$; exec 0<&- 1>&-; exec sleep 1000")
    pid = int(pipe.socket.recv(100))
    descriptor = os.pidfd_open(pid)
    pipe.close()

    assert select.select([descriptor], [], [], 60)[0]
    os.close(descriptor)


def test_closing_twice_does_no_harm(head: Head) -> None:
    pipe = head.host().open_stdio("exit")
    pipe.close()
    pipe.close()


def test_the_representation_names_the_target() -> None:
    assert repr(LocalHost("here")) == "LocalHost('here')"
