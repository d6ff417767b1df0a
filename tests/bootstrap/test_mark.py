from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from smartsim_bridge.bootstrap import mark as mark_module
from smartsim_bridge.bootstrap.mark import send_and_read_to
from smartsim_bridge.deadline import Deadline
from tests.support.waiting import wait_until

MARK = b"\nMARK 1\n"


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def read(stream: socket.socket, seconds: float = 60) -> tuple[bool, bytes]:
    said = bytearray()
    return send_and_read_to(MARK, stream, b"script\n", said, Deadline(seconds)), bytes(said)


@pytest.mark.parametrize("cut", range(len(MARK) + 1))
def test_a_mark_in_two_pieces_is_found_and_nothing_behind_it_is_taken(
    ends: tuple[socket.socket, socket.socket], cut: int
) -> None:
    ours, theirs = ends
    theirs.sendall(b"noise" + MARK[:cut])
    rest = threading.Timer(0.05, theirs.sendall, [MARK[cut:] + b"link"])
    rest.start()

    assert read(ours) == (True, b"noise" + MARK)
    assert ours.recv(10) == b"link"
    assert theirs.recv(10) == b"script\n"
    rest.join()


def test_what_a_program_said_before_it_ended_is_read_though_it_takes_nothing(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = ends
    theirs.sendall(b"only transfer")
    theirs.close()

    assert read(ours) == (False, b"only transfer")


def test_a_program_that_ends_with_the_script_unread_is_at_its_end(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = ends
    theirs.sendall(b"only transfer")

    def leave() -> None:
        wait_until(lambda: theirs.recv(10, socket.MSG_PEEK) == b"script\n")
        theirs.close()

    leaving = threading.Thread(target=leave)
    leaving.start()
    assert read(ours) == (False, b"only transfer")
    leaving.join()


def test_noise_without_end_is_given_up(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mark_module, "NOISE_LIMIT", 100_000)
    monkeypatch.setattr(mark_module, "NOISE_KEPT", 1000)
    ours, theirs = ends
    talker = threading.Thread(target=theirs.sendall, args=[b"y" * 102_000])
    talker.start()
    came, said = read(ours)
    talker.join()

    assert (came, len(said)) == (False, 1000)


def test_the_deadline_ends_the_wait(ends: tuple[socket.socket, socket.socket]) -> None:
    with pytest.raises(socket.timeout):
        read(ends[0], 0.05)


def test_the_deadline_ends_noise_that_never_pauses(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = ends

    def talk() -> None:
        with suppress(OSError):
            while True:
                theirs.sendall(b"y" * 1000)

    talker = threading.Thread(target=talk)
    talker.start()
    try:
        with pytest.raises(socket.timeout):
            read(ours, 0.05)
    finally:
        ours.close()
        talker.join()
