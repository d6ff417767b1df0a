from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartsim_bridge.errors import PeerMisbehaved
from smartsim_bridge.protocol.codec import MAX_HEADER, MAX_PAYLOAD, decode, encode
from smartsim_bridge.protocol.framing import MARK, Cutter, pack
from tests.protocol.samples import ONE_OF_EACH

MESSAGES = [[b"header"], [b"{}", b"payload"], [b""], [b"", b""], [bytes(3000), bytes(5000)]]
STREAM = b"".join(map(pack, MESSAGES))


@given(st.data())
def test_stream_cut_anywhere_gives_the_same_messages(data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(STREAM)), max_size=10)))
    cutter, came = Cutter(), []
    for start, end in zip([0, *cuts], [*cuts, len(STREAM)]):
        came += list(cutter.feed(STREAM[start:end]))
    assert came == MESSAGES


def test_stream_cut_at_every_byte_gives_the_same_messages() -> None:
    for cut in range(len(STREAM)):
        cutter = Cutter()
        assert [*cutter.feed(STREAM[:cut]), *cutter.feed(STREAM[cut:])] == MESSAGES


def test_single_bytes_give_the_same_messages() -> None:
    cutter = Cutter()
    assert [frames for at in range(len(STREAM)) for frames in cutter.feed(STREAM[at : at + 1])] == (
        MESSAGES
    )


def test_every_message_travels_on_a_stream() -> None:
    stream = b"".join(pack(encode(message)) for message in ONE_OF_EACH)
    assert [decode(frames) for frames in Cutter().feed(stream)] == list(ONE_OF_EACH)


@given(st.lists(st.binary(max_size=50), max_size=20))
def test_noise_is_kept_waiting_or_refused(pieces: list[bytes]) -> None:
    cutter = Cutter()
    try:
        for piece in pieces:
            for frames in cutter.feed(piece):
                assert 1 <= len(frames) <= 2
    except PeerMisbehaved:
        pass


@pytest.mark.parametrize("text", [b"HTTP/1.1 400 Bad Request\r\n", b"\xff\0\0", b"SSH-2.0-x\r\n"])
def test_another_protocol_is_refused_at_its_first_byte(text: bytes) -> None:
    with pytest.raises(PeerMisbehaved, match="something else"):
        list(Cutter().feed(text[:1]))


@pytest.mark.parametrize("count", [0, 3, 255])
def test_wrong_number_of_frames_is_refused_at_once(count: int) -> None:
    with pytest.raises(PeerMisbehaved, match=f"of {count} frames"):
        list(Cutter().feed(bytes((MARK, count))))


@pytest.mark.parametrize("lengths", [(MAX_HEADER + 1,), (2**32 - 1,), (1, MAX_PAYLOAD + 1)])
def test_too_long_a_frame_is_refused_before_it_comes(lengths: tuple[int, ...]) -> None:
    opening = bytes((MARK, len(lengths))) + struct.pack(f">{len(lengths)}I", *lengths)
    with pytest.raises(PeerMisbehaved, match="frame of"):
        list(Cutter().feed(opening))


def test_largest_message_passes() -> None:
    frames = [bytes(MAX_HEADER), bytes(MAX_PAYLOAD)]
    assert list(Cutter().feed(pack(frames))) == [frames]


def test_messages_before_the_fault_are_given() -> None:
    feed = Cutter().feed(pack([b"good"]) + b"bad")
    assert next(feed) == [b"good"]
    with pytest.raises(PeerMisbehaved):
        next(feed)


def test_first_message_may_be_limited_and_the_next_ones_are_not() -> None:
    first, next_one = [bytes(60), bytes(40)], [bytes(5000)]
    assert list(Cutter(100).feed(pack(first) + pack(next_one))) == [first, next_one]


@pytest.mark.parametrize("lengths", [(101,), (60, 41)])
def test_too_long_a_first_message_is_refused_before_it_comes(lengths: tuple[int, ...]) -> None:
    opening = bytes((MARK, len(lengths))) + struct.pack(f">{len(lengths)}I", *lengths)
    with pytest.raises(PeerMisbehaved, match="began with a message of 101 bytes"):
        list(Cutter(100).feed(opening))


def test_cleared_cutter_has_forgotten_what_was_not_whole() -> None:
    cutter, whole = Cutter(), pack([b"whole"])
    assert list(cutter.feed(whole[:-1])) == []
    cutter.clear()
    assert list(cutter.feed(whole)) == [[b"whole"]]
