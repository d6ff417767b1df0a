"""What `questions.sh` brought back, as values.  Pure.

The probe's facts are not repeated here.  A host may have lost its voice half-way: then
`is_whole` is false and what it said counts all the same.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Answers", "PlaceFound", "Sacct", "parse_answers"]


@dataclass(frozen=True)
class PlaceFound:
    """A directory that a server would use, or would make below `nearest`."""

    path: str
    nearest: str = ""
    fault: str = ""  # why it cannot be used
    free_kib: int | None = None
    kind: str = ""  # of file system
    executes: bool | None = None
    locks: bool | None = None


@dataclass(frozen=True)
class Sacct:
    """How `sacct` went; `status` is None where there is none."""

    status: int | None = None
    said: str = ""
    jobs: int = 0
    steps: int = 0


@dataclass(frozen=True)
class Answers:
    """What a head said of itself."""

    is_whole: bool = False
    shell: str = ""
    places: tuple[PlaceFound, ...] = ()  # the state directory first
    quota: tuple[str, ...] = ()
    programs: frozenset[str] = frozenset()
    sacct: Sacct = Sacct()
    has_logind: bool = False
    kills: str = ""  # KillUserProcesses as the files say; empty where they do not
    lingers: bool = False


def parse_answers(text: str, nonce: str) -> Answers:
    """The answers in what a host printed; everything else in it is passed over."""
    line = re.compile(rf"{re.escape(nonce)} ([a-z_]+)=([^\n]*)")
    pairs = [(key, value.strip()) for key, value in line.findall(text)]
    single = dict(reversed(pairs))  # the first of each counts
    return Answers(
        is_whole="end" in single,
        shell=single.get("shell", ""),
        places=tuple(map(_place, _records(pairs))),
        quota=tuple(value for key, value in pairs if key == "quota"),
        programs=frozenset(value for key, value in pairs if key == "program"),
        sacct=_sacct(single),
        has_logind=single.get("logind") == "yes",
        kills=single.get("kills", "").lower(),
        lingers=single.get("linger") == "yes",
    )


def _records(pairs: list[tuple[str, str]]) -> list[dict[str, str]]:
    records: list[dict[str, str]] = []
    for key, value in pairs:
        if key == "place":
            records.append({key: value})
        elif key.startswith("place_") and records:
            records[-1].setdefault(key, value)
    return records


def _place(record: dict[str, str]) -> PlaceFound:
    return PlaceFound(
        path=record["place"],
        nearest=record.get("place_in", ""),
        fault=record.get("place_fault", ""),
        free_kib=_number(record.get("place_free", "")),
        kind=record.get("place_kind", ""),
        executes=_truth(record.get("place_executes", "")),
        locks=_truth(record.get("place_locks", "")),
    )


def _sacct(single: dict[str, str]) -> Sacct:
    return Sacct(
        status=_number(single.get("sacct_status", "")),
        said=single.get("sacct_said", ""),
        jobs=_number(single.get("sacct_jobs", "")) or 0,
        steps=_number(single.get("sacct_steps", "")) or 0,
    )


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() else None


def _truth(text: str) -> bool | None:
    return {"yes": True, "no": False}.get(text)
