from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartsim_bridge.shims.wire import (
    HELLO,
    HELLO_LIMIT,
    OUTPUT,
    PAYLOAD_LIMIT,
    Frames,
    Hello,
    exit_frame,
    fault_frame,
    frame,
    parse_hello,
)

FIELDS = [b"1", b"sbatch", b"/folder", b"/work", b"2", b"-p", b"", b"A=b=c", b"B="]


def test_a_hello_is_taken_apart() -> None:
    assert parse_hello(b"\0".join(FIELDS)) == Hello(
        "sbatch", b"/folder", b"/work", (b"-p", b""), {b"A": b"b=c", b"B": b""}
    )


@pytest.mark.parametrize(
    "fields",
    [
        [], [b"1"], [b"2", *FIELDS[1:]], [b"", *FIELDS[1:]], FIELDS[:4], [*FIELDS[:4], b"x"],
        [*FIELDS[:4], b"-1"], [*FIELDS[:4], b"3", b"a", b"b"], [*FIELDS[:4], b"1" * 5000],
        [b"1", b"../sbatch", *FIELDS[2:]], [b"1", b"", *FIELDS[2:]],
    ],
)  # fmt: skip
def test_what_is_no_hello_is_refused(fields: list[bytes]) -> None:
    with pytest.raises(ValueError, match=r"^a shim"):
        parse_hello(b"\0".join(fields))


def test_what_is_no_assignment_is_left_out() -> None:
    fields = [*FIELDS[:4], b"0", b"A=1", b"nothing", b"=odd", b""]
    assert parse_hello(b"\0".join(fields)).environment == {b"A": b"1"}


@given(
    st.lists(st.tuples(st.sampled_from([b"H", b"I", b"S"]), st.binary(max_size=60))),
    st.integers(1, 30),
)
def test_frames_come_out_as_they_went_in_however_they_are_cut(
    sent: list[tuple[bytes, bytes]], size: int
) -> None:
    stream = b"".join(frame(kind, payload) for kind, payload in sent)
    frames = Frames()
    found: list[tuple[bytes, bytes]] = []
    for at in range(0, len(stream), size):
        found += frames.feed(stream[at : at + size])
    assert found == sent


def test_only_the_first_frame_may_be_long() -> None:
    frames = Frames()
    assert len(list(frames.feed(frame(HELLO, bytes(HELLO_LIMIT))))) == 1
    with pytest.raises(ValueError, match="more than 1048576"):
        list(frames.feed(OUTPUT + (PAYLOAD_LIMIT + 1).to_bytes(4, "big")))


def test_a_length_beyond_all_limits_is_refused_before_it_is_waited_for() -> None:
    with pytest.raises(ValueError, match="more than 8388608"):
        list(Frames().feed(b"HTTP/1.1"))


def test_ends_are_written_as_a_shim_reads_them() -> None:
    assert exit_frame(-15) == b"X\0\0\0\x03-15"
    assert fault_frame(127, "no ü") == b"F\0\0\0\x09127\0no \xc3\xbc"
