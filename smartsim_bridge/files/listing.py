"""An end that only wants to know what there is: it takes the list, and none of the files."""

from __future__ import annotations

from .end import Fault
from .entries import Entry, Malformed, checked
from .frames import (
    ANSWERS,
    ENTRIES,
    FAULT,
    LISTED,
    ROOT,
    TALLY,
    TARGET,
    TOTAL,
    Body,
    Cutter,
    json_body,
    said,
)
from .tally import Tally

__all__ = ["Listing"]


class Listing:
    """The other end's tree, by path, without its root."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.is_over = False
        self.files_total = self.bytes_total = 0
        self.root = ""
        self.entries: dict[str, Entry] = {}
        self._cutter = Cutter()
        self._said: list[bytes] = []

    is_amid = False

    def receive(self, data: Body) -> None:
        """Entries, and the end of them."""
        for kind, body in self._cutter.feed(data):
            handler = _HANDLERS.get(kind)
            if handler is None:
                raise Malformed(f"a listing is not told {kind!r}")
            handler(self, body)

    def produce(self) -> bytes:
        """That none of it is wanted."""
        said, self._said = b"".join(self._said), []
        return said

    def close(self) -> None:
        """It holds nothing."""

    def _root(self, body: Body) -> None:
        self.root = str(json_body(body, dict).get("path"))
        self._said.append(said(TARGET, ["/", 0]))  # nothing is put anywhere

    def _entries(self, body: Body) -> None:
        for entry in map(checked, json_body(body, list)):
            if entry.path:
                self.entries[entry.path] = entry
        self._said.append(said(ANSWERS, []))

    def _listed(self, body: Body) -> None:
        self._said.append(said(TALLY, {}))

    def _other_tally(self, body: Body) -> None:
        self.tally.add(json_body(body, dict))
        self.is_over = True

    def _fault(self, body: Body) -> None:
        raise Fault.heard(json_body(body, list))


_HANDLERS = {
    ROOT: Listing._root,
    TOTAL: lambda self, body: None,
    ENTRIES: Listing._entries,
    LISTED: Listing._listed,
    TALLY: Listing._other_tally,
    FAULT: Listing._fault,
}
