"""One file that is written: beside its place, and renamed into it when it is complete.

So nobody ever sees half a file under its name.  No fsync: after a crash of the host the
last seconds may be missing, as with cp, and the next sync sees it.  What a large file had
when the link, the server or the client died is kept under a name that follows from its own,
and the next transfer goes on from it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
import stat
from typing import Any

from .delta import digest_of
from .entries import NO_MODE, PART_PREFIX, PART_SUFFIX, Entry
from .frames import Body
from .ground import Place

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["RESUME_FROM", "Landing", "own_part", "partial_of", "settle", "write_whole"]

# Below this, sending it again costs no more than asking what is there.
RESUME_FROM = 1024 * 1024

DEFAULT_MODE = 0o644  # of a file whose mode nobody knows

_WRITE = (
    os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)  # fmt: skip
# Names that nobody else writes under: of this process, and one for each.
_TOKEN = os.urandom(6).hex()
_numbers = itertools.count()


def write_whole(place: Place, content: Body, entry: Entry) -> None:
    """Writes a small file at once.  Raises OSError, and leaves nothing."""
    landing = Landing(place, entry, 0)
    try:
        landing.write(content)
        landing.finish()
    except BaseException:
        landing.discard()
        raise


def partial_of(place: Place, entry: Entry) -> tuple[int, Any] | None:
    """Length and running digest of what an earlier attempt left; None for nothing."""
    part = place.beside(_part_name(place))
    found = part.look()
    if found is None or not _is_ours(found) or not 0 < found.st_size <= entry.size:
        return None
    try:
        descriptor = os.open(part.name, _WRITE & ~os.O_CREAT, dir_fd=part.folder)
    except OSError:
        return None
    try:
        return found.st_size, digest_of(descriptor, found.st_size)
    finally:
        os.close(descriptor)


class Landing:
    """A file on its way to `place`; the first `begin` bytes are there from an earlier attempt."""

    def __init__(self, place: Place, entry: Entry, begin: int) -> None:
        self._place = place
        self._entry = entry
        self.position = begin
        self._is_resumable = entry.size >= RESUME_FROM
        self._part = place.beside(own_part())
        self._descriptor = -1
        self._before = place.look()
        self._open(begin)

    def write(self, data: Body) -> None:
        """The next bytes.  Raises OSError."""
        view = memoryview(data)
        while view:
            count = os.write(self._descriptor, view)
            self.position += count
            view = view[count:]

    def finish(self) -> None:
        """It is complete: it gets its mode, its time and its name.  Raises OSError."""
        part = self._part
        if hasattr(os, "fchmod"):
            mode = self._entry.mode
            os.fchmod(self._descriptor, DEFAULT_MODE if mode == NO_MODE else mode)
        if os.utime in os.supports_fd:
            os.utime(self._descriptor, ns=(self._entry.mtime, self._entry.mtime))
        else:
            self._close()
            os.utime(part.name, ns=(self._entry.mtime, self._entry.mtime))
        self._close()
        os.replace(
            part.name, self._place.name, src_dir_fd=part.folder, dst_dir_fd=self._place.folder
        )

    def restart(self) -> None:
        """The file changed while it was read: from its first byte."""
        os.ftruncate(self._descriptor, 0)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        self.position = 0

    def leave(self) -> None:
        """Keeps it for a later attempt, where that is worth it and nobody was faster."""
        if self._is_resumable and self.position and _is_same(self._before, self._place.look()):
            self._close()
        else:
            self.discard()

    def discard(self) -> None:
        """Removes what was written."""
        part = self._part
        for _ in range(2):  # Windows removes no file that is open; others keep its lock so long
            with contextlib.suppress(OSError):
                os.unlink(part.name, dir_fd=part.folder)
                break
            self._close()
        self._close()

    def _open(self, begin: int) -> None:
        folder = self._part.folder
        if self._is_resumable:
            part = self._place.beside(_part_name(self._place))
            descriptor = os.open(part.name, _WRITE, 0o600, dir_fd=folder)
            if _is_mine_alone(descriptor, part):
                self._part, self._descriptor = part, descriptor
            else:
                self._descriptor = self._copy(descriptor, begin)
            os.ftruncate(self._descriptor, begin)
            os.lseek(self._descriptor, begin, os.SEEK_SET)
            return
        self._descriptor = os.open(self._part.name, _WRITE | os.O_EXCL, 0o600, dir_fd=folder)

    def _copy(self, other: int, begin: int) -> int:
        """Somebody else is writing the same file: a name of our own, with what he has."""
        mine = os.open(self._part.name, _WRITE | os.O_EXCL, 0o600, dir_fd=self._part.folder)
        self._is_resumable = False
        try:
            os.lseek(other, 0, os.SEEK_SET)
            while begin > 0:
                piece = os.read(other, min(begin, RESUME_FROM))
                if not piece:
                    raise OSError("what an earlier attempt left is gone")
                os.write(mine, piece)
                begin -= len(piece)
        finally:
            os.close(other)
        return mine

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)  # where a quota may be told of first


def own_part() -> str:
    """A name that nobody else writes under."""
    return f"{PART_PREFIX}{_TOKEN}-{next(_numbers)}{PART_SUFFIX}"


def settle(place: Place, entry: Entry) -> None:
    """Gives what is there already its mode and time.  Raises OSError."""
    follows = os.utime not in os.supports_follow_symlinks  # Windows
    found = place.look()
    if found is not None and not entry.has_mode_of(found):
        os.chmod(place.name, entry.mode, dir_fd=place.folder)
    os.utime(
        place.name, ns=(entry.mtime, entry.mtime), dir_fd=place.folder, follow_symlinks=follows
    )


def _part_name(place: Place) -> str:
    name = os.path.basename(place.name) if place.folder is None else place.name
    return f"{PART_PREFIX}{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}{PART_SUFFIX}"


def _is_same(one: os.stat_result | None, other: os.stat_result | None) -> bool:
    if one is None or other is None:
        return one is other
    return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)


def _is_ours(found: os.stat_result) -> bool:
    """Whether nobody else can have made it, or reads it by another name."""
    is_plain = stat.S_ISREG(found.st_mode) and found.st_nlink == 1
    return is_plain and (not hasattr(os, "geteuid") or found.st_uid == os.geteuid())


def _is_mine_alone(descriptor: int, part: Place) -> bool:
    """Whether no other process is writing it; from now on none will."""
    if fcntl is not None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as held:
            if held.errno in (errno.EWOULDBLOCK, errno.EACCES):
                return False  # any other: a file system without locks
    mine, named = os.fstat(descriptor), part.look()
    # Whoever held it until now may have renamed it to its place.
    return _is_same(mine, named) and _is_ours(mine)
