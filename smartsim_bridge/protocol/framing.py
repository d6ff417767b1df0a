"""Cuts a byte stream into the frames of messages, for links that have no frames.

On the stream a message is: one byte MARK, one byte with the number of frames, four
bytes (big-endian) with the length of each, then the frames.  Lengths are checked when
they are read, before anything of that size is kept.  Pure; `codec` gives the frames
their meaning.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from ..errors import PeerMisbehaved
from .codec import MAX_FRAMES, MAX_HEADER, MAX_PAYLOAD

__all__ = ["MARK", "Cutter", "pack"]

MARK = 0xB5  # no letter and no UTF-8 start byte: text is noticed at its first character
_LIMITS = (MAX_HEADER, MAX_PAYLOAD)


def pack(frames: Sequence[bytes]) -> bytes:
    """The frames of one message as stretch of a stream."""
    return b"".join(
        (bytes((MARK, len(frames))), struct.pack(f">{len(frames)}I", *map(len, frames)), *frames)
    )


class Cutter:
    """Takes bytes as they come, gives frames as they become whole.

    Keeps no more than one message that is not whole yet, and of the first one no more than
    `first_limit` bytes: who sends it is not known.  After PeerMisbehaved the stream has no
    known boundary any more: cut the link.
    """

    def __init__(self, first_limit: int = sum(_LIMITS)) -> None:
        self._buffer = bytearray()
        self._limit = first_limit

    def feed(self, data: bytes | memoryview) -> Iterator[list[bytes]]:
        """Yields the frames of every message completed by `data`; raises PeerMisbehaved."""
        self._buffer += data
        start = 0
        try:
            while True:
                found = self._cut(start)
                if found is None:
                    return
                frames, start = found
                self._limit = sum(_LIMITS)
                yield frames
        finally:
            # Once per feed, not per message: each removal moves what remains.
            del self._buffer[:start]

    def clear(self) -> None:
        """Forgets what is not whole: nothing more will come."""
        self._buffer.clear()

    def _cut(self, start: int) -> tuple[list[bytes], int] | None:
        lengths = self._lengths(start)
        if lengths is None:
            return None
        begin = start + 2 + 4 * len(lengths)
        if len(self._buffer) < begin + sum(lengths):
            return None
        frames = []
        for length in lengths:
            frames.append(bytes(self._buffer[begin : begin + length]))
            begin += length
        return frames, begin

    def _lengths(self, start: int) -> tuple[int, ...] | None:
        if len(self._buffer) > start and self._buffer[start] != MARK:
            seen = bytes(self._buffer[start : start + 40])
            raise PeerMisbehaved(f"The peer sent something else: {seen!r}", step="framing")
        if len(self._buffer) < start + 2:
            return None
        count = self._buffer[start + 1]
        if not 1 <= count <= MAX_FRAMES:
            raise PeerMisbehaved(f"The peer sent a message of {count} frames", step="framing")
        if len(self._buffer) < start + 2 + 4 * count:
            return None
        lengths: tuple[int, ...] = struct.unpack_from(f">{count}I", self._buffer, start + 2)
        for length, limit in zip(lengths, _LIMITS):
            if length > limit:
                raise PeerMisbehaved(f"The peer sent a frame of {length} bytes", step="framing")
        if sum(lengths) > self._limit:
            what = f"The peer began with a message of {sum(lengths)} bytes"
            raise PeerMisbehaved(what, step="framing")
        return lengths
