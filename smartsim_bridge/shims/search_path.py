"""This process's PATH, and the variable by which shims find the reception.

Several bridges may have shims here at once: the one opened last is found first, and each
takes away what it has brought, in any order.  What somebody else has changed meanwhile is
left alone.  The only room that writes to the environment of this process.
"""

from __future__ import annotations

import os

from .wire import SOCKET_VARIABLE

__all__ = ["Entry", "enter"]

_entries: list[Entry] = []
_found: str | None = None  # the variable as it was before the first of them: a shell's


class Entry:
    """One folder at the head of PATH, and one socket in the variable."""

    def __init__(self, folder: str, socket: str) -> None:
        self.folder = folder
        self.socket = socket

    def leave(self) -> None:
        """Takes both away; more than once does no harm."""
        if self not in _entries:
            return
        was_last = _entries[-1] is self
        _entries.remove(self)
        _take_off(self.folder)
        if was_last and os.environ.get(SOCKET_VARIABLE) == self.socket:
            _tell(_entries[-1].socket if _entries else _found)


def enter(folder: str, socket: str) -> Entry:
    """Puts the folder first on PATH, and names the socket to every child from now on."""
    global _found
    if not _entries:
        _found = os.environ.get(SOCKET_VARIABLE)
    entry = Entry(folder, socket)
    _entries.append(entry)
    os.environ["PATH"] = os.pathsep.join((folder, os.environ.get("PATH") or os.defpath))
    _tell(socket)
    return entry


def _take_off(folder: str) -> None:
    parts = os.environ.get("PATH", "").split(os.pathsep)
    if folder in parts:
        parts.remove(folder)
        os.environ["PATH"] = os.pathsep.join(parts)


def _tell(socket: str | None) -> None:
    if socket is None:
        os.environ.pop(SOCKET_VARIABLE, None)
    else:
        os.environ[SOCKET_VARIABLE] = socket
