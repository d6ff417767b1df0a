"""The folder that a receiving end writes into, and never leaves.

Each name of a path is opened below the one before it and never through a symbolic link,
so neither a hostile list nor a link that somebody puts there meanwhile leads out.  Where
the system cannot open below a descriptor (Windows) each name is looked at first.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import NamedTuple

from .entries import from_wire

__all__ = ["Ground", "Place"]

_CAN_OPEN_BELOW = os.supports_dir_fd >= {
    *(os.open, os.mkdir, os.stat, os.unlink, os.rmdir, os.rename),
    *(os.chmod, os.utime, os.readlink, os.symlink),
}
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | _NOFOLLOW | getattr(os, "O_CLOEXEC", 0)

NEW_FOLDER = 0o777  # and the umask


class Place(NamedTuple):
    """A name in a folder: below `folder`, an open descriptor, or (None) a whole path."""

    folder: int | None
    name: str

    def beside(self, name: str) -> Place:
        """Another name in the same folder."""
        if self.folder is not None:
            return Place(self.folder, name)
        return Place(None, os.path.join(os.path.dirname(self.name), name))

    def look(self) -> os.stat_result | None:
        """What is there, a link as such; None for nothing."""
        try:
            return os.stat(self.name, dir_fd=self.folder, follow_symlinks=False)
        except FileNotFoundError:
            return None


class Ground:
    """A folder, and the way into the folders below it."""

    def __init__(self, root: str) -> None:
        os.makedirs(root, exist_ok=True)
        self.root = root
        self.made = 0  # folders, so far
        self._root = os.open(root, _FOLDER & ~_NOFOLLOW) if _CAN_OPEN_BELOW else None
        # The way to the folder that was asked for last: most paths share it.
        self._names: list[str] = []
        self._open: list[int] = []

    def place(self, path: str) -> Place:
        """Where a checked path is; makes the folders above it.  Raises OSError."""
        *folders, name = [from_wire(one) for one in path.split("/")]
        if self._root is None:
            return Place(None, os.path.join(self._walk(folders), name))
        same = 0
        while same < min(len(folders), len(self._names)) and folders[same] == self._names[same]:
            same += 1
        self._leave(same)
        for one in folders[same:]:
            self._enter(one)
        return Place(self._open[-1] if self._open else self._root, name)

    def make_folder(self, place: Place) -> bool:
        """Makes it where it is not; whether it was made.  Raises OSError."""
        try:
            os.mkdir(place.name, NEW_FOLDER, dir_fd=place.folder)
        except FileExistsError:
            found = place.look()
            if found is None or not stat.S_ISDIR(found.st_mode):
                raise _in_the_way(place.name, found) from None
            return False
        self.made += 1
        return True

    def forget(self) -> None:
        """The way that was taken last may not be there any more."""
        self._leave(0)

    def close(self) -> None:
        """Leaves it."""
        self._leave(0)
        if self._root is not None:
            os.close(self._root)
            self._root = None

    def _enter(self, name: str) -> None:
        above = self._open[-1] if self._open else self._root
        place = Place(above, name)
        try:
            inside = os.open(name, _FOLDER, dir_fd=above)
        except FileNotFoundError:
            self.make_folder(place)
            inside = os.open(name, _FOLDER, dir_fd=above)
        except OSError as refused:
            if refused.errno in (errno.ELOOP, errno.ENOTDIR, errno.EMLINK):
                raise _in_the_way(name, place.look()) from None
            raise
        self._names.append(name)
        self._open.append(inside)

    def _leave(self, depth: int) -> None:
        while len(self._open) > depth:
            os.close(self._open.pop())
            self._names.pop()

    def _walk(self, folders: list[str]) -> str:
        path = self.root
        for one in folders:
            path = os.path.join(path, one)
            self.make_folder(Place(None, path))
        return path


def _in_the_way(name: str, found: os.stat_result | None) -> OSError:
    is_link = found is not None and stat.S_ISLNK(found.st_mode)
    what = "a symbolic link" if is_link else "a file"
    return OSError(errno.ENOTDIR, f"{what} is in the way, and is left as it is", name)
