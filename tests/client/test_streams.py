"""Credit, offsets and ends, without a link."""

from __future__ import annotations

import asyncio

import pytest

from smartsim_bridge.client.streams import InputWriter, OutputReader
from smartsim_bridge.errors import LinkLost, PeerMisbehaved
from smartsim_bridge.protocol.codec import MAX_PAYLOAD
from smartsim_bridge.protocol.flow import WINDOW
from tests.support.loops import run
from tests.support.waiting import wait_until_async


class Posted(list[tuple[int, bytes, bool]]):
    """What a writer sent."""

    def __call__(self, offset: int, data: bytes, eof: bool) -> None:
        self.append((offset, data, eof))

    @property
    def data(self) -> bytes:
        return b"".join(data for _, data, _ in self)


def reader() -> tuple[OutputReader, list[int]]:
    taken: list[int] = []
    return OutputReader(taken.append), taken


def fill(stream: OutputReader) -> None:
    """All that it has credit for."""
    for offset in range(0, WINDOW, MAX_PAYLOAD):
        stream.feed(offset, bytes(MAX_PAYLOAD), False)


# --- reading ------------------------------------------------------------------------------


def test_read_gives_what_is_there_and_waits_where_nothing_is() -> None:
    async def main() -> None:
        stream, _ = reader()
        stream.feed(0, b"abc", False)
        assert await stream.read(2) == b"ab"
        assert await stream.read(100) == b"c"
        waiting = asyncio.ensure_future(stream.read(100))
        await asyncio.sleep(0)
        assert not waiting.done()
        stream.feed(3, b"de", False)
        assert await waiting == b"de"

    run(main())


def test_read_without_size_gives_all_to_the_end() -> None:
    async def main() -> None:
        stream, _ = reader()
        everything = asyncio.ensure_future(stream.read())
        await asyncio.sleep(0)
        stream.feed(0, b"abc", False)
        await asyncio.sleep(0)
        stream.feed(3, b"d", True)
        assert await everything == b"abcd"
        assert await stream.read() == b""
        assert await stream.read(10) == b""

    run(main())


def test_lines_come_one_by_one_and_the_last_may_lack_its_end() -> None:
    async def main() -> None:
        stream, _ = reader()
        stream.feed(0, b"a\nb\n\nc", True)
        assert [line async for line in stream] == [b"a\n", b"b\n", b"\n", b"c"]
        assert await stream.readline() == b""

    run(main())


def test_a_line_may_come_in_pieces() -> None:
    async def main() -> None:
        stream, _ = reader()
        line = asyncio.ensure_future(stream.readline())
        for offset, piece in enumerate((b"a", b"b", b"\n")):
            await asyncio.sleep(0)
            stream.feed(offset, piece, False)
        assert await line == b"ab\n"

    run(main())


def test_credit_is_given_for_what_was_taken_only() -> None:
    async def main() -> None:
        stream, taken = reader()
        fill(stream)
        assert taken == []
        assert len(await stream.read(WINDOW)) == WINDOW
        assert taken[-1] == WINDOW

    run(main())


def test_a_line_longer_than_the_window_does_not_stop_for_ever() -> None:
    async def main() -> None:
        stream, taken = reader()
        line = asyncio.ensure_future(stream.readline())
        await asyncio.sleep(0)
        fill(stream)
        # Without credit the rest of the line could never come.
        await wait_until_async(lambda: taken)
        stream.feed(WINDOW, b"\n", False)
        assert len(await line) == WINDOW + 1

    run(main())


def test_what_was_said_twice_is_read_once() -> None:
    async def main() -> None:
        stream, _ = reader()
        stream.feed(0, b"abc", False)
        stream.feed(1, b"bcd", True)
        assert await stream.read() == b"abcd"

    run(main())


def test_a_gap_is_misbehaviour() -> None:
    async def main() -> None:
        stream, _ = reader()
        with pytest.raises(PeerMisbehaved):
            stream.feed(5, b"abc", False)

    run(main())


def test_more_than_the_window_is_misbehaviour() -> None:
    async def main() -> None:
        stream, _ = reader()
        fill(stream)
        with pytest.raises(PeerMisbehaved):
            stream.feed(WINDOW, b"x", False)

    run(main())


def test_a_lost_link_is_told_after_what_came_before() -> None:
    async def main() -> None:
        stream, _ = reader()
        stream.feed(0, b"abc", False)
        stream.end(LinkLost("gone"))
        assert await stream.read(10) == b"abc"
        with pytest.raises(LinkLost, match="gone") as first:
            await stream.read(10)
        with pytest.raises(LinkLost) as second:
            await stream.readline()
        # Not one object: each who is told adds his traceback.
        assert first.value is not second.value

    run(main())


def test_a_cancelled_read_loses_nothing() -> None:
    async def main() -> None:
        stream, _ = reader()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(stream.read(10), 0.01)
        stream.feed(0, b"abc", True)
        assert await stream.read(10) == b"abc"

    run(main())


def test_two_readers_at_once_both_come_back() -> None:
    async def main() -> None:
        stream, _ = reader()
        both = [asyncio.ensure_future(stream.read(1)) for _ in range(2)]
        await asyncio.sleep(0)
        stream.feed(0, b"ab", True)
        assert sorted(await asyncio.gather(*both)) == [b"a", b"b"]

    run(main())


def test_of_two_readers_one_may_be_cancelled() -> None:
    async def main() -> None:
        stream, _ = reader()
        one, other = (asyncio.ensure_future(stream.read(1)) for _ in range(2))
        await asyncio.sleep(0)
        one.cancel()
        await asyncio.sleep(0)
        stream.feed(0, b"a", True)
        assert await other == b"a"

    run(main())


# --- writing ------------------------------------------------------------------------------


def test_what_is_written_is_numbered() -> None:
    async def main() -> None:
        posted = Posted()
        stream = InputWriter(posted)
        await stream.write(b"abc")
        await stream.write(b"de")
        stream.close()
        assert posted == [(0, b"abc", False), (3, b"de", False), (5, b"", True)]

    run(main())


def test_a_writer_waits_for_credit() -> None:
    async def main() -> None:
        posted = Posted()
        stream = InputWriter(posted)
        writing = asyncio.ensure_future(stream.write(bytes(WINDOW + 10)))
        await asyncio.sleep(0)
        assert not writing.done()
        assert len(posted.data) == WINDOW
        stream.acknowledge(WINDOW, False)
        await writing
        assert len(posted.data) == WINDOW + 10

    run(main())


def test_writing_to_one_that_reads_no_more_is_a_broken_pipe() -> None:
    async def main() -> None:
        stream = InputWriter(Posted())
        writing = asyncio.ensure_future(stream.write(bytes(WINDOW + 10)))
        await asyncio.sleep(0)
        stream.acknowledge(0, True)
        with pytest.raises(BrokenPipeError):
            await writing
        with pytest.raises(BrokenPipeError):
            await stream.write(b"x")

    run(main())


def test_writing_after_close_is_an_error_and_closing_twice_is_none() -> None:
    async def main() -> None:
        posted = Posted()
        stream = InputWriter(posted)
        stream.close()
        stream.close()
        assert posted == [(0, b"", True)]
        with pytest.raises(ValueError, match="closed"):
            await stream.write(b"x")

    run(main())


def test_a_lost_link_wakes_who_waits_to_write() -> None:
    async def main() -> None:
        stream = InputWriter(Posted())
        writing = asyncio.ensure_future(stream.write(bytes(WINDOW + 10)))
        await asyncio.sleep(0)
        stream.end(LinkLost("gone"))
        with pytest.raises(LinkLost, match="gone"):
            await writing

    run(main())


def test_two_writers_at_once_both_come_back() -> None:
    async def main() -> None:
        posted = Posted()
        stream = InputWriter(posted)
        await stream.write(bytes(WINDOW))
        both = [asyncio.ensure_future(stream.write(b"x")) for _ in range(2)]
        await asyncio.sleep(0)
        stream.acknowledge(WINDOW, False)
        await asyncio.gather(*both)
        assert len(posted.data) == WINDOW + 2

    run(main())
