"""What is told of a transfer: on the way, and at its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Optional

__all__ = ["MAX_TOLD", "FilesReport", "Left", "Listener", "Progress", "SyncReport"]

# A list in a report names no more than so many; whoever moves a million files reads no more.
MAX_TOLD = 1000


@dataclass(frozen=True)
class Progress:
    """How far a transfer is.  What had not to be moved counts as done."""

    files: int
    files_total: int
    bytes: int
    bytes_total: int
    name: str  # of the file that is under way, below the folder that is moved
    is_over: bool = False  # said once, as the last


Listener = Optional[Callable[[Progress], object]]


@dataclass(frozen=True)
class Left:
    """Something that was not moved, and why."""

    path: str  # below the folder that is moved, with / between names
    reason: str


@dataclass(frozen=True)
class FilesReport:
    """What a transfer did.  Its lists name the first thousand."""

    source: str = ""  # absolute, where it was taken from
    target: str = ""  # absolute, what it is called where it was put
    files: int = 0  # moved, whole or in part
    bytes: int = 0  # of their content, as it crossed the link
    resumed: int = 0  # bytes that were there from an earlier attempt, and not sent again
    unchanged: int = 0  # files that were there already
    folders: int = 0  # made
    links: int = 0  # symbolic links made
    moved: tuple[str, ...] = ()  # the files
    deleted: tuple[str, ...] = ()
    skipped: tuple[Left, ...] = ()  # sockets, devices ..., and what `max_size` keeps back
    conflicts: tuple[Left, ...] = ()  # changed on both sides: neither was touched
    failed: tuple[Left, ...] = ()  # could not be read, or written


@dataclass(frozen=True)
class SyncReport:
    """What a sync did, up (to the head) and down (from it)."""

    up: FilesReport = field(default_factory=FilesReport)
    down: FilesReport = field(default_factory=FilesReport)

    @property
    def files(self) -> int:
        """How many were moved, either way."""
        return self.up.files + self.down.files

    @property
    def conflicts(self) -> tuple[Left, ...]:
        """Changed on both sides since the last sync, or newer where they would be replaced."""
        return self.up.conflicts + self.down.conflicts
