"""An event loop around one test, with an end to its patience."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["SECONDS", "run"]

SECONDS = 60.0

Result = TypeVar("Result")


def run(coroutine: Coroutine[Any, Any, Result], seconds: float = SECONDS) -> Result:
    """What the coroutine returns; fails with asyncio.TimeoutError where it hangs."""

    async def within() -> Result:
        return await asyncio.wait_for(coroutine, seconds)

    return asyncio.run(within())
