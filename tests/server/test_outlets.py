"""One output stream: every byte once and in order, and never more than was granted."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartsim_bridge.errors import PeerMisbehaved
from smartsim_bridge.protocol.codec import MAX_PAYLOAD
from smartsim_bridge.protocol.flow import WINDOW
from smartsim_bridge.server.outlets import Outlet
from smartsim_bridge.server.spool import Kept, Spool


class Printer:
    """An outlet, all that was printed into it, and what its follower got."""

    def __init__(
        self,
        spool: Spool,
        *,
        retain: bool = False,
        window: int = WINDOW,
        payload: int = MAX_PAYLOAD,
    ) -> None:
        self._window, self._payload = window, payload
        self.outlet = Outlet(spool.keep("c", 1), self._send, retain=retain)
        self.printed = b""
        self.came = bytearray()
        self.next = 0
        self.taken = 0

    def _send(self, offset: int, data: bytes) -> None:
        assert offset == self.next
        assert data == self.printed[offset:][: len(data)]
        assert len(data) <= self._payload
        self.next += len(data)
        assert self.next <= self.taken + self._window
        self.came += data

    def print(self, size: int) -> None:
        begin = len(self.printed)
        data = bytes(number % 251 for number in range(begin, begin + min(size, self.outlet.room)))
        self.printed += data
        self.outlet.take(data)

    def acknowledge(self, size: int) -> None:
        if self.next > self.taken:
            self.taken = min(self.next, self.taken + size)
            self.outlet.acknowledge(self.taken)

    def follow(self, offset: int) -> None:
        self.next = self.taken = self.outlet.follow(offset)
        self.outlet.pump()

    def leave(self, _: int) -> None:
        self.outlet.leave()


@contextmanager
def small_windows() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("smartsim_bridge.server.outlets.WINDOW", 16)
        patch.setattr("smartsim_bridge.server.outlets.MAX_PAYLOAD", 5)
        yield


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(str(tmp_path / "spool"))


MOVES = st.lists(
    st.tuples(
        st.sampled_from(["print", "print", "acknowledge", "acknowledge", "follow", "leave"]),
        st.integers(-2, 40),
    ),
    max_size=60,
)


@given(MOVES, st.booleans())
def test_whoever_follows_gets_each_byte_once_and_in_order(
    moves: list[tuple[str, int]], retain: bool
) -> None:
    with small_windows():
        nowhere = Spool("/no/such/directory")
        printer = Printer(nowhere, retain=retain, window=16, payload=5)
        printer.follow(0)
        for move, size in moves:
            getattr(printer, move)(size if move == "follow" else max(0, size))
        # All that is left comes to who follows now, from where it says.
        printer.follow(0)
        assert printer.taken == 0 or not retain
        while printer.next < len(printer.printed):
            printer.acknowledge(100)
        assert printer.outlet.is_sent
        printer.outlet.close()


def test_follower_that_does_not_read_stops_the_process_at_a_window(spool: Spool) -> None:
    printer = Printer(spool)
    printer.follow(0)
    printer.print(2 * WINDOW)
    assert len(printer.printed) == len(printer.came) == WINDOW
    assert printer.outlet.room == 0
    assert printer.outlet.why_full == ""
    printer.acknowledge(100)
    assert printer.outlet.room == 100


def test_without_a_follower_the_spool_takes_what_it_can_hold(spool: Spool) -> None:
    printer = Printer(spool)
    printer.print(3 * WINDOW)
    assert len(printer.printed) == 3 * WINDOW
    assert not printer.came
    printer.follow(0)
    assert len(printer.came) == WINDOW
    printer.acknowledge(2 * WINDOW)
    printer.acknowledge(2 * WINDOW)
    assert printer.outlet.is_sent
    assert bytes(printer.came) == printer.printed


def test_what_was_acknowledged_is_kept_for_whoever_attaches_where_it_is_retained(
    spool: Spool,
) -> None:
    for retain in (True, False):
        printer = Printer(spool, retain=retain)
        printer.follow(0)
        printer.print(1000)
        printer.acknowledge(600)
        assert printer.outlet.follow(0) == (0 if retain else 600)


@pytest.mark.parametrize("offset", [-1, 11, 2**62])
def test_acknowledging_what_was_not_sent_breaks_the_rules(offset: int, spool: Spool) -> None:
    printer = Printer(spool)
    printer.follow(0)
    printer.print(10)
    with pytest.raises(PeerMisbehaved, match="acknowledged"):
        printer.outlet.acknowledge(offset)


def test_acknowledging_what_was_sent_over_a_former_link_breaks_the_rules(spool: Spool) -> None:
    printer = Printer(spool)
    printer.follow(0)
    printer.print(10)
    printer.outlet.leave()
    printer.next = printer.outlet.follow(4)
    with pytest.raises(PeerMisbehaved):
        printer.outlet.acknowledge(5)  # nothing was sent over this one
    printer.outlet.pump()
    printer.outlet.acknowledge(5)


@pytest.mark.parametrize(("asked", "begin"), [(-5, 0), (3, 3), (10, 10), (11, 10), (2**62, 10)])
def test_offsets_out_of_range_mean_the_beginning_or_the_end(
    asked: int, begin: int, spool: Spool
) -> None:
    printer = Printer(spool)
    printer.print(10)
    assert printer.outlet.follow(asked) == begin


def test_who_wants_no_more_of_it_was_sent_all(spool: Spool) -> None:
    printer = Printer(spool)
    printer.print(3 * WINDOW)
    printer.follow(0)
    before = printer.outlet.is_sent
    printer.outlet.skip()
    assert (before, printer.outlet.is_sent) == (False, True)


def test_nobody_who_does_not_follow_can_skip(spool: Spool) -> None:
    printer = Printer(spool)
    printer.print(10)
    printer.outlet.skip()
    assert not printer.outlet.is_sent
    printer.follow(0)
    assert bytes(printer.came) == printer.printed


def test_whole_output_is_given_only_while_it_is_there_and_short(spool: Spool) -> None:
    printer = Printer(spool)
    assert printer.outlet.whole(10) == b""
    printer.print(10)
    assert printer.outlet.whole(10) == printer.printed
    assert printer.outlet.whole(9) is None
    printer.follow(0)
    printer.acknowledge(1)
    assert printer.outlet.whole(10) is None


def test_a_large_piece_goes_in_payloads(spool: Spool) -> None:
    printer = Printer(spool)
    printer.follow(0)
    printer.print(MAX_PAYLOAD + 1)
    assert bytes(printer.came) == printer.printed


def test_lost_file_of_the_spool_is_told_to_whoever_pumps(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    printer = Printer(spool)
    printer.print(3 * WINDOW)

    def lost(kept: Kept, offset: int, size: int) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Kept, "read", lost)
    printer.outlet.follow(0)
    with pytest.raises(OSError, match="Input/output"):
        printer.outlet.pump()


def test_closed_outlet_holds_nothing(spool: Spool) -> None:
    printer = Printer(spool, retain=True)
    printer.print(3 * WINDOW)
    assert spool.in_memory + spool.on_disk
    printer.outlet.close()
    assert (spool.in_memory, spool.on_disk) == (0, 0)
