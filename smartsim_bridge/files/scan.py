"""What there is in a tree, one entry after the other, whatever its size.

Nothing is sorted and nothing kept: a folder of a million files costs no more memory than an
empty one.  A symbolic link is told as such, or followed, and then never round in circles.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

from .entries import (
    FILE,
    FOLDER,
    KEEPS_MODES,
    LINK,
    NO_MODE,
    Entry,
    is_part,
    kind_of,
    on_wire,
    why_skipped,
)
from .patterns import Patterns

__all__ = ["FOLLOW", "KEEP", "LEFT_OUT", "SKIP", "SYMLINKS", "Scan", "describe"]

KEEP, FOLLOW, SKIP = SYMLINKS = ("keep", "follow", "skip")  # what becomes of symbolic links

LEFT_OUT = "larger than max_size"

# Told of what takes no part, and why: (path, reason, whether it is a failure).
Tell = Callable[[str, str, bool], None]

_Inside = Any  # what os.scandir gives: an iterator that is closed
_Folder = tuple[_Inside, str, tuple[tuple[int, int], ...]]


class Scan:
    """The entries below `root`, folders before what is in them; `tell` hears of the rest.

    `avoid` is name and inode of a folder that is not looked into: where all this is put.
    """

    def __init__(self, root: str, patterns: Patterns, symlinks: str, tell: Tell) -> None:
        self.avoid = ("", 0)
        self._root = root
        self._patterns = patterns
        self._symlinks = symlinks
        self._tell = tell

    def __iter__(self) -> Iterator[Entry]:
        # A stack of our own: a tree may be deeper than Python's.
        folders = self._opened(self._root, "", ())
        try:
            while folders:
                inside, path, above = folders[-1]
                one = self._next(inside, path)
                if one is None:
                    folders.pop()[0].close()
                    continue
                entry = self._entry(one, path)
                if entry is None:
                    continue
                if entry.kind != FOLDER or not self._patterns.include:
                    yield entry
                if entry.kind == FOLDER:
                    folders += self._opened(one.path, entry.path, above)
        finally:
            for inside, _, _ in folders:
                inside.close()

    def _opened(self, place: str, path: str, above: tuple[tuple[int, int], ...]) -> list[_Folder]:
        """The folder, ready to be read; nothing where it cannot be, which is told."""
        try:
            if self._symlinks == FOLLOW:
                found = os.stat(place)
                here = (found.st_dev, found.st_ino)
                if here in above:
                    self._tell(path, "a link to a folder above it", False)
                    return []
                above = (*above, here)
            return [(os.scandir(place), path, above)]
        except OSError as unreadable:
            self._tell(path, unreadable.strerror or str(unreadable), True)
            return []

    def _next(self, inside: _Inside, path: str) -> os.DirEntry[str] | None:
        try:
            return next(inside, None)
        except OSError as unreadable:
            self._tell(path, unreadable.strerror or str(unreadable), True)
            return None

    def _entry(self, one: os.DirEntry[str], above: str) -> Entry | None:
        path = f"{above}/{on_wire(one.name)}" if above else on_wire(one.name)
        try:
            found = self._look(one)
            kind = kind_of(found)
            if is_part(one.name) or not self._takes(kind, path, found):
                return None
            link = os.readlink(one.path) if kind == LINK else ""
        except FileNotFoundError:
            return None  # it went meanwhile, as if it had before
        except OSError as unreadable:
            self._tell(path, unreadable.strerror or str(unreadable), True)
            return None
        if kind == FOLDER and (on_wire(one.name), found.st_ino) == self.avoid:
            self._tell(path, "this is where it is put", True)
            return None
        return describe(path, kind, found, link)

    def _look(self, one: os.DirEntry[str]) -> os.stat_result:
        if self._symlinks == FOLLOW and one.is_symlink():
            try:
                return os.stat(one.path)
            except FileNotFoundError:
                pass  # it leads nowhere: kept as a link
        # What DirEntry caches on Windows lacks device and inode, and may be old.
        return os.lstat(one.path)

    def _takes(self, kind: str, path: str, found: os.stat_result) -> bool:
        if self._patterns.leaves_out(path, is_folder=kind == FOLDER):
            return False
        limit = self._patterns.max_size
        why = ""
        if not kind:
            why = why_skipped(found)
        elif kind == LINK and self._symlinks == SKIP:
            why = "a symbolic link"
        elif kind == FILE and limit is not None and found.st_size > limit:
            why = LEFT_OUT
        if why:
            self._tell(path, why, False)
        return not why


def describe(path: str, kind: str, found: os.stat_result, link: str = "") -> Entry:
    """The entry of what was found."""
    size = found.st_size if kind == FILE else 0
    mode = found.st_mode & 0o777 if KEEPS_MODES else NO_MODE
    return Entry(path, kind, size, found.st_mtime_ns, mode, on_wire(link))
