"""What a process of this machine holds on disk: its open files and the names of its sockets.

For the promise of the demo that nothing stays: what the server held while it ran must be
gone when it is.  Looking at what it really has open beats knowing where it should have
been.  Reads /proc; where there is none, it finds nothing.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["Footprint", "held_paths"]

SOCKET = "socket:["


class Footprint:
    """What this run puts on the disk of this machine, from before it begins to after its end.

    Made before; `note` takes in what a process holds while it runs; `left` tells, when all
    is over, what of it is still there.
    """

    def __init__(self) -> None:
        self._places = {Path("/tmp"), Path(tempfile.gettempdir())}  # noqa: S108 - looked at only
        self._known = {entry for place in self._places for entry in place.iterdir()}
        self._known |= held_paths(os.getpid())
        self._noted: set[Path] = set()

    def note(self, pid: int) -> None:
        """What `pid` holds now, and did not before."""
        self._noted |= held_paths(pid) - self._known

    def left(self) -> list[str]:
        """What is still there, once the empty has been swept away."""
        self._sweep()
        return sorted(str(path) for path in self._noted if path.exists())

    def _sweep(self) -> None:
        """Removes empty locks, and empty directories that were made since.

        A server lets go of its lock and leaves the file to the next one, as it does with
        its directory; there will be no next one for a home that was made for this run.
        """
        for path in self._noted:
            if path.suffix == ".lock" and path.is_file() and path.stat().st_size == 0:
                path.unlink()
            for parent in self._made_since(path):
                with suppress(OSError):  # not empty: somebody uses it
                    parent.rmdir()

    def _made_since(self, path: Path) -> list[Path]:
        """The directories above `path` that are new with it, the deepest first."""
        above = list(path.parents)
        for number, parent in enumerate(above):
            if parent in self._places:
                return above[:number] if above[number - 1] not in self._known else []
        return []


def held_paths(pid: int) -> set[Path]:
    """Regular files that `pid` has open, and files its unix sockets are bound to."""
    return {path for path in _named(pid) if _is_trace(path)}


def _named(pid: int) -> Iterator[Path]:
    names = _socket_names()
    for link in Path(f"/proc/{pid}/fd").glob("*"):
        try:
            target = os.readlink(link)
        except OSError:
            continue  # closed between the listing and the reading
        if target.startswith(SOCKET):
            target = names.get(target[len(SOCKET) : -1], "")
        if target.startswith("/"):
            yield Path(target)


def _socket_names() -> dict[str, str]:
    """Inode to path, of all unix sockets that have one."""
    try:
        lines = Path("/proc/net/unix").read_text(errors="replace").splitlines()
    except OSError:
        return {}
    # Num RefCount Protocol Flags Type State Inode Path; unnamed ones have no path.
    fields = (line.split(maxsplit=7) for line in lines[1:])
    return {words[6]: words[7] for words in fields if len(words) == 8}


def _is_trace(path: Path) -> bool:
    try:
        mode = path.lstat().st_mode
    except OSError:
        return False  # deleted already
    return stat.S_ISREG(mode) or stat.S_ISSOCK(mode)
