"""What both ends of a transfer have in common, and what is asked of the far one.

An end does no I/O with its peer: `receive` takes what came, `produce` gives what is to be
said, and whoever drives it (`pump` there, the client here) carries the bytes.
"""

from __future__ import annotations

import errno
import json
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from .entries import Malformed
from .frames import FAULT, Body, said
from .patterns import Patterns
from .scan import KEEP, SYMLINKS
from .tally import Tally

__all__ = ["ALWAYS", "CHANGED", "FULL", "End", "Fault", "Wish", "fault_frame"]

ALWAYS, CHANGED = "always", "changed"  # which files are moved

FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


class Fault(Exception):
    """The transfer cannot go on: what the system said at one of the ends."""

    def __init__(self, number: int, text: str, path: str, *, is_far: bool = False) -> None:
        super().__init__(f"{text}: {path}")
        self.number = number
        self.text = text
        self.path = path
        self.is_far = is_far

    @classmethod
    def heard(cls, said: list[Any]) -> Fault:
        """What the other end says has happened there.  Raises Malformed."""
        try:
            number, text, path = said
            return cls(int(number), str(text), str(path), is_far=True)
        except (TypeError, ValueError):
            raise Malformed("a fault that is none") from None

    @classmethod
    def of(cls, error: OSError, path: str) -> Fault:
        """What an OSError says of `path`."""
        return cls(error.errno or 0, error.strerror or str(error), path)


def fault_frame(fault: Fault) -> bytes:
    """For the other end."""
    return said(FAULT, [fault.number, fault.text, fault.path])


@dataclass(frozen=True)
class Wish:
    """What one transfer is to do; said to the far end as its first line.

    `place` is the path that the far end is about, as the user wrote it.
    """

    place: str
    sends: bool  # whether the far end is the source
    which: str = ALWAYS
    symlinks: str = KEEP
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    max_size: int | None = None
    delete: bool = False
    keep_newer: bool = False  # what is newer at the sink is left, and told as a conflict
    totals: bool = False  # the source counts before it begins
    is_folder: bool = False  # both ends are folders: a sync
    chosen: bool = False  # only what the near end names takes part
    compares: bool = False  # what differs is left as a conflict; what is equal gets its time

    @property
    def patterns(self) -> Patterns:
        """Which names take part."""
        return Patterns(self.include, self.exclude, self.max_size)

    def line(self) -> bytes:
        """As it is said."""
        return json.dumps(asdict(self)).encode("ascii") + b"\n"

    @classmethod
    def read(cls, line: bytes) -> Wish:
        """As it came; what a later version says besides is not understood here.

        Raises Malformed.
        """
        try:
            fields: dict[str, Any] = json.loads(line)
            wish = cls(**fields)
            lists = {"include": tuple(wish.include), "exclude": tuple(wish.exclude)}
        except (ValueError, TypeError) as wrong:
            raise Malformed(f"no wish: {wrong}") from None
        if wish.symlinks not in SYMLINKS or wish.which not in (ALWAYS, CHANGED):
            raise Malformed("no wish")
        return cls(**{**fields, **lists})


class End(Protocol):
    """A source or a sink."""

    tally: Tally
    is_over: bool

    def receive(self, data: Body) -> None:
        """Takes what the other end said.  Raises Fault, Malformed."""

    @property
    def is_amid(self) -> bool:
        """Whether much more of the same is on its way."""

    def produce(self) -> Body:
        """The next that is to be said; b"" where that depends on what comes.  Raises Fault."""

    def close(self) -> None:
        """The end of it, however it came: keeps what a later attempt can go on from."""
