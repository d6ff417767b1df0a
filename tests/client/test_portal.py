"""The one thread with a loop, and those who wait for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from smartsim_bridge.client.portal import Desk, Portal, in_thread, portal
from smartsim_bridge.errors import AuthenticationRequired, BridgeClosed
from tests.support.loops import run
from tests.support.waiting import wait_until, wait_until_async


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return number * 2


async def fail() -> None:
    raise ValueError("as it is")


def test_a_call_gives_the_coroutines_result() -> None:
    assert portal().call(double(21)) == 42


def test_a_call_raises_what_the_coroutine_raises() -> None:
    with pytest.raises(ValueError, match="as it is"):
        portal().call(fail())


def test_there_is_one_portal_whoever_asks_first() -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: portal(), range(32)))
    assert len(set(map(id, found))) == 1
    assert sum(thread.name == "smartsim_bridge" for thread in threading.enumerate()) == 1


def test_many_threads_call_at_once() -> None:
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda i: portal().call(double(i)), range(100))) == [
            i * 2 for i in range(100)
        ]


def test_a_call_from_the_loops_own_thread_is_an_error_and_no_hang() -> None:
    async def inner() -> None:
        portal().call(double(1))

    with pytest.raises(RuntimeError, match="cannot run"):
        portal().call(inner())


def test_the_portal_of_another_process_is_an_error_and_no_hang(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours = Portal()
    monkeypatch.setattr("os.getpid", lambda: -1)
    with pytest.raises(BridgeClosed):
        ours.call(double(1))
    with pytest.raises(BridgeClosed):
        ours.wait_for(lambda done: done(), lambda _: None)


def test_wait_for_gives_what_was_begun_once_it_is_done() -> None:
    def begin(done: Callable[[], None]) -> str:
        done()
        return "begun"

    assert portal().wait_for(begin, lambda _: None) == "begun"


def test_wait_for_raises_what_the_beginning_raises() -> None:
    def begin(done: object) -> None:
        raise ValueError("as it is")

    with pytest.raises(ValueError, match="as it is"):
        portal().wait_for(begin, lambda _: None)


# --- the desk -----------------------------------------------------------------------------


def test_an_errand_is_done_by_the_thread_that_waits() -> None:
    desk = Desk()

    async def ask() -> threading.Thread:
        return await in_thread(lambda: desk.do(threading.current_thread), lambda _: None)

    assert portal().call(ask(), desk) is threading.current_thread()


def test_an_errand_that_fails_fails_for_who_brought_it() -> None:
    desk = Desk()

    def broken() -> None:
        raise ValueError("as it is")

    async def ask() -> str:
        try:
            await in_thread(lambda: desk.do(broken), lambda _: None)
        except ValueError as fault:
            return str(fault)
        return "nothing"

    assert portal().call(ask(), desk) == "as it is"


def test_an_interrupted_errand_interrupts_who_waits_and_is_refused_to_who_asked() -> None:
    desk = Desk()
    refused: list[BaseException] = []

    def interrupted() -> None:
        raise KeyboardInterrupt

    def asking() -> None:
        try:
            desk.do(interrupted)
        except AuthenticationRequired as fault:
            refused.append(fault)

    async def ask() -> None:
        await in_thread(asking, lambda _: None)

    with pytest.raises(KeyboardInterrupt):
        portal().call(ask(), desk)
    wait_until(lambda: refused)
    with pytest.raises(AuthenticationRequired):
        desk.do(lambda: "too late")


# --- blocking steps -----------------------------------------------------------------------


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
