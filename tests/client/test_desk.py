"""A waiting thread does what others bring it."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError

import pytest

from smartsim_bridge.client.desk import Desk
from smartsim_bridge.client.portal import portal
from smartsim_bridge.client.steps import in_thread
from tests.support.waiting import wait_until


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
        except CancelledError as fault:
            refused.append(fault)

    async def ask() -> None:
        await in_thread(asking, lambda _: None)

    with pytest.raises(KeyboardInterrupt):
        portal().call(ask(), desk)
    wait_until(lambda: refused)
    with pytest.raises(CancelledError):
        desk.do(lambda: "too late")
