from __future__ import annotations

import asyncio
import os
import subprocess

import pytest

from smartsim_bridge.server.exits import ExitWatch
from tests.support.footprint import own_descriptors
from tests.support.loops import run


@pytest.fixture(params=["pidfd", "signal"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to learn of an exit; the second is for kernels and systems without pidfds."""
    if request.param == "signal":

        def refuse(pid: int, flags: int = 0) -> int:
            raise OSError

        monkeypatch.setattr(os, "pidfd_open", refuse, raising=False)
    return str(request.param)


def started(*argv: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(argv)


def wait_for(child: subprocess.Popen[bytes]) -> None:
    """Waits for its end, and leaves it to be reaped."""
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)


def test_every_exit_is_told_once_after_it_was_reaped(way: str) -> None:
    async def talk() -> list[int]:
        watch, told = ExitWatch(), list[int]()
        over = asyncio.get_running_loop().create_future()
        children = [started("sh", "-c", f"exit {number}") for number in range(20)]

        def ended(number: int) -> None:
            assert children[number].returncode == number
            told.append(number)
            if len(told) == len(children):
                over.set_result(None)

        for number, child in enumerate(children):
            watch.watch(child, lambda number=number: ended(number))  # type: ignore[misc]
        await over
        watch.close()
        return sorted(told)

    assert run(talk()) == list(range(20))


def test_process_that_ended_before_is_told_too(way: str) -> None:
    async def talk() -> int | None:
        watch = ExitWatch()
        child = started("true")
        wait_for(child)
        over = asyncio.get_running_loop().create_future()
        watch.watch(child, lambda: over.set_result(None))
        await over
        watch.close()
        return child.returncode

    assert run(talk()) == 0


def test_watching_leaves_no_descriptor_behind(way: str) -> None:
    async def talk() -> None:
        watch = ExitWatch()
        before = len(own_descriptors())
        for _ in range(5):
            child = started("true")
            over = asyncio.get_running_loop().create_future()
            watch.watch(child, lambda over=over: over.set_result(None))  # type: ignore[misc]
            await over
        watch.close()
        # The first handler of a signal opens a pair for the loop, once.
        assert len(own_descriptors()) <= before + (2 if way == "signal" else 0)

    run(talk())
