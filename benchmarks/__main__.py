"""`python -m benchmarks`: measures everything in one run and writes the tables.

The whole run takes some minutes; `--quick` takes seconds, shows that everything works, and
writes no document.  Nothing here fails because something was slow.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path

from tests.support.sshd import SSHD

from .bulk import GIB, MIB, measure_input, measure_output
from .cold import measure_cold
from .crowd import measure_crowd
from .distance import DISTANCES, measure_distance
from .files import measure_files
from .growth import measure_growth
from .head import open_head
from .imports import measure_imports
from .machine import describe_load, describe_machine
from .report import Run, render, write_between_markers
from .shims import measure_shims
from .trips import measure_trips

__all__ = ["main"]

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
DOCUMENT = ROOT / "docs" / "performance.md"

# Rounds of each chapter, and how much of what some of them measure.
WHOLE = {
    "trips": 150,
    "crowd": 7,
    "commands": 1000,
    "cold": 12,
    "imports": 15,
    "shims": 60,
    "bulk": 5,
    "largest": GIB // MIB,
    "files": 3,
    "file": 256,
    "many": 2000,
    "distance": 20,
    "growth": 100,
    "past": 10_000,
}
QUICK = {
    "trips": 10,
    "crowd": 2,
    "commands": 100,
    "cold": 2,
    "imports": 3,
    "shims": 3,
    "bulk": 1,
    "largest": 1,
    "files": 1,
    "file": 1,
    "many": 20,
    "distance": 1,
    "growth": 5,
    "past": 100,
}
OTHERS = {
    "commands": "commands at once",
    "largest": "the largest amount in MiB",
    "file": "the one large file, in MiB",
    "many": "small files of a folder",
    "past": "commands before, at most",
}


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0 when everything was measured, whatever came out."""
    arguments = _parser().parse_args(argv)
    if SSHD is None:
        print("There is no sshd here to measure against.", file=sys.stderr)
        return 1
    counts = _counts(arguments)
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(10**6)
    print(f"seed {seed}", file=sys.stderr, flush=True)
    # So that sshd and the server are ended by us, too, when somebody ends us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    run = _measure(counts, seed)
    text = render(run)
    print(text)
    results = arguments.results or (None if arguments.quick else RESULTS)
    if results:
        _keep(run, results)
    document = arguments.document or (None if arguments.quick else DOCUMENT)
    if document:
        write_between_markers(document, text)
    return 0


def _measure(counts: Mapping[str, int], seed: int) -> Run:
    chance = random.Random(seed)
    before, when = describe_load(), datetime.now(timezone.utc)
    with open_head() as head:
        crowd, memory = measure_crowd(head, counts["commands"], counts["crowd"], chance)
        contests = {
            "trips": measure_trips(head, counts["trips"], chance),
            "crowd": crowd,
            "cold": measure_cold(head, counts["cold"], chance),
            "imports": measure_imports(counts["imports"], chance),
            "shims": measure_shims(counts["shims"], chance),
            "output": measure_output(head, counts["largest"] * MIB, counts["bulk"], chance),
            "input": measure_input(head, counts["largest"] * MIB, counts["bulk"], chance),
            "files": measure_files(
                head, counts["file"] * MIB, counts["many"], counts["files"], chance
            ),
            **{
                words: measure_distance(head, seconds, counts["distance"], chance)
                for words, seconds in DISTANCES.items()
            },
        }
        growth = measure_growth(head, counts["past"], counts["growth"], chance)
    return Run(
        when.strftime("%Y-%m-%d %H:%M UTC"),
        seed,
        describe_machine(),
        (before, describe_load()),
        counts,
        contests,
        memory,
        growth,
    )


def _keep(run: Run, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    name = "".join(c for c in run.when if c.isdigit() or c == " ").strip().replace(" ", "-")
    content = json.dumps(run.as_json(), separators=(",", ":"))
    (directory / f"{name}.json").write_text(content + "\n", encoding="utf-8")


def _counts(arguments: argparse.Namespace) -> dict[str, int]:
    counts = QUICK if arguments.quick else WHOLE
    return {name: getattr(arguments, name) or count for name, count in counts.items()}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rounds, no document")
    parser.add_argument("--seed", type=int, help="of the order of turns (default: drawn)")
    for name, count in WHOLE.items():
        what = OTHERS.get(name, f"rounds of {name}")
        parser.add_argument(f"--{name}", type=_positive, help=f"{what} (default {count})")
    parser.add_argument("--results", type=Path, metavar="DIR", help="where raw data goes")
    parser.add_argument("--document", type=Path, metavar="FILE", help="where the tables go")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
