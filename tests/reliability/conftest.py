"""Options of the reliability suite, and the fixture that notes what it reached.

pytest tests/reliability                       minutes; what CI runs
pytest tests/reliability --soak                with the long runs
pytest tests/reliability --figures FILE        and write down what was reached
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reliability.ways import direct, tunnel, way
from tests.support.figures import KEY, figure

__all__ = ["direct", "figure", "tunnel", "way"]

HERE = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--figures", metavar="FILE", help="write what the tests reached, as JSON")
    parser.addoption("--soak", action="store_true", help="run what takes many minutes, too")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "soak: takes many minutes; deselected without --soak")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # Without the option where the suite is collected from further up, as by a plain `pytest`.
    if config.getoption("--soak", default=False) or "soak" in config.getoption("-m", default=""):
        return
    long = [item for item in items if HERE in item.path.parents and item.get_closest_marker("soak")]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]


def pytest_sessionfinish(session: pytest.Session) -> None:
    path = session.config.getoption("--figures", default=None)
    figures = session.config.stash.get(KEY, None)
    if path is not None and figures is not None:
        figures.write(Path(path))
