"""What two folders had in common at the end of their last sync: a file of this host.

Who removes it loses no file: then what differs is a conflict, and what is equal is equal.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable

from ..files.entries import Entry, Malformed, checked

__all__ = ["LastSync"]

FORMAT = 1


class LastSync:
    """The memory of one pair of folders, below `directory`."""

    def __init__(self, directory: str, *names: str) -> None:
        key = hashlib.sha256(json.dumps(names).encode("ascii")).hexdigest()[:32]
        self._directory = directory
        self._path = os.path.join(directory, f"{key}.jsonl")
        self._head = {"format": FORMAT, "pair": list(names)}

    def read(self) -> dict[str, Entry]:
        """Each entry by its path; nothing where there is no memory, or a damaged one."""
        try:
            with open(self._path, encoding="ascii") as lines:
                if json.loads(next(lines, "{}")) != self._head:
                    return {}
                entries = [checked(json.loads(line)) for line in lines]
        except (OSError, ValueError, Malformed):
            return {}
        return {entry.path: entry for entry in entries}

    def write(self, entries: Iterable[Entry]) -> None:
        """Raises OSError."""
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        descriptor, draft = tempfile.mkstemp(dir=self._directory)
        try:
            with open(descriptor, "w", encoding="ascii") as file:
                file.write(json.dumps(self._head) + "\n")
                file.writelines(json.dumps(entry[:6]) + "\n" for entry in entries)
            os.replace(draft, self._path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(draft)
            raise
