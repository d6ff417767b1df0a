"""The streams of a command as ordinary Python files, for the blocking face.

A raw file on the async stream, and io's own buffering and text on top: lines, iteration
and encodings are those of every other file.
"""

from __future__ import annotations

import contextlib
import io
from typing import IO, Any, Optional, cast

from ..errors import LinkLost
from .portal import Portal
from .streams import InputWriter, OutputReader
from .text import ENCODING, ERRORS

__all__ = ["TextMode", "open_input", "open_output"]

# encoding and errors; None for bytes
TextMode = Optional[tuple[Optional[str], Optional[str]]]

BUFFER = 64 * 1024  # one trip to the loop's thread for as much as is there


class _Reading(io.RawIOBase):
    def __init__(self, stream: OutputReader, through: Portal) -> None:
        self._stream = stream
        self._portal = through

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._portal.call(self._stream.read(len(buffer)))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._portal.post(self._stream.close)


class _Writing(io.RawIOBase):
    def __init__(self, stream: InputWriter, through: Portal) -> None:
        self._stream = stream
        self._portal = through

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        content = bytes(data)
        if self._portal.can_wait:
            self._portal.call(self._stream.write(content))
        else:
            # Collected before it was flushed: sent if there is room, as nobody can wait.
            self._portal.post(lambda: self._send(content))
        return len(content)

    def _send(self, content: bytes) -> None:
        if self._stream.fits(content) and not self._stream.is_closed:
            with contextlib.suppress(LinkLost):
                self._stream.write_now(content)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._portal.post(self._stream.close)


def open_output(stream: OutputReader, through: Portal, text: TextMode) -> IO[Any]:
    """stdout or stderr, readable."""
    file = io.BufferedReader(_Reading(stream, through), BUFFER)
    if text is None:
        return cast(IO[Any], file)
    encoding, errors = text
    return io.TextIOWrapper(file, encoding or ENCODING, errors or ERRORS)


def open_input(stream: InputWriter, through: Portal, text: TextMode) -> IO[Any]:
    """stdin, writable; flush or close sends what was written."""
    file = io.BufferedWriter(_Writing(stream, through), BUFFER)
    if text is None:
        return cast(IO[Any], file)
    encoding, errors = text
    return io.TextIOWrapper(file, encoding or ENCODING, errors or "surrogateescape")
