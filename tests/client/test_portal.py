"""The one thread with a loop, and those who wait for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from smartsim_bridge.client.portal import Portal, portal
from smartsim_bridge.errors import BridgeClosed


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


def test_after_leaving_other_threads_are_told_nothing_and_this_one_may_go_on() -> None:
    """They would print it into an interpreter that is being taken down."""
    left = Portal()
    left.leave()
    told: list[str] = []

    def daemon() -> None:
        left.call(double(1))
        told.append("something")

    thread = threading.Thread(target=daemon, daemon=True)
    thread.start()
    assert left.call(double(21)) == 42
    assert thread.is_alive()
    assert told == []
