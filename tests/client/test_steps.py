"""Blocking work beside a loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

from smartsim_bridge.client.steps import in_thread
from tests.support.loops import run
from tests.support.waiting import wait_until, wait_until_async


def test_a_step_runs_beside_the_loop() -> None:
    async def main() -> None:
        gate = threading.Event()
        step = asyncio.ensure_future(in_thread(gate.wait, lambda _: None))
        await asyncio.sleep(0)
        gate.set()
        assert await step is True

    run(main())


def test_a_step_that_fails_raises() -> None:
    def broken() -> None:
        raise ValueError("as it is")

    with pytest.raises(ValueError, match="as it is"):
        run(in_thread(broken, lambda _: None))


def test_the_result_of_a_cancelled_step_is_undone() -> None:
    undone: list[str] = []
    gate = threading.Event()

    def work() -> str:
        gate.wait()
        return "made"

    async def main() -> None:
        step = asyncio.ensure_future(in_thread(work, undone.append))
        await asyncio.sleep(0)
        step.cancel()
        with pytest.raises(asyncio.CancelledError):
            await step
        gate.set()
        await wait_until_async(lambda: undone == ["made"])

    run(main())


def test_the_result_of_a_step_that_outlives_its_loop_is_undone() -> None:
    undone: list[str] = []
    gate = threading.Event()

    def work() -> str:
        gate.wait()
        return "made"

    async def main() -> None:
        step = asyncio.ensure_future(in_thread(work, undone.append))
        await asyncio.sleep(0)
        step.cancel()

    run(main())
    gate.set()
    wait_until(lambda: undone == ["made"])
