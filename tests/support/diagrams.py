"""The rows under the pictures of the state tables, as the tables would write them."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from types import ModuleType
from typing import TypeVar

__all__ = ["drawn_rows", "pictured_words", "rows_of"]

State = TypeVar("State", bound=enum.Enum)
Input = TypeVar("Input", bound=enum.Enum)


def rows_of(table: Mapping[tuple[State, Input], State]) -> dict[str, str]:
    """State -> "input: next state;  ..." in the order of the table."""
    rows: dict[str, list[str]] = {}
    for (state, what), following in table.items():
        rows.setdefault(state.name, []).append(f"{what.value}: {following.name}")
    return {state: ";  ".join(moves) for state, moves in rows.items()}


def drawn_rows(module: ModuleType) -> dict[str, str]:
    """The same, as the module's docstring says it."""
    return dict(re.findall(r"^    ([A-Z]+) +--  (.+)$", module.__doc__ or "", re.MULTILINE))


def pictured_words(module: ModuleType) -> set[str]:
    """Capitalised words of the picture above the rows: its states."""
    lines = [
        line
        for line in (module.__doc__ or "").splitlines()
        if line.startswith("    ") and "  --  " not in line
    ]
    return set(re.findall(r"\b[A-Z]{3,}\b", "\n".join(lines)))
