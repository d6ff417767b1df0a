"""After a cancelled, timed-out or interrupted call the bridge is usable, or cleanly closed."""

from __future__ import annotations

import asyncio
import io
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import termios
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from smartsim_bridge import AsyncBridge, AsyncCommand, Bridge
from smartsim_bridge.errors import CommandServerError
from tests.support.heads import MakeHead, is_running
from tests.support.local_server import LocalServer
from tests.support.loops import SECONDS, run
from tests.support.near_side import bridge_in
from tests.support.peers import silent_peer
from tests.support.waiting import wait_until

pytestmark = pytest.mark.filterwarnings("ignore:This process .* multi-threaded:DeprecationWarning")

EXIT_SECONDS = 40.0  # for what was interrupted to be gone; its own patience is longer


async def is_usable(bridge: AsyncBridge) -> None:
    assert (await bridge.run(["cat"], input="usable")).stdout == "usable"
    assert (await bridge.status()).connected


async def until_running(bridge: AsyncBridge, count: int) -> None:
    while (await bridge.status()).running != count:
        pass


# --- awaited ------------------------------------------------------------------------------

CALLS: dict[str, Callable[[AsyncBridge], Awaitable[object]]] = {
    "run": lambda bridge: bridge.run(["sleep", "600"]),
    "run with much input": lambda bridge: bridge.run(["sleep", "600"], input="x" * (4 << 20)),
    "run with much output": lambda bridge: bridge.run(["yes"]),
    "run with a shell": lambda bridge: bridge.run("sleep 600 & wait", shell=True),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_cancelled_run_ends_its_command(name: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with bridge_in(tmp_path) as bridge:
            running = asyncio.ensure_future(CALLS[name](bridge))
            await until_running(bridge, 1)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            await until_running(bridge, 0)
            await is_usable(bridge)

    run(main())


@pytest.mark.parametrize("turns", range(6))
def test_a_run_may_be_cancelled_at_any_step(turns: int, tmp_path: Path) -> None:
    async def main() -> None:
        async with bridge_in(tmp_path) as bridge:
            running = asyncio.ensure_future(bridge.run(["sleep", "600"]))
            for _ in range(turns):
                await asyncio.sleep(0)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            await is_usable(bridge)
            await until_running(bridge, 0)

    run(main())


def test_a_cancelled_popen_leaves_no_command(tmp_path: Path) -> None:
    async def main() -> None:
        async with bridge_in(tmp_path) as bridge:
            starting = asyncio.ensure_future(bridge.popen(["sleep", "600"]))
            await asyncio.sleep(0)
            starting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await starting
            await is_usable(bridge)
            await until_running(bridge, 0)

    run(main())


WAITS: dict[str, Callable[[AsyncCommand], Awaitable[object]]] = {
    "wait": lambda command: command.wait(),
    "read": lambda command: command.stdout.read(),  # type: ignore[union-attr]
    "readline": lambda command: command.stdout.readline(),  # type: ignore[union-attr]
}


@pytest.mark.parametrize("name", WAITS)
def test_who_waits_for_a_command_may_be_cancelled_and_it_goes_on(name: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with bridge_in(tmp_path) as bridge:
            command = await bridge.popen(["sh", "-c", "read line; echo got $line"])
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(WAITS[name](command), 0.05)
            assert await command.communicate(b"it\n") == (b"got it\n", b"")
            await is_usable(bridge)

    run(main())


def test_a_write_that_waits_for_room_may_be_cancelled(tmp_path: Path) -> None:
    async def main() -> None:
        async with bridge_in(tmp_path) as bridge:
            command = await bridge.popen(["sleep", "600"])
            assert command.stdin is not None
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(command.stdin.write(bytes(8 << 20)), 0.05)
            await command.kill()
            assert await command.wait(SECONDS) == -signal.SIGKILL
            await is_usable(bridge)

    run(main())


def test_a_cancelled_status_disturbs_nobody(tmp_path: Path) -> None:
    async def main() -> None:
        async with bridge_in(tmp_path) as bridge:
            asking = asyncio.ensure_future(bridge.status())
            await asyncio.sleep(0)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            await is_usable(bridge)

    run(main())


def test_a_cancelled_close_has_closed(tmp_path: Path) -> None:
    async def main() -> None:
        async with bridge_in(tmp_path) as bridge:
            closing = asyncio.ensure_future(bridge.close())
            await asyncio.sleep(0)
            closing.cancel()
            await asyncio.wait([closing])
            with pytest.raises(CommandServerError):
                await bridge.run(["true"])

    run(main())


def test_a_cancelled_connect_leaves_nothing_open(near_home: Path) -> None:
    async def main() -> None:
        with silent_peer() as port:
            connecting = asyncio.ensure_future(
                AsyncBridge.connect(port=port, transport="direct", timeout=600)
            )
            await asyncio.sleep(0.05)
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting

    before = set(os.listdir("/proc/self/fd"))
    run(main())
    wait_until(lambda: len(os.listdir("/proc/self/fd")) <= len(before) + 4)


def test_a_cancelled_ssh_connect_does_not_hold_up_the_loop(near_home: Path) -> None:
    async def main() -> None:
        with silent_peer() as port:
            connecting = asyncio.ensure_future(
                AsyncBridge.connect(f"127.0.0.1:{port}", autostart=True, timeout=600)
            )
            await asyncio.sleep(0.3)
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting

    run(main(), EXIT_SECONDS)


# --- blocking -----------------------------------------------------------------------------


def test_after_a_time_limit_the_bridge_is_usable(bridge: Bridge) -> None:
    for _ in range(5):
        with pytest.raises(subprocess.TimeoutExpired):
            bridge.run(["sleep", "600"], timeout=0.02)
    assert bridge.run(["echo", "usable"]).stdout == "usable\n"


@contextmanager
def interrupted_in(seconds: float) -> Iterator[None]:
    """Ctrl-C after a while, in the main thread; wherever it is by then, the bridge is usable."""
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        timer.cancel()
        timer.join()


BLOCKING: dict[str, Callable[[Bridge], object]] = {
    "run": lambda bridge: bridge.run(["sleep", "600"]),
    "run with much input": lambda bridge: bridge.run(["sleep", "600"], input="x" * (4 << 20)),
    "wait": lambda bridge: bridge.popen(["sleep", "600"]).wait(),
    "communicate": lambda bridge: bridge.popen(["sleep", "600"]).communicate(),
    "read": lambda bridge: bridge.popen(["sleep", "600"]).stdout.read(),  # type: ignore[union-attr]
}


@pytest.mark.parametrize("name", BLOCKING)
def test_after_ctrl_c_the_bridge_is_usable(name: str, bridge: Bridge) -> None:
    with interrupted_in(0.2):
        BLOCKING[name](bridge)
    assert bridge.run(["echo", "usable"]).stdout == "usable\n"


def test_ctrl_c_ends_the_command(bridge: Bridge, tmp_path: Path) -> None:
    said = tmp_path / "pid"

    def interrupt() -> None:
        wait_until(said.exists)
        os.kill(os.getpid(), signal.SIGINT)

    line = f"echo $$ >{said}.part; mv {said}.part {said}; sleep 600; sleep 600"
    with ThreadPoolExecutor(1) as pool:
        interrupting = pool.submit(interrupt)
        with pytest.raises(KeyboardInterrupt):
            bridge.run(["sh", "-c", line], timeout=2 * SECONDS)
        interrupting.result()
    pid = int(said.read_text())
    wait_until(lambda: not is_running(pid))


def test_ctrl_c_in_one_call_leaves_those_of_other_threads_alone(bridge: Bridge) -> None:
    with ThreadPoolExecutor(1) as pool:
        command = bridge.popen(["cat"])
        other = pool.submit(command.communicate, "in")
        with interrupted_in(0.2):
            bridge.run(["sleep", "600"])
        assert other.result(SECONDS) == ("in", "")


def test_ctrl_c_while_connecting_leaves_the_process_usable(server: LocalServer) -> None:
    from smartsim_bridge import init_command_server

    with silent_peer() as port, interrupted_in(0.3):
        init_command_server(f"127.0.0.1:{port}", autostart=True, timeout=600)
    with server.init() as bridge:
        assert bridge.run(["echo", "usable"]).stdout == "usable\n"


# --- the whole program --------------------------------------------------------------------


def test_a_program_interrupted_while_connecting_ends_soon(near_home: Path) -> None:
    script = """
import sys
from smartsim_bridge import init_command_server
print("connecting", flush=True)
init_command_server(sys.argv[1], autostart=True, timeout=600, on_stage=lambda stage: None)
"""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        addr = f"127.0.0.1:{silent.getsockname()[1]}"
        with subprocess.Popen(
            [sys.executable, "-c", script, addr], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            try:
                silent.settimeout(SECONDS)
                connected, _ = silent.accept()
                with connected:  # and it waits for us to say something
                    process.send_signal(signal.SIGINT)
                    process.wait(EXIT_SECONDS)
            finally:
                process.kill()
    assert process.returncode != 0


@pytest.mark.sshd
def test_ctrl_c_at_a_password_prompt_ends_the_program_and_lets_the_terminal_echo(
    make_head: MakeHead,
) -> None:
    head = make_head("PubkeyAuthentication no", "PasswordAuthentication yes")
    script = """
import sys
from smartsim_bridge import init_command_server
init_command_server("head", autostart=True, timeout=600, ssh_config=sys.argv[1])
"""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", script, str(head.sshd.ssh_config)])
    try:
        with os.fdopen(terminal, "r+b", buffering=0) as screen:
            said = until(screen, b"assword")
            assert not termios.tcgetattr(screen)[3] & termios.ECHO
            screen.write(b"\x03")
            said += until(screen, b"KeyboardInterrupt")
            assert termios.tcgetattr(screen)[3] & termios.ECHO
            wait_until(lambda: not is_running(pid), seconds=EXIT_SECONDS)
    finally:
        if is_running(pid):
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    assert status != 0
    wait_until(lambda: head.sshd.session_pids() == [])


def until(screen: io.FileIO, word: bytes, seconds: float = SECONDS) -> bytes:
    """What a program prints until it has printed `word`."""
    said = b""
    while word not in said:
        ready, _, _ = select.select([screen], [], [], seconds)
        assert ready, said
        said += screen.read(1000)
    return said


@pytest.mark.sshd
@pytest.mark.root
def test_questions_are_asked_in_the_callers_thread(make_head: MakeHead) -> None:
    head = make_head("PubkeyAuthentication no", "PasswordAuthentication yes")
    password = head.sshd.user.known_password()
    threads: list[threading.Thread] = []

    def ask(prompt: str, secret: bool) -> str:
        threads.append(threading.current_thread())
        return password

    head.init(autostart=True, ask=ask)
    assert threads == [threading.current_thread()]


@pytest.mark.sshd
def test_an_ask_that_fails_is_told_and_leaves_nothing_open(make_head: MakeHead) -> None:
    head = make_head("PubkeyAuthentication no", "PasswordAuthentication yes")

    def ask(prompt: str, secret: bool) -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        head.init(autostart=True, ask=ask)
    wait_until(lambda: head.sshd.session_pids() == [])
