"""What a sync both ways has to do, from what is here, there, and was at the end of the last one.

Pure.  What changed on one side goes to the other; what changed on both is a conflict, and so
is what differs where nothing is remembered.  A file that was changed on one side and removed
on the other comes back: nothing is lost by that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..files.delta import is_same_time
from ..files.entries import FILE, FOLDER, LINK, Entry

__all__ = ["ABSENT", "Plan", "merge", "over"]

Tree = Mapping[str, Entry]
Over = list[int]  # size and mtime of what may be replaced

ABSENT: Over = [-1, 0]


@dataclass
class Plan:
    """Paths, sorted: folders come before what is in them."""

    up: list[str] = field(default_factory=list)
    down: list[str] = field(default_factory=list)
    compare: list[str] = field(default_factory=list)  # their content decides
    delete_here: list[str] = field(default_factory=list)
    delete_there: list[str] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)
    same: list[str] = field(default_factory=list)
    apart: list[str] = field(default_factory=list)  # removed on one side, and to stay on the other


def merge(here: Tree, there: Tree, before: Tree, *, delete: bool) -> Plan:
    """What is to be done, so that both are the same."""
    plan = Plan()
    for path in sorted({*here, *there}):
        mine, other, was = here.get(path), there.get(path), before.get(path)
        if mine is not None and other is not None:
            _both(plan, path, mine, other, was)
        elif mine is not None:
            _one(plan, path, mine, was, (plan.up, plan.delete_here), delete)
        elif other is not None:
            _one(plan, path, other, was, (plan.down, plan.delete_there), delete)
    # Folders go after what is in them.
    plan.delete_here.reverse()
    plan.delete_there.reverse()
    return plan


def over(entry: Entry | None) -> Over:
    """What a transfer may replace: what was seen there, and nothing newer."""
    return ABSENT if entry is None else [entry.size, entry.mtime]


def _both(plan: Plan, path: str, mine: Entry, other: Entry, was: Entry | None) -> None:
    if _is_same(mine, other):
        plan.same.append(path)
    elif was is not None and _is_same(other, was):
        plan.up.append(path)
    elif was is not None and _is_same(mine, was):
        plan.down.append(path)
    elif mine.kind == other.kind == FILE and mine.size == other.size:
        plan.compare.append(path)
    else:
        plan.conflicts.append(path)


def _one(
    plan: Plan, path: str, found: Entry, was: Entry | None,
    ways: tuple[list[str], list[str]], delete: bool,
) -> None:  # fmt: skip
    """It is on one side only: new there, or removed from the other."""
    onward, removal = ways
    if was is None or not _is_same(found, was):
        onward.append(path)
    elif delete:
        removal.append(path)
    else:
        plan.apart.append(path)


def _is_same(one: Entry, other: Entry) -> bool:
    if one.kind != other.kind:
        return False
    if one.kind == FILE:
        return one.size == other.size and is_same_time(one.mtime, other.mtime)
    return one.kind == FOLDER or (one.kind == LINK and one.link == other.link)
