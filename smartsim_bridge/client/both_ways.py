"""A sync both ways: two lists, a decision, and a transfer each way.

Both trees are listed, here and there, and compared with what they had in common at the end
of their last sync; `merging` decides.  Whatever is then written or removed is only so where
it is still what was seen, so nobody's change is lost between the look and the deed.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from ..files.end import ALWAYS, CHANGED, Wish
from ..files.entries import Entry
from ..files.listing import Listing
from ..files.report import MAX_TOLD, FilesReport, Left, SyncReport
from ..files.scan import Scan
from ..files.sink import Sink
from ..files.source import Chosen, Source
from ..files.tally import Tally
from .last_sync import LastSync
from .merging import Plan, merge, over
from .transfer import Files, absolute

__all__ = ["sync_both_ways"]

Tree = dict[str, Entry]


async def sync_both_ways(
    files: Files, folder: str, remote: str, *, delete: bool, keep_newer: bool, **wishes: Any
) -> SyncReport:
    """As `AsyncBridge.sync`; which is newer is of no account, for it is known what changed."""
    root = await asyncio.to_thread(os.path.realpath, absolute(folder))
    memory = LastSync(files.bridge.sync_directory, *files.bridge.spelled, root, remote.rstrip("/"))
    wish = files.wish(remote, sends=True, which=CHANGED, is_folder=True, **wishes)
    there, left_there, place = await _listed_there(files, wish)
    here, left_here = await asyncio.to_thread(_listed_here, root, wish)
    # Where one of them is not there at all, nothing was removed from it: all of it is to come.
    is_known = here is not None and there is not None
    before = await asyncio.to_thread(memory.read) if is_known else {}
    sides = _Sides(files, root, remote, wishes, here or {}, there or {})
    sides.leave_out(left_here, left_there)
    # What could not be seen must not count as removed.
    is_seen = not any(
        one.failures or _is_cut(one.lists.values()) for one in (left_here, left_there)
    )
    plan = merge(sides.here, sides.there, before, delete=delete and is_seen)
    try:
        await sides.carry_out(plan)
    finally:
        common = sides.in_common(plan, before)
        await asyncio.shield(asyncio.to_thread(memory.write, common))
    return sides.reported(plan, place)


async def _listed_there(files: Files, wish: Wish) -> tuple[Tree | None, Tally, str]:
    """No tree where there is no such folder; and what it is called there."""
    listing = Listing()
    try:
        await files.transfer(listing, replace(wish, totals=False))
    except FileNotFoundError:
        return None, listing.tally, ""
    return listing.entries, listing.tally, listing.root


def _listed_here(root: str, wish: Wish) -> tuple[Tree | None, Tally]:
    left = Tally()
    if not os.path.isdir(root):
        return None, left
    scan = Scan(root, wish.patterns, wish.symlinks, left.tell)
    return {one.path: one for one in scan}, left


class _Sides:
    """The two trees, and what has been done to them."""

    def __init__(
        self,
        files: Files,
        root: str,
        remote: str,
        wishes: Mapping[str, Any],
        here: Tree,
        there: Tree,
    ) -> None:
        self.here, self.there = here, there
        self._files = files
        self._root = root
        self._remote = remote
        self._wishes = {"is_folder": True, **wishes}
        self._up = self._down = self._compared = FilesReport()
        self._done: set[str] = set()

    def leave_out(self, *left: Tally) -> None:
        """What takes no part on one side takes none on the other."""
        self._skipped = tuple(one for tally in left for one in tally.lists["skipped"])
        self._unseen = tuple(one for tally in left for one in tally.lists["failed"])
        for one in (*self._skipped, *self._unseen):
            self.here.pop(one.path, None)
            self.there.pop(one.path, None)

    async def carry_out(self, plan: Plan) -> None:
        """Each of its parts; what cannot be moved does not keep the others."""
        if plan.compare:
            wish = self._wish(sends=False, which=CHANGED, compares=True)
            self._compared = await self._send(wish, plan.compare, [])
            self._note(plan.compare, self._compared)
        if plan.up or plan.delete_there:
            wish = self._wish(sends=False, which=ALWAYS)
            self._up = await self._send(wish, plan.up, plan.delete_there)
            self._note([*plan.up, *plan.delete_there], self._up)
        if plan.down or plan.delete_here:
            wish = self._wish(sends=True, which=ALWAYS, chosen=True)
            chosen, remove = _over(plan.down, self.here), _over(plan.delete_here, self.here)
            self._down = await self._files.move(
                lambda: Sink(self._root, wish, chosen, remove), wish
            )
            self._note([*plan.down, *plan.delete_here], self._down)

    def in_common(self, plan: Plan, before: Tree) -> list[Entry]:
        """What both have now; of what was not done, what they had."""
        known = {path: before[path] for path in (*plan.apart, *plan.conflicts) if path in before}
        known.update((path, self.here[path]) for path in plan.same)
        for paths, tree in (
            (plan.compare, self.here),
            (plan.up, self.here),
            (plan.down, self.there),
        ):
            for path in paths:
                if path in self._done:
                    known[path] = tree[path]
                elif path in before:
                    known[path] = before[path]
        for path in (*plan.delete_here, *plan.delete_there):
            if path not in self._done and path in before:
                known[path] = before[path]
        return [known[path] for path in sorted(known)]

    def reported(self, plan: Plan, place: str) -> SyncReport:
        """What was done.  Raises TransferIncomplete."""
        conflicts = [Left(path, "changed on both sides") for path in plan.conflicts]
        up = replace(
            self._up,
            source=self._root,
            target=self._up.target or place,
            unchanged=sum(bool(self.here[path].kind == "f") for path in plan.same),
            skipped=self._skipped,
            conflicts=(*conflicts, *self._compared.conflicts, *self._up.conflicts)[:MAX_TOLD],
            failed=(*self._unseen, *self._compared.failed, *self._up.failed)[:MAX_TOLD],
        )
        report = SyncReport(up, self._down)
        self._files.check(report, (*up.failed, *self._down.failed))
        return report

    def _wish(self, **wishes: Any) -> Wish:
        return self._files.wish(self._remote, **{**self._wishes, **wishes})

    async def _send(self, wish: Wish, paths: list[str], remove: list[str]) -> FilesReport:
        chosen, removed = _over(paths, self.there), _over(remove, self.there)
        os.makedirs(self._root, exist_ok=True)
        return await self._files.move(lambda: Source(self._root, wish, chosen, removed), wish)

    def _note(self, paths: Iterable[str], report: FilesReport) -> None:
        if not _is_cut((report.failed, report.conflicts)):
            left = {one.path for one in (*report.failed, *report.conflicts)}
            self._done.update(path for path in paths if path not in left)


def _over(paths: Iterable[str], tree: Tree) -> list[Chosen]:
    return [(path, over(tree.get(path))) for path in paths]


def _is_cut(lists: Iterable[Any]) -> bool:
    """Whether there may be more than is named."""
    return any(len(one) >= MAX_TOLD for one in lists)
