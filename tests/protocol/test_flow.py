from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartsim_bridge.errors import PeerMisbehaved
from smartsim_bridge.protocol.codec import MAX_PAYLOAD
from smartsim_bridge.protocol.flow import WINDOW, Receiving, Sending


class Wire:
    """A stream over links that break: what is under way is lost, and then said again."""

    def __init__(self, content: bytes, window: int) -> None:
        self.content = content
        self.sending, self.receiving = Sending(window), Receiving(window)
        self.pieces: deque[tuple[int, bytes, bool]] = deque()
        self.acks: deque[int] = deque()
        self.came = b""
        self.unread = 0

    def send(self, size: int) -> None:
        data = self.content[self.sending.end :][: min(size, self.sending.room)]
        offset = self.sending.take(data)
        if self.sending.end == len(self.content):
            self.sending.finish()
        if data or self.sending.finished:
            self.pieces.append((offset, data, self.sending.finished))

    def deliver(self) -> None:
        if self.pieces:
            fresh = self.receiving.accept(*self.pieces.popleft())
            self.came += fresh
            self.unread += len(fresh)

    def double(self) -> None:
        if self.pieces:
            self.pieces.appendleft(self.pieces[0])

    def read(self, size: int) -> None:
        count = min(size, self.unread)
        self.unread -= count
        due = self.receiving.hand_on(count)
        if due is not None:
            self.acks.append(due)

    def acknowledge(self) -> None:
        if self.acks:
            self.sending.acknowledge(self.acks.popleft())

    def lose(self) -> None:
        self.pieces.clear()
        self.acks.clear()
        self.sending.acknowledge(self.receiving.acknowledgement())
        for offset, data in self.sending.replay():
            self.pieces.append((offset, data, False))
        if self.sending.finished:
            self.pieces.append((self.sending.end, b"", True))

    def settle(self) -> None:
        """Everything arrives from now on."""
        for _ in range(10 * len(self.content) + 10):
            self.send(1000)
            while self.pieces:
                self.deliver()
            self.read(1000)
            while self.acks:
                self.acknowledge()
            if self.receiving.ended:
                return


MOVES = st.lists(
    st.tuples(
        st.sampled_from(["send", "send", "deliver", "deliver", "read", "acknowledge"])
        | st.sampled_from(["lose", "double"]),
        st.integers(0, 40),
    ),
    max_size=120,
)


@given(st.binary(max_size=400), st.integers(1, 64), MOVES)
def test_broken_links_and_repetition_give_exactly_the_bytes(
    content: bytes, window: int, moves: list[tuple[str, int]]
) -> None:
    wire = Wire(content, window)
    for move, size in moves:
        if move in ("send", "read"):
            getattr(wire, move)(size)
        else:
            getattr(wire, move)()
        assert content.startswith(wire.came)
        kept = sum(len(data) for _, data in wire.sending.replay())
        assert kept <= window
    wire.settle()
    assert wire.came == content
    assert wire.receiving.ended


def test_room_shrinks_with_sending_and_grows_with_acknowledgement() -> None:
    sending = Sending(window=10)
    assert (sending.room, sending.take(b"1234567890")) == (10, 0)
    assert sending.room == 0
    sending.acknowledge(4)
    assert (sending.room, sending.take(b"abcd")) == (4, 10)


def test_acknowledged_bytes_are_forgotten() -> None:
    sending = Sending()
    sending.take(b"abc")
    sending.take(b"def")
    sending.acknowledge(4)
    assert list(sending.replay()) == [(4, b"ef")]
    sending.acknowledge(6)
    assert list(sending.replay()) == []


def test_older_acknowledgement_changes_nothing() -> None:
    sending = Sending()
    sending.take(b"abcdef")
    sending.acknowledge(4)
    sending.acknowledge(2)
    assert sending.acknowledged == 4


@pytest.mark.parametrize("offset", [-1, 4, 2**62])
def test_acknowledging_what_was_never_sent_is_refused(offset: int) -> None:
    sending = Sending()
    sending.take(b"abc")
    with pytest.raises(PeerMisbehaved):
        sending.acknowledge(offset)


def test_sender_is_done_when_all_is_acknowledged() -> None:
    sending = Sending()
    sending.take(b"abc")
    sending.finish()
    assert not sending.is_done
    sending.acknowledge(3)
    assert sending.is_done


@pytest.mark.parametrize("offset", [-1, 4])
def test_gap_is_refused(offset: int) -> None:
    receiving = Receiving()
    receiving.accept(0, b"abc")
    with pytest.raises(PeerMisbehaved, match="was due"):
        receiving.accept(offset, b"x")


def test_overlap_gives_only_what_is_new() -> None:
    receiving = Receiving()
    assert receiving.accept(0, b"abc") == b"abc"
    assert receiving.accept(1, b"bcd") == b"d"
    assert receiving.accept(0, b"ab") == b""


def test_more_than_granted_is_refused() -> None:
    receiving = Receiving(window=10)
    receiving.accept(0, b"1234567890")
    with pytest.raises(PeerMisbehaved, match="granted"):
        receiving.accept(10, b"x")


def test_too_large_a_piece_is_refused() -> None:
    with pytest.raises(PeerMisbehaved, match="granted"):
        Receiving().accept(0, bytes(MAX_PAYLOAD + 1))


def test_reading_grants_again() -> None:
    receiving = Receiving(window=8)
    receiving.accept(0, b"12345678")
    assert receiving.hand_on(1) is None
    assert receiving.hand_on(1) == 2
    assert receiving.accept(8, b"90") == b"90"


def test_bytes_after_the_end_are_refused() -> None:
    receiving = Receiving()
    receiving.accept(0, b"abc", eof=True)
    with pytest.raises(PeerMisbehaved, match="after the end"):
        receiving.accept(3, b"d")
    with pytest.raises(PeerMisbehaved, match="after the end"):
        receiving.accept(0, b"abcd", eof=True)


def test_end_before_bytes_that_came_is_refused() -> None:
    receiving = Receiving()
    receiving.accept(0, b"abc")
    with pytest.raises(PeerMisbehaved, match="after the end"):
        receiving.accept(0, b"ab", eof=True)


def test_ended_stream_may_be_said_again() -> None:
    receiving = Receiving()
    receiving.accept(0, b"abc")
    receiving.accept(3, b"def", eof=True)
    assert receiving.accept(0, b"abc") == b""
    assert receiving.accept(3, b"def", eof=True) == b""
    assert receiving.accept(6, b"", eof=True) == b""


def test_window_takes_several_payloads() -> None:
    assert WINDOW >= 2 * MAX_PAYLOAD


@given(st.integers(0, 5000), st.integers(0, 64), st.integers(1, 64))
def test_one_sender_goes_on_behind_another_within_the_same_window(
    read: int, under_way: int, window: int
) -> None:
    under_way = min(under_way, window)
    receiving = Receiving(window, begin=read)
    receiving.accept(read, bytes(under_way))
    # The second one knows where it begins, and of the first one's bytes only that bound.
    sending = Sending(window, begin=receiving.next)
    assert sending.room <= window - under_way
    sending.acknowledge(receiving.acknowledgement())
    assert sending.room == window - under_way
    piece = bytes(sending.room)
    assert receiving.accept(sending.take(piece), piece) == piece
    assert sending.room == 0
    receiving.hand_on(under_way + len(piece))
    sending.acknowledge(receiving.acknowledgement())
    assert (sending.room, list(sending.replay())) == (window, [])


def test_receiver_may_begin_anywhere() -> None:
    receiving = Receiving(window=8, begin=100)
    assert receiving.acknowledgement() == 100
    assert receiving.accept(100, b"abc") == b"abc"
    assert receiving.accept(99, b"?abcd") == b"d"
    with pytest.raises(PeerMisbehaved, match="granted"):
        receiving.accept(104, bytes(5))


@pytest.mark.parametrize("window", [1, 3, 8])
def test_small_windows_are_acknowledged_too(window: int) -> None:
    receiving = Receiving(window)
    receiving.accept(0, bytes(window))
    assert receiving.hand_on(window) == window


def test_replay_begins_within_a_piece() -> None:
    sending = Sending()
    for piece in (b"abc", b"", b"def"):
        sending.take(piece)
    sending.acknowledge(1)
    assert list(sending.replay()) == [(1, b"bc"), (3, b"def")]
    assert list(sending.replay()) == [(1, b"bc"), (3, b"def")]
