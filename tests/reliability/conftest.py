"""Options of the reliability suite, and the fixture that notes what it reached.

pytest tests/reliability                       minutes; what CI runs
pytest tests/reliability --soak                with the long runs
pytest tests/reliability --figures FILE        and write down what was reached
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reliability.ways import direct, tunnel, way
from tests.support.amounts import amount
from tests.support.figures import KEY, figure

__all__ = ["amount", "direct", "figure", "tunnel", "way"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--figures", metavar="FILE", help="write what the tests reached, as JSON")


def pytest_sessionfinish(session: pytest.Session) -> None:
    path = session.config.getoption("--figures", default=None)
    figures = session.config.stash.get(KEY, None)
    if path is not None and figures is not None:
        figures.write(Path(path))
