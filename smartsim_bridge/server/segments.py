"""One file that holds a part of what a command wrote, and nothing that anybody else put there.

Opened and closed for each use: thousands of commands may have such files, and on a network
file system it is the close that tells whether the bytes found room.  Must not know which
part is still needed, nor how much may be kept; `spool` does.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Sequence
from typing import Any

__all__ = ["Segment"]

_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW

# A file whose name leads nowhere, or elsewhere: as lost as one that was truncated.
_LOST = (errno.ENOENT, errno.ELOOP, errno.ESTALE)


class Segment:
    """The bytes [start, end) of one stream.

    Whatever is read or added raises OSError with errno ESTALE where somebody removed,
    replaced or truncated the file, and another OSError where the disk fails.
    """

    __slots__ = ("_inode", "end", "path", "start")

    def __init__(self, path: str, start: int) -> None:
        """Makes the file, empty; raises FileExistsError where there is anything of that name."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600)
        try:
            os.fchmod(descriptor, 0o600)  # a umask may have taken even the owner's rights
            self._inode = os.fstat(descriptor).st_ino
        finally:
            os.close(descriptor)
        self.path = path
        self.start = self.end = start

    def hand_over(self) -> list[object]:
        """What `take_over` needs to know it again."""
        return [self.path, self._inode, self.start, self.end]

    @classmethod
    def take_over(cls, past: Sequence[Any]) -> Segment:
        """One that another program has made; whether it is there still, reading tells."""
        self = cls.__new__(cls)
        self.path, self._inode, self.start, self.end = past
        return self

    def append(self, data: bytes) -> None:
        """Adds all of `data`, or raises OSError and has added nothing.

        Each write says where it goes, so what a failed one left behind `end` is never read
        and is overwritten by the next.
        """
        descriptor = self._open(os.O_WRONLY)
        try:
            self._write(descriptor, data)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, self.end - self.start)
            with contextlib.suppress(OSError):
                os.close(descriptor)
            raise
        os.close(descriptor)  # NFS tells here that the quota is used up
        self.end += len(data)

    def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset`, which lies within; at least one."""
        descriptor = self._open(os.O_RDONLY)
        try:
            data = os.pread(descriptor, min(size, self.end - offset), offset - self.start)
        finally:
            os.close(descriptor)
        if not data:
            raise self._lost()
        return data

    def remove(self) -> None:
        """Removes the file, if it can be removed."""
        with contextlib.suppress(OSError):
            os.unlink(self.path)

    def _open(self, flags: int) -> int:
        try:
            descriptor = os.open(self.path, flags | _FLAGS)
        except OSError as refused:
            if refused.errno in _LOST:
                raise self._lost() from None
            raise
        try:
            found = os.fstat(descriptor)
            # A write behind the end of a shorter one would leave a hole that reads as zeros.
            if found.st_ino != self._inode or found.st_size < self.end - self.start:
                raise self._lost()
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def _write(self, descriptor: int, data: bytes) -> None:
        rest, position = memoryview(data), self.end - self.start
        while rest:
            count = os.pwrite(descriptor, rest, position)
            if count <= 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.path)
            rest, position = rest[count:], position + count

    def _lost(self) -> OSError:
        return OSError(errno.ESTALE, "Spooled output was removed or changed", self.path)

    def __repr__(self) -> str:
        return f"<Segment {os.path.basename(self.path)}: {self.start} to {self.end}>"
