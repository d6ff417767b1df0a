"""The end that gets the files: says which of them it wants, and writes what comes.

Whatever arrives is checked: a path that leads out of its folder ends the transfer.  What
cannot be written is told and the others go on; a full disk ends it at once.
"""

from __future__ import annotations

import json
import os
import stat
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

from .delta import digest_of, is_same_time, looks_equal
from .end import ALWAYS, FULL, Fault, Wish
from .entries import (
    FILE,
    FOLDER,
    LINK,
    Entry,
    Malformed,
    checked,
    checked_name,
    from_wire,
    kind_of,
    on_wire,
)
from .frames import (
    ANSWERS,
    CHOSEN,
    DATA,
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
    WHOLE,
    Body,
    Cutter,
    fields,
    json_body,
    said,
    whole_body,
)
from .ground import Ground, Place
from .landing import RESUME_FROM, Landing, own_part, partial_of, settle, write_whole
from .scan import Scan
from .source import AGAIN, BATCH, DIFFERS, Chosen, checked_choice
from .tally import Tally

__all__ = ["Sink"]

CHOSEN_AHEAD = 4  # messages of names that the source has before it has answered any
ASK_AT_ONCE = 512  # names that the source is asked for in one message
KEPT_TIMES = 1024 * 1024  # bytes of folders' times; more of them go to a file


class _Wanted(NamedTuple):
    """An entry that was asked for, and what is there of it."""

    entry: Entry
    have: int  # bytes that are there already
    digest: Any  # running, of those
    is_target: bool  # of the file itself, which may turn out to be the same


class Sink:
    """Writes to `place`, absolute; with a slash at its end the thing goes into that folder."""

    def __init__(
        self,
        place: str,
        wish: Wish,
        chosen: Iterable[Chosen] | None = None,
        remove: Iterable[Chosen] = (),
    ) -> None:
        self.tally = Tally()
        self.is_over = False
        self.target = self.source = ""
        self.files_total = self.bytes_total = 0
        self._wish = wish
        self._asked_for = place
        self._cutter = Cutter()
        self._said: deque[bytes] = deque()
        self._ground: Ground | None = None
        self._only = ""  # where a file is moved, not a folder: its name here
        self._next = 0
        self._wanted: dict[int, _Wanted] = {}
        self._landing: Landing | None = None
        self._open = -1  # number of the entry that DATA belongs to
        self._digest: Any = None
        self._is_listed = self._is_settled = False
        self._asking: Iterator[list[str]] | None = None
        self._asked: list[str] = []
        self._doomed: list[str] = []  # folders that go when they are empty
        self._times = tempfile.SpooledTemporaryFile(KEPT_TIMES, mode="w+", encoding="ascii")  # noqa: SIM115
        self._removals = list(remove)
        self._choices = None if chosen is None else _batches(chosen)
        for _ in range(CHOSEN_AHEAD):
            self._choose()
        self._narrow: list[Entry] = []  # folders that we could not write into as they shall be

    # --- as every end

    def receive(self, data: Body) -> None:
        """The list, and the content of what was asked for."""
        for kind, body in self._cutter.feed(data):
            handler = _HANDLERS.get(kind)
            if handler is None:
                raise Malformed(f"a sink is not told {kind!r}")
            handler(self, body)
            self._go_on()

    @property
    def is_amid(self) -> bool:
        """Whether the rest of a large file is on its way."""
        return self._open >= 0

    def produce(self) -> bytes:
        """Answers."""
        said, self._said = b"".join(self._said), deque()
        return said

    def close(self) -> None:
        """What is half written is kept where the next attempt can go on from it, else removed."""
        landing, self._landing = self._landing, None
        if landing is not None:
            landing.leave()
        self._times.close()
        if self._ground is not None:
            self._ground.close()

    # --- the list

    def _root(self, body: Body) -> None:
        """What it is: now it is clear how it is called here."""
        root = json_body(body, dict)
        is_folder, name = root.get("kind") == FOLDER, str(root.get("name"))
        self.source = str(root.get("path"))
        if self._wish.is_folder and not is_folder:
            raise Fault(0, "a sync is of folders", self.source)
        place = self._asked_for
        if names_a_folder(place) and not self._wish.is_folder:
            place = os.path.join(place, from_wire(checked_name(name)))
        place = os.path.realpath(place)  # what the user names may lead through links
        try:
            self._enter(place, is_folder)
        except OSError as refused:
            raise Fault.of(refused, on_wire(place)) from None
        self.target = on_wire(place)
        self._say(TARGET, [self.target, os.stat(place).st_ino if is_folder else 0])

    def _enter(self, place: str, is_folder: bool) -> None:
        if is_folder:
            self._ground = Ground(place)
            return
        if os.path.isdir(place):
            what = "a folder is there; with a / at its end the file goes into it"
            raise Fault(0, what, on_wire(place))
        self._ground = Ground(os.path.dirname(place))
        self._only = on_wire(os.path.basename(place))

    def _total(self, body: Body) -> None:
        files, size = fields(body, 2)
        if type(files) is not int or type(size) is not int:
            raise Malformed("totals that are none")
        self.files_total, self.bytes_total = files, size

    def _entries(self, body: Body) -> None:
        """Some of the list: folders and links are made, files asked for where they are wanted."""
        wants = []
        for words in json_body(body, list):
            entry = checked(words)
            number, self._next = self._next, self._next + 1
            try:
                want = self._consider(number, entry)
            except OSError as refused:
                self._failed(entry.path, refused)
                continue
            if want is not None:
                wants.append(want)
        self._say(ANSWERS, wants)
        self._choose()

    def _choose(self) -> None:
        """Names some more of what is to come, where it is chosen here."""
        if self._choices is not None:
            batch = next(self._choices, [])
            self._say(CHOSEN, batch)
            if not batch:
                self._choices = None

    def _consider(self, number: int, entry: Entry) -> list[Any] | None:
        if not entry.path and entry.kind == FOLDER:
            self._remember(entry, is_new=False)
            return None
        place = self._place(entry)
        if entry.kind == FOLDER:
            is_new = self._grounded.make_folder(place)
            self._remember(entry, is_new)
            if is_new:
                self.tally.count("folders")
            return None
        found = place.look()
        if not entry.may_replace(found):
            self.tally.leave("conflicts", entry.path, "changed while it was compared")
            self.tally.pass_by(entry.size)
            return None
        if found is not None and stat.S_ISDIR(found.st_mode):
            raise OSError(0, "a folder is there, and is not replaced")
        if found is not None and self._is_to_stay(entry, found):
            return None
        if entry.kind == LINK:
            self._link(entry, place, found)
            return None
        return self._wish_for(number, entry, place, found)

    def _is_to_stay(self, entry: Entry, found: os.stat_result) -> bool:
        """Whether it is the same as far as can be seen, or newer and to be kept."""
        if self._wish.which == ALWAYS:
            return False
        is_file = entry.kind == FILE and stat.S_ISREG(found.st_mode)
        if is_file and looks_equal(entry, found):
            if not entry.has_mode_of(found):
                settle(self._place(entry), entry)
            self.tally.count("unchanged")
            self.tally.pass_by(entry.size)
            return True
        is_newer = found.st_mtime_ns > entry.mtime and not is_same_time(
            found.st_mtime_ns, entry.mtime
        )
        is_same_link = entry.kind == LINK == kind_of(found)
        if self._wish.keep_newer and is_newer and not is_same_link:
            self.tally.leave("conflicts", entry.path, "newer than what would replace it")
            self.tally.pass_by(entry.size)
            return True
        return False

    def _wish_for(
        self, number: int, entry: Entry, place: Place, found: os.stat_result | None
    ) -> list[Any]:
        """All of it, or all but what is there already."""
        have, digest, is_target = 0, None, False
        if entry.size >= RESUME_FROM and not self._wish.compares:
            partial = partial_of(place, entry)
            if partial is not None:
                have, digest = partial
        if not have and self._may_be_same(entry, found):
            have, digest, is_target = entry.size, self._digest_there(place, entry.size), True
        self._wanted[number] = _Wanted(entry, have, digest, is_target)
        return [number, have, "" if digest is None else digest.hexdigest()]

    def _may_be_same(self, entry: Entry, found: os.stat_result | None) -> bool:
        is_file = found is not None and stat.S_ISREG(found.st_mode)
        if self._wish.which == ALWAYS or not is_file or found is None:
            return False
        return found.st_size == entry.size > 0

    def _digest_there(self, place: Place, size: int) -> Any:
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        descriptor = os.open(place.name, flags, dir_fd=place.folder)
        try:
            return digest_of(descriptor, size)
        finally:
            os.close(descriptor)

    def _link(self, entry: Entry, place: Place, found: os.stat_result | None) -> None:
        said = from_wire(entry.link)
        is_link = found is not None and stat.S_ISLNK(found.st_mode)
        if is_link and os.readlink(place.name, dir_fd=place.folder) == said:
            return
        part = place.beside(own_part())
        os.symlink(said, part.name, dir_fd=part.folder)
        try:
            os.replace(part.name, place.name, src_dir_fd=part.folder, dst_dir_fd=place.folder)
        except OSError:
            os.unlink(part.name, dir_fd=part.folder)
            raise
        self.tally.count("links")

    def _listed(self, body: Body) -> None:
        self._is_listed = True

    # --- content

    def _whole(self, body: Body) -> None:
        number, content = whole_body(body)
        entry = self._due(number).entry
        del self._wanted[number]
        if len(content) != entry.size:
            raise Malformed(f"{len(content)} bytes of a file of {entry.size}")
        try:
            write_whole(self._place(entry), content, entry)
        except OSError as refused:
            self._not_written(entry.path, refused)
        else:
            self.tally.pass_by(len(content))
            self.tally.name = entry.path

    def _opened(self, body: Body) -> None:
        number, begin, words = fields(body, 3)
        wanted, now = self._due(number), checked(words)
        if now.path != wanted.entry.path or now.kind != FILE or begin not in (0, wanted.have):
            raise Malformed("another file than was asked for")
        self._open, self.tally.name = number, now.path
        self._digest = wanted.digest if begin else None
        self._wanted[number] = wanted._replace(entry=now)
        self.tally.bytes_done += begin
        if begin and wanted.is_target:
            if begin != now.size:
                raise Malformed("more of a file than was asked for")
            return  # it is the same so far; END tells whether that is all
        try:
            landing, self._landing = self._landing, None
            if landing is not None:
                landing.discard()
            self._landing = Landing(self._place(now), now, begin)
        except OSError as refused:
            self._not_written(now.path, refused)

    def _data(self, body: Body) -> None:
        if self._open < 0:
            raise Malformed("content of nothing")
        self.tally.bytes_done += len(body)
        if self._digest is not None:
            self._digest.update(body)
        if self._landing is None:
            return  # it could not be written, which was told
        try:
            self._landing.write(body)
        except OSError as refused:
            landing, self._landing = self._landing, None
            landing.discard()
            self._not_written(self._wanted[self._open].entry.path, refused)

    def _ended(self, body: Body) -> None:
        number, reason, digest = fields(body, 3)
        wanted = self._due(number)
        landing, self._landing = self._landing, None
        if reason == AGAIN:
            if landing is not None:
                landing.discard()
            self._wanted[number] = wanted._replace(have=0, digest=None, is_target=False)
            return
        self._open = -1
        del self._wanted[number]
        if reason == DIFFERS:
            self.tally.leave("conflicts", wanted.entry.path, "changed on both sides")
            return
        if reason:  # the source counts it as its own failure
            if landing is not None:
                landing.discard()
            return
        self._complete(wanted, landing, str(digest))

    def _complete(self, wanted: _Wanted, landing: Landing | None, digest: str) -> None:
        entry = wanted.entry
        try:
            if landing is not None and landing.position != entry.size:
                raise Malformed(f"{landing.position} bytes of a file of {entry.size}")
            if self._digest is not None and self._digest.hexdigest() != digest:
                raise OSError(0, "what was there changed while the rest came")
            if landing is not None:
                landing.finish()
                self.tally.files_done += 1
            elif wanted.is_target and self._digest is not None:
                settle(self._place(entry), entry)
                self.tally.files_done += 1
        except (OSError, Malformed) as refused:
            if landing is not None:
                landing.discard()
            if isinstance(refused, Malformed):
                raise
            self._not_written(entry.path, refused)

    # --- the end of it

    def _go_on(self) -> None:
        if not self._is_listed or self._wanted or self._is_settled:
            return
        if self._wish.delete and self._asking is None:
            self._grounded.forget()
            self._asking = self._names_here()
            self._ask()
        elif not self._wish.delete:
            self._settle()

    def _names_here(self) -> Iterator[list[str]]:
        wish, asked = self._wish, []
        for entry in Scan(self._grounded.root, wish.patterns, "keep", lambda *_: None):
            asked.append(entry.path)
            if len(asked) == ASK_AT_ONCE:
                yield asked
                asked = []
        if asked:
            yield asked

    def _ask(self) -> None:
        """Whether the source has what is here: a batch, then its answer, then the next."""
        assert self._asking is not None
        self._asked = next(self._asking, [])
        if self._asked:
            self._say(HAVE_YOU, self._asked)
        else:
            for path in reversed(self._doomed):
                self._delete(path, is_folder=True)
            self._settle()

    def _missing(self, body: Body) -> None:
        for place in json_body(body, list):
            if type(place) is not int or not 0 <= place < len(self._asked):
                raise Malformed("a name is missing that was not asked for")
            path = self._asked[place]
            try:
                found = self._grounded.place(path).look()
            except OSError:
                continue
            if found is not None and stat.S_ISDIR(found.st_mode):
                self._doomed.append(path)
            elif found is not None:
                self._delete(path, is_folder=False)
        self._ask()

    def _remove(self, body: Body) -> None:
        """What the near end has decided to be removed."""
        for words in json_body(body, list):
            path, over = checked_choice(words)
            self.remove(path, over)

    def remove(self, path: str, over: list[int] | None) -> None:
        """Removes a file, a link or an empty folder, where it is what was seen there."""
        try:
            found = self._grounded.place(path).look()
        except OSError:
            return
        if found is None:
            return
        if not Entry(path, FILE, over=over).may_replace(found):
            self.tally.leave("conflicts", path, "changed while it was compared")
            return
        self._delete(path, is_folder=stat.S_ISDIR(found.st_mode))

    def _delete(self, path: str, *, is_folder: bool) -> None:
        try:
            self._grounded.forget()
            place = self._grounded.place(path)
            (os.rmdir if is_folder else os.unlink)(place.name, dir_fd=place.folder)
        except OSError as refused:
            if not is_folder:  # one that is not empty holds what takes no part
                self._failed(path, refused)
            return
        self.tally.note("deleted", path)

    def _settle(self) -> None:
        """The folders get their times, now that nothing is put into them any more."""
        self._is_settled = True
        for path, over in self._removals:
            self.remove(path, over)
        self._times.seek(0)
        for line in self._times:
            self._settle_folder(Entry(*json.loads(line)))
        for entry in reversed(self._narrow):
            self._settle_folder(entry)
        self._say(TALLY, self.tally.said())

    def _settle_folder(self, entry: Entry) -> None:
        try:
            settle(self._place(entry), entry)
        except OSError as refused:
            self._failed(entry.path, refused)

    def _remember(self, entry: Entry, is_new: bool) -> None:
        if not is_new and self._wish.which != ALWAYS:
            return  # its time is of no account to a sync
        if not entry.path:
            return
        if entry.mode & 0o700 != 0o700:
            self._narrow.append(entry)
        else:
            self._times.write(json.dumps(entry) + "\n")

    def _other_tally(self, body: Body) -> None:
        self.tally.add(json_body(body, dict))
        self.is_over = True

    def _fault(self, body: Body) -> None:
        raise Fault.heard(json_body(body, list))

    # --- inside

    @property
    def _grounded(self) -> Ground:
        if self._ground is None:
            raise Malformed("a list before its root")
        return self._ground

    def _place(self, entry: Entry) -> Place:
        if self._only:
            if entry.path or entry.kind != FILE:
                raise Malformed("more than the one file")
            return self._grounded.place(self._only)
        if not entry.path:
            raise Malformed("a file in place of the folder")
        return self._grounded.place(entry.path)

    def _due(self, number: Any) -> _Wanted:
        wanted = self._wanted.get(number) if type(number) is int else None
        if wanted is None:
            raise Malformed("a file that was not asked for")
        return wanted

    def _not_written(self, path: str, error: OSError) -> None:
        """The source sends it, and counts it as moved."""
        self.tally.count("files", -1)
        self._failed(path, error)

    def _failed(self, path: str, error: OSError) -> None:
        """It is told and the others go on; but a full disk is full for them, too."""
        if error.errno in FULL:
            raise Fault.of(error, f"{self.target}/{path}" if path else self.target)
        self.tally.leave("failed", path, error.strerror or str(error))
        self.tally.files_done += 1

    def _say(self, kind: bytes, what: Any) -> None:
        self._said.append(said(kind, what))


def _batches(chosen: Iterable[Chosen]) -> Iterator[list[Chosen]]:
    names = iter(chosen)
    while batch := list(islice(names, BATCH)):
        yield batch


def names_a_folder(place: str) -> bool:
    """Whether a target, as it was written, can only be a folder to put something into."""
    return place.endswith(("/", os.sep)) or os.path.basename(place) in ("", ".", "..")


_HANDLERS = {
    ROOT: Sink._root,
    TOTAL: Sink._total,
    ENTRIES: Sink._entries,
    LISTED: Sink._listed,
    WHOLE: Sink._whole,
    OPEN: Sink._opened,
    DATA: Sink._data,
    END: Sink._ended,
    MISSING: Sink._missing,
    REMOVE: Sink._remove,
    TALLY: Sink._other_tally,
    FAULT: Sink._fault,
}
