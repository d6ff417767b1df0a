#!/usr/bin/env python3
"""Puts what the reliability tests reached into the last column of reliability.md.

    python docs/draw_figures.py            rewrites what is out of date
    python docs/draw_figures.py --check    says whether it is, and exits with status 1

The figures come from reliability.json, which a run of the tests writes:
`pytest tests/reliability --figures docs/reliability.json`.  All other columns are written
by people.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

DOCS = Path(__file__).resolve().parent
PAGE = DOCS / "reliability.md"
FIGURES = DOCS / "reliability.json"

# Number, promise and test are kept; what follows is ours.
ROW = re.compile(r"^(\| (\d+) \|(?:[^|\n]*\|){2})[^|\n]*\|$", re.MULTILINE)


def main(arguments: Sequence[str]) -> int:
    """Exit status 1 where the page was out of date and had to stay so."""
    before = PAGE.read_text("utf-8")
    rows = json.loads(FIGURES.read_text("utf-8"))["rows"]
    after = ROW.sub(lambda found: f"{found[1]}{_told(rows.get(found[2], {}))}|", before)
    if after == before:
        return 0
    if "--check" in arguments:
        sys.stdout.write(f"{PAGE.name} is out of date\n")
        return 1
    PAGE.write_text(after, "utf-8")
    sys.stdout.write(f"{PAGE.name} redrawn\n")
    return 0


def _told(numbers: Mapping[str, float]) -> str:
    """`slowest seconds 0.4, cuts 100`."""
    told = [f"{name.replace('_', ' ')} {number:,}" for name, number in numbers.items()]
    return f" {', '.join(told)} " if told else " "


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
