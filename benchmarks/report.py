"""The tables, as Markdown, and their place between the markers of a document."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import bulk, cold, crowd, distance, files, shims, trips
from .budget import Verdict, judge
from .figures import Spread, ratio, spread
from .growth import Grown
from .peers import FreshSsh, Here
from .rounds import Contest

__all__ = ["CHAPTERS", "Run", "render", "write_between_markers"]

BEGIN, END = "<!-- results -->", "<!-- /results -->"
MS = 1000.0


@dataclass(frozen=True)
class Chapter:
    """A table: the rows' figures by `parts` (with their headings), compared with `basis`."""

    key: str
    title: str
    parts: Mapping[str, str]
    basis: tuple[str, str]  # name and part that all are divided by
    compared: str  # the part that is divided
    against: str  # the basis, in the heading
    rounds: str = ""  # by which name their number is counted, where that is not the key

    @property
    def counted(self) -> str:
        return self.rounds or self.key


def _bulk(key: str, title: str) -> Chapter:
    sizes = {words: words for words in bulk.SIZES}
    largest = bulk.GIBIBYTE
    basis = (FreshSsh.name, largest)
    return Chapter(key, title, sizes, basis, largest, f"fresh ssh, {largest}", "bulk")


def _distance(words: str) -> Chapter:
    parts = {distance.ONE: "one `true`", distance.TOGETHER: f"{distance.CROWD} at once"}
    basis = (distance.TRIP, distance.ONE)
    title = f"With a round trip of {words}"
    return Chapter(words, title, parts, basis, distance.ONE, "a round trip", "distance")


CHAPTERS = (
    Chapter(
        "trips",
        "Round trip of `true`",
        {trips.FIRST: "first call", trips.AGAIN: "next call"},
        (Here.name, trips.FIRST),
        trips.FIRST,
        "local",
    ),
    Chapter(
        "crowd",
        "Many commands at once",
        {crowd.SECONDS: "all of them"},
        (Here.name, crowd.SECONDS),
        crowd.SECONDS,
        "local",
    ),
    Chapter(
        "cold",
        "From nothing to the first result",
        {cold.IMPORTS: "imports", cold.FIRST: "connect and `true`", cold.WHOLE: "whole"},
        (cold.SSH, cold.FIRST),
        cold.FIRST,
        "fresh ssh",
    ),
    Chapter(
        "imports",
        "Interpreters and imports",
        {"seconds": "whole"},
        ("python -c pass", "seconds"),
        "seconds",
        "`-c pass`",
    ),
    Chapter(
        "shims",
        "Shims",
        {shims.SECONDS: "whole"},
        (shims.BARE, shims.SECONDS),
        shims.SECONDS,
        "`-I -S -c pass`",
    ),
    _bulk("output", "Output of a command"),
    _bulk("input", "Input of a command"),
    Chapter(
        "files",
        "Files: a large one, and many small ones",
        {
            part: part
            for part in (
                *(files.LARGE_UP, files.LARGE_DOWN),
                *(files.MANY_UP, files.MANY_DOWN, files.AGAIN),
            )
        },
        (files.SCP, files.LARGE_UP),
        files.LARGE_UP,
        "scp, large up",
    ),
    *(_distance(words) for words in distance.DISTANCES),
)


@dataclass(frozen=True)
class Run:
    """Everything that one run found."""

    when: str
    seed: int
    machine: Mapping[str, str]
    load: tuple[str, str]  # before and after
    counts: Mapping[str, int]
    contests: Mapping[str, Contest]
    memory: Mapping[str, float]
    growth: Sequence[Grown]

    def as_json(self) -> dict[str, object]:
        """The raw data."""
        contests = {key: contest.as_json() for key, contest in self.contests.items()}
        return {
            "when": self.when,
            "seed": self.seed,
            "machine": dict(self.machine),
            "load": list(self.load),
            "counts": dict(self.counts),
            "memory_mb": dict(self.memory),
            "contests": contests,
            "growth": [
                {
                    "stage": one.words,
                    "server_mb": one.server_mb,
                    "client_mb": one.client_mb,
                    **one.contest.as_json(),
                }
                for one in self.growth
            ],
        }


def render(run: Run) -> str:
    """Budget first, then what it was judged by."""
    parts = [_preamble(run), _budget(judge(run.contests, run.memory, run.growth))]
    parts += [_chapter(chapter, run) for chapter in CHAPTERS]
    parts.append(_growth(run))
    return "\n\n".join(parts)


def write_between_markers(file: Path, text: str) -> None:
    """Replaces what is between the markers.  Raises ValueError where they are not there."""
    before, begin, rest = file.read_text("utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{file} has no {BEGIN} ... {END}")
    file.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def _preamble(run: Run) -> str:
    machine = " · ".join(f"{name} {value}" for name, value in run.machine.items())
    load = f"load average {run.load[0]} before and {run.load[1]} after"
    return f"Measured {run.when}, seed {run.seed}, {load}.\n\n{machine}"


def _budget(verdicts: Iterable[Verdict]) -> str:
    words = {True: "met", False: "**not met**", None: "not measured"}
    rows = [
        [one.words, _plain(one.found), _quartiles(one.found), f"{one.limit:.3g}", words[one.kept]]
        for one in verdicts
    ]
    return "### Budget\n\n" + _table(["", "median", "quartiles", "at most", ""], rows)


def _chapter(chapter: Chapter, run: Run) -> str:
    contest = run.contests[chapter.key]
    heads = [heading for name in chapter.parts.values() for heading in (f"{name}, ms", "quartiles")]
    rows = [_row(name, chapter, contest) for name in _names(contest, chapter.compared)]
    table = _table(["", *heads, f"to {chapter.against}"], rows)
    notes = [f"- {name} is missing: {why}" for name, why in contest.missing.items()]
    notes += [
        f"- {name} failed in {contest.failures(name)} of {len(contest.rounds)} rounds: {fault}"
        for name, fault in contest.faults.items()
    ]
    told = f"### {chapter.title}\n\n{run.counts[chapter.counted]} rounds.{_extra(chapter, run)}\n\n"
    return told + "\n".join([table, *([""] if notes else []), *notes])


def _growth(run: Run) -> str:
    rows = [
        [
            one.words,
            "" if one.cost is None else _number(one.cost),
            _number(one.server_mb),
            _number(one.client_mb),
        ]
        for one in run.growth
    ]
    heads = ["", "`true` to local", "server, MB", "added to the client's process, MB"]
    return f"### Growth\n\n{run.counts['growth']} rounds of each.\n\n{_table(heads, rows)}"


def _extra(chapter: Chapter, run: Run) -> str:
    if chapter.key != "crowd":
        return ""
    return f" {run.counts['commands']} commands each, {crowd.PARALLEL} threads."


def _names(contest: Contest, part: str) -> list[str]:
    """By their medians of that part; what is missing comes last."""
    names = {name for one in contest.rounds for name in one}

    def middle(name: str) -> float:
        found = spread(contest, name, part)
        return found.median if found else 0.0

    failed = [name for name in contest.faults if name not in names]
    return [*sorted(names, key=middle), *failed, *contest.missing]


def _row(name: str, chapter: Chapter, contest: Contest) -> list[str]:
    cells = [name]
    for part in chapter.parts:
        found = spread(contest, name, part)
        cells += [_plain(found, MS), _quartiles(found, MS)]
    if name in contest.missing:
        cells[1] = "missing"
    return [*cells, _plain(ratio(contest, (name, chapter.compared), chapter.basis))]


def _plain(found: Spread | None, unit: float = 1.0) -> str:
    return "" if found is None else _number(found.median * unit)


def _quartiles(found: Spread | None, unit: float = 1.0) -> str:
    if found is None or found.count == 1:
        return ""
    return f"{_number(found.low * unit)} to {_number(found.high * unit)}"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    align = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, align, *rows))
