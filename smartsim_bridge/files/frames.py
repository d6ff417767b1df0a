"""How the two ends talk: frames of a letter, a length and a body.

A body is JSON, but for content: WHOLE is the number of an entry and then all of a small
file, DATA a piece of a large one, which is handed on as it comes and never gathered.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Iterator
from typing import Any, Union

from .entries import Malformed

__all__ = [
    "ANSWERS",
    "CHOSEN",
    "DATA",
    "END",
    "ENTRIES",
    "FAULT",
    "HAVE_YOU",
    "LISTED",
    "MISSING",
    "OPEN",
    "REMOVE",
    "ROOT",
    "TALLY",
    "TARGET",
    "TOTAL",
    "WHOLE",
    "Body",
    "Cutter",
    "data_frame",
    "fields",
    "frame",
    "json_body",
    "said",
    "whole",
    "whole_body",
]

# From the source.
ROOT, TOTAL, ENTRIES, LISTED = b"R", b"N", b"E", b"L"
WHOLE, OPEN, DATA, END = b"W", b"O", b"D", b"Z"
MISSING, REMOVE = b"M", b"V"
# From the sink.
TARGET, ANSWERS, HAVE_YOU, CHOSEN = b"G", b"A", b"H", b"C"
# From either.
TALLY, FAULT = b"T", b"!"

KINDS = frozenset(
    one
    for group in (
        (ROOT, TOTAL, ENTRIES, LISTED, WHOLE, OPEN, DATA, END, MISSING, REMOVE),
        (TARGET, ANSWERS, HAVE_YOU, CHOSEN, TALLY, FAULT),
    )
    for one in group
)

MAX_BODY = 16 * 1024 * 1024  # a batch of entries, each with the longest path and link

_HEAD = struct.Struct("!cI")
_NUMBER = struct.Struct("!Q")

Body = Union[bytes, memoryview]


def frame(kind: bytes, body: Body = b"") -> bytes:
    """One frame."""
    return _HEAD.pack(kind, len(body)) + body


def data_frame(file: io.FileIO, most: int) -> tuple[Body, int]:
    """A piece of a file, read into its frame; and how many bytes that is, at its end."""
    framed = bytearray(_HEAD.size + most)
    view = memoryview(framed)
    size = file.readinto(view[_HEAD.size :]) or 0
    _HEAD.pack_into(framed, 0, DATA, size)
    return view[: _HEAD.size + size], size


def said(kind: bytes, what: Any) -> bytes:
    """One frame with a value."""
    return frame(kind, json.dumps(what, separators=(",", ":")).encode("ascii"))


def whole(number: int, content: bytes) -> bytes:
    """One frame with all of a small file: entry `number` of the list."""
    return frame(WHOLE, _NUMBER.pack(number) + content)


def whole_body(body: Body) -> tuple[int, Body]:
    """Number and content.  Raises Malformed."""
    if len(body) < _NUMBER.size:
        raise Malformed("a file without a number")
    return _NUMBER.unpack_from(body)[0], body[_NUMBER.size :]


def json_body(body: Body, kind: type) -> Any:
    """The value in it.  Raises Malformed where it is none of that type."""
    try:
        value = json.loads(bytes(body))
    except (ValueError, RecursionError):
        raise Malformed("no JSON") from None
    if not isinstance(value, kind):
        raise Malformed(f"{type(value).__name__} where {kind.__name__} is due")
    return value


def fields(body: Body, count: int) -> list[Any]:
    """The values of a list of so many.  Raises Malformed."""
    found: list[Any] = json_body(body, list)
    if len(found) != count:
        raise Malformed(f"{len(found)} values where {count} are due")
    return found


class Cutter:
    """Cuts what arrives, in whatever pieces, into frames; DATA comes in as many as it did."""

    def __init__(self) -> None:
        self._kept = bytearray()  # of a frame that is not complete
        self._data = 0  # bytes of a DATA frame that are still to come

    def feed(self, data: Body) -> Iterator[tuple[bytes, Body]]:
        """Kind and body of each frame that is complete.  Raises Malformed."""
        if self._kept:
            self._kept += data
            data, self._kept = bytes(self._kept), bytearray()
        view = memoryview(data)
        while view:
            if self._data:
                piece = view[: self._data]
                self._data -= len(piece)
                view = view[len(piece) :]
                yield DATA, piece
                continue
            if len(view) < _HEAD.size:
                break
            kind, length = _HEAD.unpack_from(view)
            if kind not in KINDS or length > MAX_BODY:
                raise Malformed(f"no frame begins with {bytes(view[:8])!r}")
            if kind == DATA:
                self._data = length
                view = view[_HEAD.size :]
                continue
            if len(view) < _HEAD.size + length:
                break
            yield kind, view[_HEAD.size : _HEAD.size + length]
            view = view[_HEAD.size + length :]
        self._kept += view
