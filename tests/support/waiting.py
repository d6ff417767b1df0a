"""Waits for a condition that nobody announces: another process, or the kernel."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

__all__ = ["PATIENCE", "wait_until", "wait_until_async"]

_PAUSE = 0.01
# Only a test that fails ever waits so long; a machine that is busy for some seconds is no reason.
PATIENCE = 60.0


def wait_until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Returns as soon as `condition()` is true; fails when it does not become true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"did not happen within {seconds} s"
        time.sleep(_PAUSE)


async def wait_until_async(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """The same for a running loop, which goes on meanwhile."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"did not happen within {seconds} s"
        await asyncio.sleep(_PAUSE)
