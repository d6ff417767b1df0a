"""docs/sites.md: each problem of a real site has its answer, and tests that exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "sites.md"
ROWS = range(1, 21)

LINE = re.compile(r"^\| (\d+) \|([^|\n]*)\|([^|\n]*)\|([^|\n]*)\|$", re.MULTILINE)
# `file::function`, the file as seen from tests/.
NODE = re.compile(r"`([\w/]+\.py)::(\w+)`")


@cache
def _tests_of(file: Path) -> frozenset[str]:
    tree = ast.parse(file.read_text("utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


def _reasons() -> set[int]:
    """The rows of which something is not done, and told why."""
    _, _, rest = PAGE.read_text("utf-8").partition("\n## What is not done\n")
    return {int(row) for row in re.findall(r"^- Row (\d+): ", rest, re.MULTILINE)}


def test_every_problem_is_there_once_and_in_order() -> None:
    numbers = [int(number) for number, *_ in LINE.findall(PAGE.read_text("utf-8"))]
    assert numbers == list(ROWS)


@pytest.mark.parametrize("row", ROWS)
def test_each_problem_has_an_answer_and_tests_that_exist(row: int) -> None:
    lines = {int(number): rest for number, *rest in LINE.findall(PAGE.read_text("utf-8"))}
    problem, answer, held_by = (cell.strip() for cell in lines[row])
    assert problem
    assert answer
    nodes = NODE.findall(held_by)
    assert nodes, f"row {row} names no test"
    assert NODE.sub("", held_by).strip(" ,") == "", f"row {row} names what is no test: {held_by}"
    for file, function in nodes:
        path = ROOT / "tests" / file
        assert path.exists(), f"row {row} names {file}"
        assert function.startswith("test_")
        assert function in _tests_of(path), f"row {row} names {file}::{function}"


def test_what_is_not_done_is_of_a_row_that_is_there() -> None:
    assert _reasons()
    assert _reasons() <= set(ROWS)


def test_the_index_leads_here() -> None:
    assert "(sites.md)" in (ROOT / "docs" / "index.md").read_text("utf-8")
