"""Where the output of commands is kept until nobody needs it any more.

In memory first: a command that prints a few lines never touches a file.  What one stream
holds beyond its share goes to files in one go, so each stream is files (its older bytes)
and then memory (its newer ones).  A disk that fails costs nothing that was kept: the bytes
stay in memory, and `room` asks whoever reads from the command to wait.

Knows streams of bytes and their offsets, not who acknowledges them.  Used from the event
loop, and blocks it only for the copy into the page cache.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import time
from bisect import bisect_left, bisect_right
from itertools import accumulate
from typing import Any

from ..errors import UnsafeDirectory
from .places import private_directory
from .segments import Segment

__all__ = ["Kept", "Spool"]

MIB = 1024 * 1024

# Of all streams together, before each gets the small share: with what the server takes anyway
# and with what is on its way it stays below 100 MiB, however many readers have stopped.
MEMORY = 32 * MIB
QUOTA = 1024 * MIB  # of all streams together; homes with a quota of few GB are common
STREAM_QUOTA = 256 * MIB  # one command that floods leaves room for others

# A stream's share of memory: what its client has as credit fits, so with a client that
# reads nothing is ever written; the small share once memory is scarce.
OWN_MEMORY, SCARCE_MEMORY = MIB, 64 * 1024

SEGMENT = 8 * MIB  # files are removed whole: so much more than needed may lie on the disk
PIECE = 2 * MIB  # written at once: a share and a read, but not all that a full disk left here
COALESCED = 4096  # below that, an object of its own costs more than copying the bytes

RETRY_SECONDS = 5.0  # until a disk that failed is tried again, where nothing was removed
WARN_SECONDS = 600.0  # a disk that is full by turns must not fill the log, too

# Ids are drawn by clients; only what can be nothing but a plain file name becomes one.
_PLAIN_ID = re.compile(r"[0-9a-f]{1,64}", re.ASCII)
_OURS = re.compile(r"[0-9a-f]{1,64}-[0-9]{1,10}-[0-9]{1,20}\.spool", re.ASCII)
NAME_ATTEMPTS = 100  # names that are taken: planted, or left by one that could not be removed

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_logger = logging.getLogger(__name__)


class Spool:
    """All output that one server keeps; `directory` must belong to this server alone."""

    def __init__(self, directory: str, *, memory: int = MEMORY, quota: int = QUOTA) -> None:
        self._directory = directory
        self._is_checked = False  # the directory is there, ours and private
        self._segments = 0  # made so far
        self._retry_at = 0.0  # monotonic; means something only while there is a fault
        self._warn_at = 0.0
        self.memory = memory
        self.quota = quota
        self.in_memory = 0  # bytes now, of all streams
        self.on_disk = 0
        self.fault = ""  # why the last write failed, for people

    def clear(self) -> None:
        """Removes what a dead server left, before anything is kept here.  Never raises."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            directory = os.open(self._directory, flags)
        except OSError:
            return
        try:
            for name in filter(_OURS.fullmatch, os.listdir(directory)):
                try:
                    os.unlink(name, dir_fd=directory)
                except OSError:
                    pass  # a directory of that name, or a failing disk
        except OSError as refused:
            _logger.warning("Cannot clear the spool: %s", refused)
        finally:
            os.close(directory)

    def hand_over(self) -> int:
        """How many files were made: the next must not have the name of one that is there."""
        return self._segments

    def take_over(self, made: int) -> None:
        """Goes on with the files of another program, instead of `clear`."""
        self._segments = made

    def keep(self, command: str, stream: int) -> Kept:
        """A place for the bytes of one stream of a command."""
        return Kept(self, command, stream)

    def can_write(self) -> bool:
        """Whether the disk works, or it is time to try it again."""
        return not self.fault or time.monotonic() >= self._retry_at

    def wrote(self) -> None:
        """The disk took everything."""
        self.fault = ""

    def failed(self, refused: OSError) -> None:
        """The disk did not take it; tried again later, or when something was removed."""
        reason = refused.strerror or str(refused)
        full = "is full" if refused.errno in _FULL else "fails"
        self.fault = f"the disk {full}: {reason}"
        now = time.monotonic()
        self._retry_at = now + RETRY_SECONDS
        if now >= self._warn_at:
            self._warn_at = now + WARN_SECONDS
            _logger.warning("Cannot spool output to %s: %s", self._directory, reason)

    def removed(self, segment: Segment) -> None:
        """A file is gone: there may be room again."""
        self.on_disk -= segment.end - segment.start
        self._retry_at = 0.0

    def segment(self, command: str, stream: int, start: int) -> Segment:
        """A new file; raises OSError."""
        if not self._is_checked:
            self._check_directory()
        for _ in range(NAME_ATTEMPTS):
            self._segments += 1  # counted for all: two clients may draw the same id
            name = f"{_file_stem(command)}-{stream}-{self._segments}.spool"
            path = os.path.join(self._directory, name)
            try:
                return Segment(path, start)
            except FileExistsError:
                pass
            except FileNotFoundError:
                self._check_directory()  # somebody removed it under us
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)

    def _check_directory(self) -> None:
        try:
            private_directory(self._directory)
        except UnsafeDirectory as refused:
            raise OSError(errno.EACCES, refused.what, self._directory) from None
        self._is_checked = True

    def __repr__(self) -> str:
        fault = f", {self.fault}" if self.fault else ""
        return f"<Spool: {self.in_memory} bytes in memory, {self.on_disk} on disk{fault}>"


class Kept:
    """The bytes [base, end) of one stream: files up to `_fresh`, memory from there on."""

    __slots__ = (
        "_chunks",
        "_command",
        "_fresh",
        "_segments",
        "_spool",
        "_starts",
        "_stream",
        "base",
        "end",
    )

    def __init__(self, spool: Spool, command: str, stream: int) -> None:
        self._spool = spool
        self._command = command
        self._stream = stream
        self._segments: list[Segment] = []
        self._chunks: list[bytes] = []
        self._starts: list[int] = []  # offset of each chunk
        self._fresh = 0
        self.base = 0
        self.end = 0

    def hand_over(self) -> dict[str, Any]:
        """All of it, the bytes in memory as they are."""
        segments = [segment.hand_over() for segment in self._segments]
        return {
            "base": self.base,
            "end": self.end,
            "fresh": self._fresh,
            "segments": segments,
            "chunks": self._chunks,
        }

    def take_over(self, past: dict[str, Any]) -> None:
        """Becomes what another program has handed over."""
        self.base, self.end, self._fresh = past["base"], past["end"], past["fresh"]
        self._segments = [Segment.take_over(one) for one in past["segments"]]
        self._chunks = past["chunks"]
        sizes = (len(chunk) for chunk in self._chunks[:-1])
        self._starts = list(accumulate(sizes, initial=self._fresh)) if self._chunks else []
        self._spool.in_memory += self.end - self._fresh
        self._spool.on_disk += sum(segment.end - segment.start for segment in self._segments)

    def append(self, data: bytes) -> int:
        """Keeps more bytes and gives the offset of the first.  Never refuses, never loses."""
        offset, size = self.end, len(data)
        if not size:
            return offset
        chunks = self._chunks
        if chunks and len(chunks[-1]) + size <= COALESCED:
            chunks[-1] += data
        else:
            chunks.append(data)
            self._starts.append(offset)
        self.end = end = offset + size
        self._spool.in_memory += size
        if end - self._fresh > SCARCE_MEMORY and end - self._fresh > self._share:
            self._spill()
        return offset

    def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset`, at least one if there is one.

        Raises OSError where its file is lost or the disk fails, ValueError for an offset
        that is not kept.
        """
        if not self.base <= offset <= self.end:
            raise ValueError(f"Byte {offset} is not within {self.base} to {self.end}")
        if size <= 0 or offset == self.end:
            return b""
        if offset < self._fresh:
            return self._segment_of(offset).read(offset, size)
        return self._read_memory(offset, size)

    def drop_below(self, offset: int) -> None:
        """Bytes below `offset` are not needed any more.

        Only whole files go, so `base` may stay a little below.
        """
        if offset <= self.base:
            return
        segments = self._segments
        while segments and segments[0].end <= offset:
            segment = segments.pop(0)
            segment.remove()
            self._spool.removed(segment)
        if not segments:
            if offset >= self.end:
                self._forget(len(self._chunks))
            else:
                self._forget(bisect_right(self._starts, offset) - 1)
                self._cut(offset)
        self.base = segments[0].start if segments else self._fresh

    def trim(self, quota: int, below: int) -> None:
        """Drops the oldest of what lies below `below` while more than `quota` bytes are held."""
        line = self.end - quota
        if line > self.base and below > self.base:
            self.drop_below(min(below, self._piece_end(line)))

    @property
    def can_spill(self) -> bool:
        """Whether more than memory may hold can be kept: not while the disk is at fault."""
        return not self._spool.fault

    @property
    def room(self) -> int:
        """How many bytes a command may write that nobody reads.

        Zero says wait and ask again: after something was dropped here or elsewhere, and
        every few seconds, for a failed disk is tried again by asking.
        """
        spool = self._spool
        room = min(
            STREAM_QUOTA - (self.end - self.base),
            spool.quota - spool.in_memory - spool.on_disk,
        )
        if spool.fault:
            if self.end - self._fresh >= self._share:
                self._spill()
            if spool.fault:  # still: what memory holds for everybody, and no more
                room = min(room, self._share - (self.end - self._fresh))
        return max(0, room)

    @property
    def why_full(self) -> str:
        """Why there is no room, for people; empty where there is some."""
        spool = self._spool
        if self.end - self.base >= STREAM_QUOTA:
            return f"its spool of {_mib(STREAM_QUOTA)} is full"
        if spool.in_memory + spool.on_disk >= spool.quota:
            return f"the server's spool of {_mib(spool.quota)} is full"
        if spool.fault and self.end - self._fresh >= self._share:
            return spool.fault
        return ""

    def close(self) -> None:
        """Forgets all and removes its files; may be said again."""
        self.drop_below(self.end)

    # --- memory

    @property
    def _share(self) -> int:
        """How much of it may be in memory."""
        scarce = self._spool.in_memory > self._spool.memory
        return SCARCE_MEMORY if scarce else OWN_MEMORY

    def _read_memory(self, offset: int, size: int) -> bytes:
        chunks = self._chunks
        index = bisect_right(self._starts, offset) - 1
        skip = offset - self._starts[index]
        first = chunks[index][skip : skip + size]
        missing = size - len(first)
        if not missing or index + 1 == len(chunks):
            return first
        pieces = [first]
        while missing and index + 1 < len(chunks):
            index += 1
            pieces.append(chunks[index][:missing])
            missing -= len(pieces[-1])
        return b"".join(pieces)

    def _forget(self, count: int) -> None:
        """Takes the oldest chunks out of memory."""
        if count > 0:
            fresh = self._starts[count] if count < len(self._starts) else self.end
            del self._chunks[:count], self._starts[:count]
            self._spool.in_memory -= fresh - self._fresh
            self._fresh = fresh

    def _cut(self, offset: int) -> None:
        """Shortens the oldest chunk: what is acknowledged must not count against the share."""
        skip = offset - self._fresh
        if skip:
            self._chunks[0] = self._chunks[0][skip:]
            self._starts[0] = self._fresh = offset
            self._spool.in_memory -= skip

    def _piece_end(self, offset: int) -> int:
        """The end of the file or chunk that byte `offset` - 1 is in."""
        if offset <= self._fresh:
            return self._segment_of(offset - 1).end
        index = bisect_left(self._starts, offset)
        return self._starts[index] if index < len(self._starts) else self.end

    # --- files

    def _spill(self) -> None:
        """Writes the memory part to files; what the disk does not take stays in memory."""
        if not self._spool.can_write():
            return
        try:
            while self._chunks:
                count = len(self._chunks)
                if self.end - self._fresh > PIECE:
                    count = max(1, bisect_right(self._starts, self._fresh + PIECE) - 1)
                data = b"".join(self._chunks[:count])
                self._write(data)
                self._forget(count)
                self._spool.on_disk += len(data)
        except OSError as refused:
            self._spool.failed(refused)
        else:
            self._spool.wrote()

    def _write(self, data: bytes) -> None:
        segments = self._segments
        if segments and segments[-1].end - segments[-1].start < SEGMENT:
            try:
                segments[-1].append(data)
                return
            except OSError as refused:
                if refused.errno != errno.ESTALE:
                    raise
                # What it held is lost, and reading will say so; what comes now need not be.
        segments.append(self._spool.segment(self._command, self._stream, self._fresh))
        segments[-1].append(data)

    def _segment_of(self, offset: int) -> Segment:
        # The last one that begins there: one that never got a byte may begin there, too.
        return next(each for each in reversed(self._segments) if each.start <= offset)

    def __repr__(self) -> str:
        return (
            f"<Kept {self.base} to {self.end} of stream {self._stream}: "
            f"{len(self._segments)} files, {self.end - self._fresh} bytes in memory>"
        )


def _file_stem(command: str) -> str:
    if _PLAIN_ID.fullmatch(command):
        return command
    return hashlib.sha256(command.encode("utf-8", "surrogatepass")).hexdigest()


def _mib(size: int) -> str:
    return f"{size // MIB} MiB"
