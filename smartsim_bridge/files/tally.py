"""What one end has done and left, as it counts it and tells the other."""

from __future__ import annotations

from typing import Any

from .entries import Malformed
from .report import MAX_TOLD, Left

__all__ = ["Tally"]

_COUNTS = ("files", "bytes", "resumed", "unchanged", "folders", "links")
_LISTS = ("skipped", "conflicts", "failed")
_NAMES = ("moved", "deleted")


class Tally:
    """Counts, and lists that are cut at MAX_TOLD; `failures` counts all of them."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(_COUNTS, 0)
        self.lists: dict[str, list[Left]] = {name: [] for name in _LISTS}
        self.names: dict[str, list[str]] = {name: [] for name in _NAMES}
        self.failures = 0
        # How far it is, for who looks on: files, bytes, and the one under way.
        self.files_done = self.bytes_done = 0
        self.name = ""

    def count(self, what: str, number: int = 1) -> None:
        """`number` more."""
        self.counts[what] += number

    def leave(self, which: str, path: str, reason: str) -> None:
        """Something takes no part."""
        if which == "failed":
            self.failures += 1
        if len(self.lists[which]) < MAX_TOLD:
            self.lists[which].append(Left(path, reason))

    def tell(self, path: str, reason: str, is_failure: bool) -> None:
        """As a scan says it."""
        self.leave("failed" if is_failure else "skipped", path, reason)

    def note(self, which: str, path: str) -> None:
        """A name for the report."""
        if len(self.names[which]) < MAX_TOLD:
            self.names[which].append(path)

    def pass_by(self, size: int) -> None:
        """A file that need not be moved is done."""
        self.files_done += 1
        self.bytes_done += size

    def said(self) -> dict[str, Any]:
        """For the other end."""
        lists = {name: [[one.path, one.reason] for one in of] for name, of in self.lists.items()}
        return {**self.counts, **lists, **self.names, "failures": self.failures}

    def add(self, said: dict[str, Any]) -> None:
        """What the other end tells.  Raises Malformed."""
        try:
            for name in _COUNTS:
                self.counts[name] += int(said.get(name, 0))
            for name in _LISTS:
                for path, reason in said.get(name, ())[:MAX_TOLD]:
                    if len(self.lists[name]) < MAX_TOLD:
                        self.lists[name].append(Left(str(path), str(reason)))
            for name in _NAMES:
                for path in said.get(name, ())[:MAX_TOLD]:
                    self.note(name, str(path))
            self.failures += int(said.get("failures", 0))
        except (TypeError, ValueError):
            raise Malformed("a tally that is none") from None

    def fields(self) -> dict[str, Any]:
        """Those of a report."""
        failed = {one.path for one in self.lists["failed"]}
        self.names["moved"] = [path for path in self.names["moved"] if path not in failed]
        return {
            **self.counts,
            **{name: tuple(of) for name, of in self.lists.items()},
            **{name: tuple(of) for name, of in self.names.items()},
        }
