"""Bridges where programs begin, fork, thread and end."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from smartsim_bridge import Bridge, init_command_server
from smartsim_bridge.errors import BridgeClosed
from tests.support.local_server import LocalServer
from tests.support.waiting import wait_until

pytestmark = pytest.mark.filterwarnings("ignore:This process .* multi-threaded:DeprecationWarning")

HANG_SECONDS = 60.0  # no program hangs at its end because of a bridge


def program(script: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )


# --- the end of the program ---------------------------------------------------------------

BEGIN = """
import os, subprocess, sys, threading, time
from smartsim_bridge import init_command_server
bridge = init_command_server(transport=sys.argv[1])
"""

ENDINGS = {
    "nothing left": "",
    "never used again": "bridge.run(['true'])",
    "closed": "bridge.close()",
    "a command runs": "command = bridge.popen(['sleep', '600'])",
    "many commands run": "commands = [bridge.popen(['sleep', '600']) for _ in range(20)]",
    "a flood unread": "command = bridge.popen(['yes']); command.stdout.readline()",
    "a thread waits": (
        "command = bridge.popen(['sleep', '600'])\n"
        "threading.Thread(target=command.wait, daemon=True).start()"
    ),
    "a thread runs": (
        "threading.Thread(target=bridge.run, args=(['sleep', '600'],), daemon=True).start()\n"
        "while not bridge.status().running: pass"
    ),
    "unwritten input": "command = bridge.popen(['cat']); command.stdin.write('x' * 100)",
    "much unwritten input": (
        "command = bridge.popen(['sleep', '600'], text=False)\n"
        "threading.Thread(target=command.stdin.write, args=(bytes(8 << 20),), daemon=True).start()"
    ),
    "global in a cycle": "bridge.itself = bridge; command = bridge.popen(['cat'])",
    "an error": "command = bridge.popen(['sleep', '600']); raise SystemExit(3)",
    "the bridge's own error": "bridge.close(); bridge.run(['true'])",
}


@pytest.mark.parametrize("transport", ["local", "direct"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_program_ends_whatever_runs(ending: str, transport: str, server: LocalServer) -> None:
    script = f"{BEGIN}\nprint('ready', flush=True)\nsys.stdin.readline()\n{ENDINGS[ending]}\n"
    with subprocess.Popen(
        [sys.executable, "-c", script, transport],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            _, said = process.communicate("\n", timeout=HANG_SECONDS)
        finally:
            process.kill()
    assert process.returncode == {"an error": 3, "the bridge's own error": 1}.get(ending, 0), said
    assert ("BridgeClosed" in said) == (ending == "the bridge's own error"), said
    assert "Exception ignored" not in said
    assert "never" not in said  # awaited, retrieved


def test_a_dropped_bridge_is_closed_with_the_program(local_server: LocalServer) -> None:
    # A server of its own: those who leave the shared one are counted until it hears of it.
    with local_server.init() as watching:
        assert program(BEGIN, "direct").returncode == 0
        wait_until(lambda: watching.status().clients == 1)


# --- fork ---------------------------------------------------------------------------------


def in_child(work: Callable[[], object]) -> str:
    """What `work` gives in a forked child, or the error that it raises; hangs are told."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(int(HANG_SECONDS))
            try:
                said = repr(work())
            except BaseException as fault:  # noqa: BLE001 - told to the parent
                said = type(fault).__name__
            os.write(writing, said.encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, encoding="utf-8") as pipe:
        said = pipe.read()
    _, status = os.waitpid(pid, 0)
    return said or f"nothing, status {status}"


FORKED: dict[str, Callable[[Bridge], object]] = {
    "run": lambda bridge: bridge.run(["true"]),
    "popen": lambda bridge: bridge.popen(["true"]),
    "status": lambda bridge: bridge.status(),
    "shutdown": lambda bridge: bridge.shutdown(),
}


@pytest.mark.parametrize("name", FORKED)
def test_a_forked_child_is_told_that_the_bridge_is_not_its_own(name: str, bridge: Bridge) -> None:
    assert in_child(lambda: FORKED[name](bridge)) == "BridgeClosed"
    assert bridge.run(["echo", "parent"]).stdout == "parent\n"


COMMANDS = {
    "wait": lambda command: command.wait(),
    "poll": lambda command: command.poll(),
    "communicate": lambda command: command.communicate(),
    "kill": lambda command: command.kill(),
    "read": lambda command: command.stdout.read(),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_forked_child_is_told_that_the_command_is_not_its_own(name: str, bridge: Bridge) -> None:
    with bridge.popen(["cat"]) as command:
        assert in_child(lambda: COMMANDS[name](command)) == "BridgeClosed"
        assert command.poll() is None
        assert command.communicate("parent")[0] == "parent"


def test_a_forked_child_may_close_the_bridge_without_harm(bridge: Bridge) -> None:
    assert in_child(bridge.close) == "None"
    assert bridge.run(["echo", "parent"]).stdout == "parent\n"


@pytest.mark.parametrize("transport", ["local", "direct"])
def test_a_forked_child_can_have_its_own(transport: str, bridge: Bridge) -> None:
    def own() -> object:
        with init_command_server(transport=transport) as child:
            return child.run(["echo", "child"]).stdout

    assert in_child(own) == repr("child\n")
    assert bridge.run(["echo", "parent"]).stdout == "parent\n"


def _square(number: int) -> str:
    with init_command_server() as bridge:
        return str(bridge.run(["sh", "-c", f"echo $(({number} * {number}))"]).stdout)


def test_a_pool_of_forked_processes_works(bridge: Bridge) -> None:
    with multiprocessing.get_context("fork").Pool(3) as pool:
        assert pool.map(_square, range(6)) == [f"{i * i}\n" for i in range(6)]
    assert bridge.run(["echo", "parent"]).stdout == "parent\n"


# --- loops --------------------------------------------------------------------------------


def test_the_blocking_face_works_inside_a_running_loop(server: LocalServer) -> None:
    async def cell() -> str:
        with init_command_server() as bridge:  # as a notebook cell does it
            return str(bridge.run(["echo", "inside"]).stdout)

    assert asyncio.run(cell()) == "inside\n"


def test_one_bridge_serves_many_loops_one_after_the_other(bridge: Bridge) -> None:
    async def cell() -> str:
        return str(bridge.run(["echo", "again"]).stdout)

    assert [asyncio.run(cell()) for _ in range(3)] == ["again\n"] * 3


def test_the_async_face_works_in_the_users_loop(server: LocalServer) -> None:
    from smartsim_bridge import AsyncBridge

    async def main() -> list[str]:
        async with await AsyncBridge.connect() as bridge:
            done = await asyncio.gather(*(bridge.run(["echo", str(i)]) for i in range(5)))
            return [one.stdout for one in done]

    assert asyncio.run(main()) == [f"{i}\n" for i in range(5)]


def test_a_bridge_made_in_a_thread_outlives_it(server: LocalServer) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        bridge = pool.submit(server.init).result(HANG_SECONDS)
    with bridge:
        assert bridge.run(["echo", "main"]).stdout == "main\n"


def test_the_error_for_a_closed_bridge_tells_what_to_do() -> None:
    assert "init_command_server()" in BridgeClosed("x").advice
