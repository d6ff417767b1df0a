"""docs/reliability.md: each promise names its tests, they exist, and its figures are theirs."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.support.figures import ROWS, Figures

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reliability.md"
FIGURES = ROOT / "docs" / "reliability.json"

LINE = re.compile(r"^\| (\d+) \|([^|\n]*)\|([^|\n]*)\|([^|\n]*)\|$", re.MULTILINE)
# `file::function`, the file as seen from tests/.
NODE = re.compile(r"`([\w/]+\.py)::(\w+)`")


def _rows() -> dict[int, tuple[str, str]]:
    """Number -> promise and test."""
    found = LINE.findall(PAGE.read_text("utf-8"))
    return {int(number): (promise.strip(), test.strip()) for number, promise, test, _ in found}


@cache
def _tests_of(file: Path) -> frozenset[str]:
    tree = ast.parse(file.read_text("utf-8"))
    return frozenset(
        node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)
    ) | frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef))


def test_every_row_is_there_once_and_in_order() -> None:
    numbers = [int(number) for number, *_ in LINE.findall(PAGE.read_text("utf-8"))]
    assert numbers == list(ROWS)


@pytest.mark.parametrize("row", ROWS)
def test_each_promise_names_tests_that_exist(row: int) -> None:
    promise, test = _rows()[row]
    assert promise
    nodes = NODE.findall(test)
    assert nodes, f"row {row} names no test: {test}"
    for file, function in nodes:
        path = ROOT / "tests" / file
        assert path.exists(), f"row {row} names {file}"
        assert function.startswith("test_")
        assert function in _tests_of(path), f"row {row} names {file}::{function}"


def test_figures_are_those_of_the_last_run() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "draw_figures.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, f"run docs/draw_figures.py\n{done.stdout}{done.stderr}"


def test_figures_name_no_row_that_is_not_there() -> None:
    assert {int(row) for row in json.loads(FIGURES.read_text("utf-8"))["rows"]} <= set(ROWS)


def test_largest_figure_of_a_name_stays_and_what_did_not_run_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    first = Figures()
    first.reached(1, slowest_seconds=0.5, connections=10)
    first.reached(2, grown_mib=1.23456)
    first.write(path)
    second = Figures()
    second.reached(1, slowest_seconds=0.25)
    second.reached(1, slowest_seconds=0.125)
    second.write(path)
    assert json.loads(path.read_text("utf-8"))["rows"] == {
        "1": {"slowest_seconds": 0.25, "connections": 10},
        "2": {"grown_mib": 1.23},
    }


def test_row_that_does_not_exist_is_refused() -> None:
    with pytest.raises(AssertionError):
        Figures().reached(34, anything=1)
