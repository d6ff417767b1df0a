"""What a process of this machine holds on disk: its open files and the names of its sockets.

For the promise of the demo that nothing stays: what the server held while it ran must be
gone when it is.  Looking at what it really has open beats knowing where it should have
been.  Reads /proc; where there is none, it finds nothing.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

__all__ = ["held_paths"]

SOCKET = "socket:["


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
