"""Waiting for a condition that nobody announces: a process that ends, a file that appears."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["wait_until"]

PAUSE = 0.01  # seconds between two looks


def wait_until(
    condition: Callable[[], object], seconds: float = 10.0, message: str = "it did not happen"
) -> None:
    """Returns when `condition` holds; AssertionError where it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{message}, in {seconds:g} s"
        time.sleep(PAUSE)
