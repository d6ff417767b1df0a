"""Whether a file is to be moved: size and mtime first, and what is in it where these differ.

Pure, but for the reading of a digest.
"""

from __future__ import annotations

import hashlib
import os
from typing import Any

from .entries import Entry

__all__ = ["DIGEST_PIECE", "digest_of", "is_same_time", "looks_equal"]

DIGEST_PIECE = 1024 * 1024

# What file systems keep of a time: HFS+ and some NFS seconds, FAT two, NTFS 100 ns, others µs.
_GRAINS = (100, 1000, 1_000_000, 1_000_000_000, 2_000_000_000)


def is_same_time(one: int, other: int) -> bool:
    """Whether two mtimes (ns) are one, as far as the coarser of their file systems can tell."""
    if one == other:
        return True
    return any(
        one // grain == other // grain and (one % grain == 0 or other % grain == 0)
        for grain in _GRAINS
    )


def looks_equal(said: Entry, found: os.stat_result) -> bool:
    """Whether a file is there already, by size and mtime."""
    return said.size == found.st_size and is_same_time(said.mtime, found.st_mtime_ns)


def digest_of(descriptor: int, count: int) -> Any:
    """The running SHA-256 of the first `count` bytes, or of fewer where the file is shorter."""
    digest = hashlib.sha256()
    os.lseek(descriptor, 0, os.SEEK_SET)
    while count > 0:
        piece = os.read(descriptor, min(count, DIGEST_PIECE))
        if not piece:
            break
        digest.update(piece)
        count -= len(piece)
    return digest
