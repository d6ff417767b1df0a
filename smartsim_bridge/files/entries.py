"""What is said of one file, folder or link: as the tree's list carries it.

A path is relative, with / between its names, and is text: bytes that are not UTF-8 are
surrogates, as `os.fsdecode` has them, whatever the encoding of the host.  What arrives is
never trusted: `checked` refuses a path that would lead out of the tree.
"""

from __future__ import annotations

import os
import stat
import sys
from typing import Any, NamedTuple

__all__ = [
    "FILE",
    "FOLDER",
    "KEEPS_MODES",
    "LINK",
    "NO_MODE",
    "PART_PREFIX",
    "PART_SUFFIX",
    "Entry",
    "Malformed",
    "checked",
    "checked_name",
    "checked_over",
    "from_wire",
    "is_part",
    "kind_of",
    "on_wire",
    "why_skipped",
]

FILE, FOLDER, LINK = "f", "d", "l"

# Names of what is still being written; no scan shows them.
PART_PREFIX, PART_SUFFIX = ".smartsim-bridge-", ".part"

# What Windows calls a mode would make everything writable for all on the other side.
KEEPS_MODES = os.name != "nt"
NO_MODE = -1

MAX_PATH = 64 * 1024  # characters; systems allow 4 KiB of bytes


class Malformed(Exception):
    """The other end said what no end says."""


class Entry(NamedTuple):
    """One entry of a tree."""

    path: str
    kind: str
    size: int = 0
    mtime: int = 0  # nanoseconds since the epoch
    mode: int = 0  # permission bits, or NO_MODE
    link: str = ""  # what a symbolic link says
    over: list[int] | None = None  # size and mtime of what it may replace; None: of anything

    def has_mode_of(self, found: os.stat_result) -> bool:
        """Whether its mode is the same, as far as there are any."""
        is_told = self.mode != NO_MODE and KEEPS_MODES
        return not is_told or stat.S_IMODE(found.st_mode) & 0o777 == self.mode

    def may_replace(self, found: os.stat_result | None) -> bool:
        """Whether what is there is what was seen there when this was decided."""
        if self.over is None:
            return True
        size, mtime = self.over
        if found is None or size < 0:
            return found is None and size < 0
        is_file = stat.S_ISREG(found.st_mode)
        return not is_file or (found.st_size == size and found.st_mtime_ns == mtime)


def kind_of(found: os.stat_result) -> str:
    """FILE, FOLDER, LINK, or "" for what cannot be moved."""
    for kind, test in ((FILE, stat.S_ISREG), (FOLDER, stat.S_ISDIR), (LINK, stat.S_ISLNK)):
        if test(found.st_mode):
            return kind
    return ""


def why_skipped(found: os.stat_result) -> str:
    """What a special file is."""
    for word, test in _SPECIAL:
        if test(found.st_mode):
            return f"a {word} cannot be moved"
    return "neither a file nor a folder nor a link"


_SPECIAL = (
    ("named pipe", stat.S_ISFIFO), ("socket", stat.S_ISSOCK),
    ("device", stat.S_ISCHR), ("device", stat.S_ISBLK),
)  # fmt: skip


def is_part(name: str) -> bool:
    """Whether it is what a transfer is writing, or has left to go on with."""
    return name.startswith(PART_PREFIX) and name.endswith(PART_SUFFIX)


def checked(words: Any) -> Entry:
    """An entry that arrived.  Raises Malformed."""
    try:
        path, kind, size, mtime, mode, link, *rest = words
    except (TypeError, ValueError):
        raise Malformed("an entry that is none") from None
    numbers = all(type(number) is int for number in (size, mtime, mode))
    texts = isinstance(path, str) and isinstance(link, str)
    if not (numbers and texts and kind in (FILE, FOLDER, LINK) and size >= 0):
        raise Malformed("an entry that is none")
    if path:
        for name in path.split("/"):
            checked_name(name)
    if "\0" in link or (kind == LINK) != bool(link) or len(path) > MAX_PATH:
        raise Malformed(f"an entry that is none: {path!r}")
    mode = NO_MODE if mode == NO_MODE else stat.S_IMODE(mode) & 0o777
    return Entry(path, kind, size, mtime, mode, link, checked_over(*rest[:1]))


def checked_over(over: Any = None) -> list[int] | None:
    """What may be replaced.  Raises Malformed."""
    if over is None:
        return None
    if not (isinstance(over, list) and len(over) == 2 and all(type(one) is int for one in over)):
        raise Malformed("what may be replaced is none")
    return over


def checked_name(name: str) -> str:
    """One name of a path.  Raises Malformed where it would lead elsewhere."""
    bad = name in ("", ".", "..") or "/" in name or "\0" in name
    if not bad and os.name == "nt":
        bad = any(one in name for one in '\\:*?"<>|') or name != name.rstrip(" .")
    if bad:
        raise Malformed(f"a name that leads elsewhere, or cannot be here: {name!r}")
    return name


# Only where the system's encoding of names is another one is there anything to translate.
_IS_UTF8 = os.name == "nt" or sys.getfilesystemencoding().lower().replace("-", "") == "utf8"


def on_wire(name: str) -> str:
    """A name of this host, as it is said."""
    return name if _IS_UTF8 else os.fsencode(name).decode("utf-8", "surrogateescape")


def from_wire(name: str) -> str:
    """A name that was said, as this host has it."""
    return name if _IS_UTF8 else os.fsdecode(name.encode("utf-8", "surrogateescape"))
