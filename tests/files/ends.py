"""Both ends of a transfer in one process: what one says is the other's, in small pieces."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from smartsim_bridge.files.end import CHANGED, End, Fault, Wish
from smartsim_bridge.files.sink import Sink
from smartsim_bridge.files.source import Source

WISH = Wish("", False)
SYNC = replace(WISH, which=CHANGED, is_folder=True)


def converse(one: End, other: End, *, piece: int = 100_000) -> None:
    """Until both are over; raises what either raises.  Neither may wait for ever."""
    try:
        while not (one.is_over and other.is_over):
            said = [_carry(one, other, piece), _carry(other, one, piece)]
            assert any(said) or (one.is_over and other.is_over), "both wait"
    finally:
        one.close()
        other.close()


def _carry(teller: End, listener: End, piece: int) -> bool:
    said = teller.produce()
    for start in range(0, len(said), piece):
        listener.receive(said[start : start + piece])
    return bool(said)


def move(source: Path | str, target: Path | str, wish: Wish = WISH, **ends: Any) -> Sink:
    """A whole transfer; the sink, with both tallies."""
    sink = Sink(os.fspath(target), wish)
    converse(Source(os.fspath(source), wish), sink, **ends)
    return sink


def tree(root: Path) -> dict[str, Any]:
    """All that there is below it, to be compared."""
    found: dict[str, Any] = {}
    for place, folders, files in os.walk(os.fsencode(root)):
        for name in (*folders, *files):
            path = os.path.join(place, name)
            status = os.lstat(path)
            key = os.path.relpath(path, os.fsencode(root))
            if os.path.islink(path):
                found[str(key)] = ("link", os.readlink(path))
            elif os.path.isdir(path):
                found[str(key)] = ("folder", status.st_mode & 0o777)
            else:
                content = Path(os.fsdecode(path)).read_bytes()
                found[str(key)] = ("file", status.st_mode & 0o777, status.st_mtime_ns, content)
    return found


__all__ = ["SYNC", "WISH", "Fault", "converse", "move", "tree"]
