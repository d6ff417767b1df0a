"""Bytes from here to there, until one side has no more or no longer takes any.

Each direction of each stream gets a thread of its own, so that a side which does not read
holds up nothing but itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["CHUNK", "pump", "start_thread"]

CHUNK = 32 * 1024  # one SSH packet carries no more than this


def pump(read: Callable[[int], bytes], write: Callable[[bytes], None]) -> bool:
    """Copies until `read` gives nothing: True.  Where either side breaks off: False."""
    try:
        while chunk := read(CHUNK):
            write(chunk)
    except (OSError, EOFError, ValueError):  # ValueError: the file was closed under us
        return False
    return True


def start_thread(name: str, work: Callable[[], object]) -> threading.Thread:
    """A daemon thread: the head node may go while somebody still copies."""
    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    return thread
