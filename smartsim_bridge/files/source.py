"""The end that has the files: says what there is, and sends what is asked for.

It runs ahead of the answers by a few thousand entries and no more, so a tree of any size
costs the memory of those.  Content follows the answers, in their order; small files many to
a message, large ones in pieces.
"""

from __future__ import annotations

import io
import os
import stat
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple, Optional

from .delta import digest_of
from .end import Fault, Wish
from .entries import (
    FILE,
    FOLDER,
    LINK,
    Entry,
    Malformed,
    checked_name,
    checked_over,
    from_wire,
    kind_of,
    on_wire,
    why_skipped,
)
from .frames import (
    ANSWERS,
    CHOSEN,
    END,
    ENTRIES,
    FAULT,
    HAVE_YOU,
    LISTED,
    MISSING,
    OPEN,
    REMOVE,
    ROOT,
    TALLY,
    TARGET,
    TOTAL,
    Body,
    Cutter,
    data_frame,
    fields,
    json_body,
    said,
    whole,
)
from .scan import FOLLOW, Scan, describe
from .tally import Tally

__all__ = ["AGAIN", "BATCH", "DIFFERS", "Chosen", "Source", "checked_choice"]

BATCH = 512  # entries in one message
AHEAD = 4096  # entries that the sink has not answered
SMALL = 64 * 1024  # a file up to this goes as one frame
PIECE = 512 * 1024  # of a larger one; and as much of small ones goes at once
ATTEMPTS = 3  # to read a file that changes meanwhile

_READ = (
    os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_NONBLOCK", 0)  # what became a pipe since it was listed would block
)  # fmt: skip
_NOT_THROUGH_LINKS = getattr(os, "O_NOFOLLOW", 0)


Chosen = tuple[str, Optional[list[int]]]  # a path, and what may be replaced there


class _Want(NamedTuple):
    """What the sink asks for: of entry `number`, all but what it may have already."""

    number: int
    have: int
    digest: str


class Source:
    """Sends what is at `root`, absolute."""

    def __init__(
        self,
        root: str,
        wish: Wish,
        chosen: Iterable[Chosen] | None = None,
        remove: Iterable[Chosen] = (),
    ) -> None:
        self.tally = Tally()
        self.is_over = False
        self.target = ""  # absolute, at the sink
        self.files_total = self.bytes_total = 0
        self._wish = wish
        self.root = root
        self._cutter = Cutter()
        self._said: deque[bytes] = deque()
        self._unanswered: deque[tuple[int, int]] = deque()  # first and last of each batch
        self._entries: dict[int, Entry] = {}  # that were listed, and are not done
        self._wants: deque[_Want] = deque()
        self._next = 0
        self._is_listed = False
        self._sending: Iterator[Body] | None = None
        self._found = self._look()
        self._scanning = self._scan(self.tally)
        self._list = self._entries_below() if chosen is None else self._described(chosen)
        self._remove = list(remove)
        self._chosen: deque[list[Chosen]] = deque()
        self._waits_for_choice = wish.chosen and chosen is None
        name = os.path.basename(os.path.abspath(root))  # also of what ends with a slash
        kind = kind_of(self._found)
        self._say(ROOT, {"kind": kind, "name": on_wire(name), "path": on_wire(root)})
        if wish.totals:
            self._count()

    # --- as every end

    is_amid = False  # only answers come

    def receive(self, data: Body) -> None:
        """Answers, and what follows them."""
        for kind, body in self._cutter.feed(data):
            handler = _HANDLERS.get(kind)
            if handler is None:
                raise Malformed(f"a source is not told {kind!r}")
            handler(self, body)

    def produce(self) -> Body:
        """Lists ahead, then sends content; many small things at once."""
        gathered: list[Body] = []
        size = 0
        while size < PIECE:
            one = self._one()
            if not one:
                break
            gathered.append(one)
            size += len(one)
        return gathered[0] if len(gathered) == 1 else b"".join(gathered)

    def close(self) -> None:
        """Lets go of the file that is open."""
        sending, self._sending = self._sending, None
        if sending is not None:
            sending.close()  # type: ignore[attr-defined]

    # --- what it says

    def _one(self) -> Body:
        if self._said:
            return self._said.popleft()
        if self._sending is not None:
            piece = next(self._sending, None)
            if piece is not None:
                return piece
            self._sending = None
        # Only then is it known whether what is listed holds the place where it is put.
        if self.target and not self._is_listed and self._may_run_ahead:
            batch = self._batch()
            if batch:
                return batch
        if self._wants:
            want = self._wants.popleft()
            self._sending = self._content(want, self._entries.pop(want.number))
            return self._one()
        return b""

    @property
    def _may_run_ahead(self) -> bool:
        return len(self._entries) < AHEAD and len(self._unanswered) < AHEAD // BATCH

    def _say(self, kind: bytes, what: Any) -> None:
        self._said.append(said(kind, what))

    def _batch(self) -> bytes:
        """Some more of the list."""
        if not self._waits_for_choice:
            batch = list(islice(self._list, BATCH))
            is_last = len(batch) < BATCH
        elif self._chosen:
            choice = self._chosen.popleft()
            batch, is_last = list(self._described(choice)), not choice
        else:
            return b""
        first = self._next
        for entry in batch:
            if entry.kind == FILE:
                self._entries[self._next] = entry
            self._next += 1
        self._unanswered.append((first, self._next))
        if is_last:
            self._is_listed = True
            if self._remove:
                self._say(REMOVE, self._remove)
            self._say(LISTED, self._next)
        return said(ENTRIES, batch)

    def _content(self, want: _Want, entry: Entry) -> Iterator[Body]:
        """The frames of one file; END with a reason where it cannot be read."""
        self.tally.name = entry.path
        try:
            descriptor = os.open(self._path(entry.path), _READ | self._no_links)
        except OSError as refused:
            yield self._failed(want.number, entry, refused)
            return
        try:
            yield from self._read(want, entry, descriptor)
        except OSError as broken:
            yield self._failed(want.number, entry, broken)
        finally:
            os.close(descriptor)

    def _read(self, want: _Want, entry: Entry, descriptor: int) -> Iterator[Body]:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(0, why_skipped(found))
        if found.st_size <= SMALL and not want.have and not self._wish.compares:
            content = _all_of(descriptor)
            is_as_told = describe(entry.path, FILE, found) == entry
            if content is not None and is_as_told and _is_same(found, os.fstat(descriptor)):
                self._has_sent(len(content), entry)
                yield whole(want.number, content)
                return
        for _ in range(ATTEMPTS):
            if (yield from self._pieces(want, entry, descriptor)):
                if not self._wish.compares:
                    self._has_sent(0, entry)
                return
            want = _Want(want.number, 0, "")
        raise OSError(0, "it changes while it is read")

    def _pieces(self, want: _Want, entry: Entry, descriptor: int) -> Generator[Body, None, bool]:
        """OPEN, DATA and END of a large file; whether it stayed the same meanwhile."""
        found = os.fstat(descriptor)
        if want.have == entry.size != found.st_size:
            want = _Want(want.number, 0, "")  # the sink has what this was, not the first part of it
        begin, digest = _begin(want, found, descriptor)
        if self._wish.compares and begin < found.st_size:
            yield said(END, [want.number, DIFFERS, ""])
            return True
        self.tally.count("resumed", begin)
        yield said(OPEN, [want.number, begin, list(describe(entry.path, FILE, found))])
        file = io.FileIO(descriptor, closefd=False)
        file.seek(begin)
        self.tally.bytes_done += begin
        position = begin
        while True:
            framed, size = data_frame(file, PIECE)
            if not size:
                break
            position += size
            if digest is not None:
                digest.update(framed[-size:])
            self.tally.count("bytes", size)
            self.tally.bytes_done += size
            yield framed
        is_same = _is_same(found, os.fstat(descriptor)) and position == found.st_size
        if not is_same:
            self.tally.bytes_done -= position
        sums = digest.hexdigest() if digest is not None and is_same else ""
        yield said(END, [want.number, "" if is_same else AGAIN, sums])
        return is_same

    def _has_sent(self, size: int, entry: Entry) -> None:
        self.tally.count("files")
        self.tally.count("bytes", size)
        self.tally.note("moved", entry.path or os.path.basename(self.root))
        self.tally.files_done += 1
        self.tally.bytes_done += size

    def _failed(self, number: int, entry: Entry, error: OSError) -> bytes:
        reason = error.strerror or str(error)
        self.tally.leave("failed", entry.path, reason)
        self.tally.pass_by(0)
        return said(END, [number, reason, ""])

    # --- what it hears

    def _target(self, body: Body) -> None:
        target, inode = fields(body, 2)
        self.target = str(target)
        self._scanning.avoid = (self.target.rpartition("/")[2], inode)

    def _answers(self, body: Body) -> None:
        """Which of the oldest batch are wanted, in order."""
        wanted = json_body(body, list)
        if not self._unanswered:
            raise Malformed("an answer to nothing")
        first, end = self._unanswered.popleft()
        place = first
        for one in wanted:
            want = _checked_want(one)
            if not place <= want.number < end or want.number not in self._entries:
                raise Malformed(f"entry {want.number} is wanted, and was not offered")
            self._pass_by(place, want.number)
            self._wants.append(want)
            place = want.number + 1
        self._pass_by(place, end)

    def _pass_by(self, first: int, end: int) -> None:
        for number in range(first, end):
            entry = self._entries.pop(number, None)
            if entry is not None:
                self.tally.pass_by(entry.size)

    def _choice(self, body: Body) -> None:
        self._chosen.append(json_body(body, list))

    def _have_you(self, body: Body) -> None:
        """Which of these there are not, so that the sink deletes them."""
        now = self._look()
        if (now.st_dev, now.st_ino) != (self._found.st_dev, self._found.st_ino):
            raise Fault(0, "another folder is there than when it began", self.root)
        asked = json_body(body, list)
        if not self._wish.delete:
            raise Malformed("a question that nobody asked for")
        self._say(MISSING, [place for place, path in enumerate(asked) if self._lacks(str(path))])

    def _lacks(self, path: str) -> bool:
        for name in path.split("/"):
            checked_name(name)  # what there is elsewhere is nobody's business
        try:
            self._stat(self._path(path))
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            return False  # it is there, and cannot be seen
        return False

    def _other_tally(self, body: Body) -> None:
        self._say(TALLY, self.tally.said())
        self.tally.add(json_body(body, dict))
        self.is_over = True

    def _fault(self, body: Body) -> None:
        raise Fault.heard(json_body(body, list))

    # --- what there is

    @property
    def _no_links(self) -> int:
        return 0 if self._wish.symlinks == FOLLOW or not self._is_folder else _NOT_THROUGH_LINKS

    @property
    def _is_folder(self) -> bool:
        return stat.S_ISDIR(self._found.st_mode)

    def _stat(self, path: str) -> os.stat_result:
        return os.stat(path) if self._wish.symlinks == FOLLOW else os.lstat(path)

    def _path(self, path: str) -> str:
        if not path:
            return self.root
        return os.path.join(self.root, *map(from_wire, path.split("/")))

    def _look(self) -> os.stat_result:
        """The root is what the user named: a link there is followed."""
        try:
            found = os.stat(self.root)
        except OSError as refused:
            raise Fault.of(refused, self.root) from None
        if not kind_of(found):
            raise Fault(0, why_skipped(found), self.root)
        return found

    def _entries_below(self) -> Iterator[Entry]:
        if not self._is_folder:
            yield describe("", FILE, self._found)
            return
        yield describe("", FOLDER, self._found)
        yield from self._scanning

    def _described(self, chosen: Iterable[Chosen]) -> Iterator[Entry]:
        """What is chosen, as it is now; what is gone takes no part."""
        for words in chosen:
            path, over = checked_choice(words)
            place = self._path(path)
            try:
                found = self._stat(place)
                kind = kind_of(found)
                link = os.readlink(place) if kind == LINK else ""
            except OSError as gone:
                self.tally.leave("failed", path, gone.strerror or str(gone))
                continue
            if kind:
                yield describe(path, kind, found, link)._replace(over=over)

    def _scan(self, tally: Tally) -> Scan:
        return Scan(self.root, self._wish.patterns, self._wish.symlinks, tally.tell)

    def _count(self) -> None:
        if not self._is_folder:
            self.files_total, self.bytes_total = 1, self._found.st_size
        else:
            for entry in self._scan(Tally()):
                if entry.kind == FILE:
                    self.files_total += 1
                    self.bytes_total += entry.size
        self._say(TOTAL, [self.files_total, self.bytes_total])


# In an END: it changed, and comes once more; it is not what the sink has.
AGAIN, DIFFERS = "again", "differs"


def checked_choice(words: Any) -> Chosen:
    """A path, and what may be replaced there.  Raises Malformed."""
    try:
        path, over = words
    except (TypeError, ValueError):
        raise Malformed("a choice that is none") from None
    if not isinstance(path, str):
        raise Malformed("a choice that is none")
    for name in path.split("/"):
        checked_name(name)
    return path, checked_over(over)


def _begin(want: _Want, found: os.stat_result, descriptor: int) -> tuple[int, Any]:
    """From where it is to be sent, and the running digest where it is not from the first byte."""
    if not 0 < want.have <= found.st_size:
        return 0, None
    digest = digest_of(descriptor, want.have)
    return (want.have, digest) if digest.hexdigest() == want.digest else (0, None)


def _all_of(descriptor: int) -> bytes | None:
    """What is in a small file; None where it has grown."""
    content = os.read(descriptor, SMALL + 1)
    while content and len(content) <= SMALL:
        more = os.read(descriptor, SMALL + 1 - len(content))
        if not more:
            break
        content += more
    return content if len(content) <= SMALL else None


def _is_same(before: os.stat_result, after: os.stat_result) -> bool:
    return (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)


def _checked_want(words: Any) -> _Want:
    try:
        number, have, digest = words
    except (TypeError, ValueError):
        raise Malformed("a wish that is none") from None
    if type(number) is not int or type(have) is not int or not isinstance(digest, str):
        raise Malformed("a wish that is none")
    return _Want(number, have, digest)


_HANDLERS = {
    TARGET: Source._target,
    ANSWERS: Source._answers,
    CHOSEN: Source._choice,
    HAVE_YOU: Source._have_you,
    TALLY: Source._other_tally,
    FAULT: Source._fault,
}
