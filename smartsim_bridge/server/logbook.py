"""The server's log: rotated, private, and safe to show on a terminal.

What clients send may end up in a line, so control characters are escaped; what they run
is not logged at all: that is for the audit, where one is asked for, which keeps its lines
in a `RotatedFile` as well.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from contextlib import suppress

__all__ = ["RotatedFile", "open_logbook"]

MAX_BYTES, KEPT = 1024 * 1024, 3  # at most four MiB of a home that may have a small quota

# A link in its place is not followed, and a FIFO there does not hold us up.
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class RotatedFile:
    """Lines in a file of 0600 whatever the umask says; `kept` older ones beside it."""

    def __init__(self, path: str, max_bytes: int, kept: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._kept = kept
        self._descriptor = -1
        self._size = 0

    def open(self) -> None:
        """Opens it, which `write` does as well; raises OSError."""
        descriptor = os.open(self._path, _FLAGS, 0o600)
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
                raise OSError(errno.EPERM, "no file of ours", self._path)
            os.fchmod(descriptor, 0o600)
        except OSError:
            os.close(descriptor)
            raise
        self._descriptor, self._size = descriptor, found.st_size

    def write(self, line: bytes) -> None:
        """Adds a line; raises OSError, and has then added nothing.  A later one may succeed."""
        if self._is_gone():
            self.close()
            self.open()
        if self._size and self._size + len(line) > self._max_bytes:
            self._rotate()
        written = os.write(self._descriptor, line)
        if written < len(line):
            # The disk is full: no half line, which would spoil the next one too.
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._path)
        self._size += written

    def close(self) -> None:
        """Closes it; a later `write` opens it again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _is_gone(self) -> bool:
        """Not open, or somebody has removed it to make room: what we wrote would be lost."""
        return self._descriptor < 0 or os.fstat(self._descriptor).st_nlink == 0

    def _rotate(self) -> None:
        self.close()
        names = [self._path, *(f"{self._path}.{number}" for number in range(1, self._kept + 1))]
        for newer, older in reversed(list(zip(names, names[1:]))):
            with suppress(FileNotFoundError):
                os.replace(newer, older)
        self.open()


class _Handler(logging.Handler):
    """Puts records there; those of a time when the disk is full are lost."""

    def __init__(self, file: RotatedFile) -> None:
        super().__init__()
        self._file = file

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = f"{self.format(record)}\n"
            self._file.write(line.encode("utf-8", "backslashreplace"))
        except OSError:
            pass
        except Exception:  # noqa: BLE001 - as in every handler: who logs must not fail by it
            self.handleError(record)

    def close(self) -> None:
        self._file.close()
        super().close()


class _Escaping(logging.Formatter):
    """One line per record, no control characters."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def open_logbook(path: str) -> None:
    """Sends the log of this process to `path`; without it where it cannot be opened."""
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    file = RotatedFile(path, MAX_BYTES, KEPT)
    try:
        file.open()
    except OSError:
        # A full disk must not keep the server from serving.
        root.addHandler(logging.NullHandler())
        return
    handler = _Handler(file)
    handler.setFormatter(_Escaping("%(asctime)s %(process)d %(levelname)s %(message)s"))
    root.addHandler(handler)
