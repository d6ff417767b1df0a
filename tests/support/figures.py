"""What the reliability tests reached, kept beside what they assert.

    def test_...(figure):
        ...every assertion...
        figure(13, cuts=100, lines=1_000_000, slowest_resume_seconds=0.4)

`pytest tests/reliability --figures docs/reliability.json` writes them down, row by row of
docs/reliability.md; docs/draw_figures.py puts them into that page.  A figure is told, never
asserted.  Where several tests of a row tell one by the same name, the largest stays; what
did not run keeps what an earlier run wrote.
"""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Protocol, Union

import pytest

__all__ = ["ROWS", "Figure", "Figures", "figure"]

ROWS = range(1, 34)

Number = Union[int, float]


class Figure(Protocol):
    def __call__(self, row: int, **numbers: Number) -> None:
        """Call it last: who has failed before has reached nothing.

        The names are words with their unit: `slowest_seconds`, `grown_mib`.  A parameter that
        two figures only mean something with belongs into their names: the largest of each
        stays, and together they must not tell of a run that never was.
        """


class Figures:
    """Those of one run."""

    def __init__(self) -> None:
        self.rows: dict[int, dict[str, Number]] = {}

    def reached(self, row: int, **numbers: Number) -> None:
        assert row in ROWS, f"there is no row {row}"
        known = self.rows.setdefault(row, {})
        for name, number in numbers.items():
            told = _rounded(number)
            known[name] = max(known.get(name, told), told)

    def write(self, path: Path) -> None:
        """Adds them to what the file has, sorted, so that a difference can be read."""
        before = json.loads(path.read_text("utf-8")) if path.exists() else {}
        merged: dict[str, dict[str, Number]] = before.get("rows", {})
        for row, found in self.rows.items():
            merged[str(row)] = {**merged.get(str(row), {}), **found}
        content = {
            "machine": f"{platform.system()}, {os.cpu_count()} cores",
            "python": platform.python_version(),
            "rows": {row: merged[row] for row in sorted(merged, key=int)},
        }
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


KEY = pytest.StashKey[Figures]()


def _rounded(number: Number) -> Number:
    """Three digits tell enough, and the next run will differ anyway."""
    return float(f"{number:.3g}") if isinstance(number, float) else number


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Figure:
    """Notes a figure; does nothing more where nobody asked for them."""
    return request.config.stash.setdefault(KEY, Figures()).reached
