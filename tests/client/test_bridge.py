"""AsyncBridge and AsyncCommand with a real server, both in one loop."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from smartsim_bridge import AsyncBridge
from smartsim_bridge.errors import CommandServerError, LinkLost, NoSuchCommand
from smartsim_bridge.links.stream_link import connect_unix
from tests.support.heads import is_running
from tests.support.loops import SECONDS, run
from tests.support.near_side import bridge_in, bridge_on, server_in
from tests.support.waiting import wait_until_async

Body = Callable[[AsyncBridge], Awaitable[None]]


@pytest.fixture
def on_bridge(tmp_path: Path) -> Callable[[Body], None]:
    """Runs a coroutine function with a fresh bridge."""

    def runner(body: Body) -> None:
        async def main() -> None:
            async with bridge_in(tmp_path) as bridge:
                await body(bridge)

        run(main())

    return runner


LIMIT = 5.0


def let_time_pass(seconds: float) -> None:
    """For the loop, and whatever waits in it: both halves of the bridge."""
    loop = asyncio.get_running_loop()
    now = loop.time
    loop.time = lambda: now() + seconds  # type: ignore[method-assign]


async def until_printed(bridge: AsyncBridge) -> None:
    """Until a command has printed something, and it is on its way here."""
    while not any(one.stdout for one in await bridge.commands()):
        pass


# --- run ----------------------------------------------------------------------------------

RUNS: dict[str, tuple[Any, dict[str, Any]]] = {
    "status and streams": (["sh", "-c", "echo out; echo err >&2; exit 3"], {}),
    "input": (["cat"], {"input": "in\n"}),
    "no input": (["cat"], {}),
    "empty input": (["cat"], {"input": ""}),
    "bytes": (["cat"], {"input": bytes(range(256)), "text": False}),
    "encoding": (["cat"], {"input": "é", "encoding": "latin-1"}),
    "shell": ("echo $((1+1)) | cat", {"shell": True}),
    "a word alone": ("true", {}),
    "a path alone": (Path("/bin/true"), {}),
    "joined": (["sh", "-c", "echo a; echo b >&2"], {"stderr": subprocess.STDOUT}),
    "no stderr": (["sh", "-c", "echo a; echo b >&2"], {"stderr": subprocess.DEVNULL}),
    "environment": (["sh", "-c", "echo $COLOUR"], {"env": {"COLOUR": "red", "PATH": "/bin"}}),
    "directory": (["pwd"], {"cwd": "/usr"}),
    "a path as directory": (["pwd"], {"cwd": Path("/usr")}),
    "killed": (["sh", "-c", "kill -9 $$"], {}),
    "newlines": (["printf", r"a\r\nb\rc"], {}),
    "nothing": (["true"], {}),
}


@pytest.mark.parametrize("name", RUNS)
def test_run_is_subprocess_run(name: str, on_bridge: Callable[[Body], None]) -> None:
    args, keywords = RUNS[name]
    theirs = {"text": True, "stdin": subprocess.DEVNULL, **keywords}
    theirs.setdefault("stderr", subprocess.PIPE)
    if "input" in theirs:
        del theirs["stdin"]
    if "env" in theirs:
        theirs["env"] = {**os.environ, **theirs["env"]}
    here = subprocess.run(args, stdout=subprocess.PIPE, check=False, **theirs)

    async def body(bridge: AsyncBridge) -> None:
        there = await bridge.run(args, **keywords)
        assert there.args == here.args
        assert there.returncode == here.returncode
        assert there.stdout == here.stdout
        if "stderr" not in keywords:
            assert there.stderr == here.stderr

    on_bridge(body)


@pytest.mark.parametrize(
    ("args", "keywords"),
    [
        (["no-such-program"], {}),
        (["/no/such/program"], {}),
        (["/etc/passwd"], {}),
        (["/tmp"], {}),
        (["true"], {"cwd": "/nowhere"}),
        (["true"], {"cwd": "/etc/passwd"}),
        (["a\0b"], {}),
        (["false"], {"check": True}),
        (["sleep", "600"], {"timeout": 0.05}),
    ],
)
def test_run_raises_what_subprocess_run_raises(
    args: list[str], keywords: dict[str, Any], on_bridge: Callable[[Body], None]
) -> None:
    with pytest.raises(Exception) as here:  # noqa: PT011 - whatever it is
        subprocess.run(args, capture_output=True, **{"check": False, **keywords})  # noqa: PLW1510 - given

    async def body(bridge: AsyncBridge) -> None:
        with pytest.raises(type(here.value)) as there:
            await bridge.run(args, **keywords)
        assert not isinstance(there.value, CommandServerError)
        for name in ("errno", "filename", "returncode", "cmd", "timeout"):
            assert getattr(there.value, name, None) == getattr(here.value, name, None), name
        assert (await bridge.run(["echo", "usable"])).stdout == "usable\n"

    on_bridge(body)


def test_an_empty_command_is_an_error_at_once(on_bridge: Callable[[Body], None]) -> None:
    async def body(bridge: AsyncBridge) -> None:
        with pytest.raises(ValueError, match="empty"):
            await bridge.run([])

    on_bridge(body)


def test_too_many_words_are_too_many_as_ever(on_bridge: Callable[[Body], None]) -> None:
    async def body(bridge: AsyncBridge) -> None:
        with pytest.raises(OSError, match="too long"):
            await bridge.run(["true", "x" * (4 << 20)])
        assert (await bridge.run(["echo", "usable"])).stdout == "usable\n"

    on_bridge(body)


@pytest.mark.parametrize("stream", ["stdin", "stdout", "stderr"])
def test_a_stream_of_this_host_is_refused(stream: str, on_bridge: Callable[[Body], None]) -> None:
    async def body(bridge: AsyncBridge) -> None:
        with pytest.raises(ValueError, match=stream):
            await bridge.popen(["true"], **{stream: 1})  # type: ignore[arg-type]

    on_bridge(body)


def test_the_partial_output_comes_with_the_timeout(on_bridge: Callable[[Body], None]) -> None:
    async def body(bridge: AsyncBridge) -> None:
        line = ["sh", "-c", "echo so far; sleep 600"]
        running = asyncio.ensure_future(bridge.run(line, timeout=LIMIT))
        await until_printed(bridge)
        let_time_pass(LIMIT)
        with pytest.raises(subprocess.TimeoutExpired) as caught:
            await running
        assert caught.value.output == b"so far\n"
        assert caught.value.stderr is None

    on_bridge(body)


def test_many_at_once_all_come_back(on_bridge: Callable[[Body], None]) -> None:
    async def body(bridge: AsyncBridge) -> None:
        done = await asyncio.gather(*(bridge.run(["echo", str(i)]) for i in range(200)))
        assert [one.stdout for one in done] == [f"{i}\n" for i in range(200)]

    on_bridge(body)


# --- popen --------------------------------------------------------------------------------


def test_popen_returns_when_it_runs(on_bridge: Callable[[Body], None]) -> None:
    async def body(bridge: AsyncBridge) -> None:
        command = await bridge.popen(["cat"])
        assert is_running(command.pid)
        assert await command.poll() is None
        assert await command.communicate(b"in") == (b"in", b"")
        assert [command.returncode, await command.poll(), await command.wait()] == [0, 0, 0]
        assert not is_running(command.pid)

    on_bridge(body)


def test_streams_are_read_and_written_step_by_step(on_bridge: Callable[[Body], None]) -> None:
    async def body(bridge: AsyncBridge) -> None:
        command = await bridge.popen(["cat"])
        assert command.stdin is not None
        assert command.stdout is not None
        await command.stdin.write(b"one\ntwo")
        assert await command.stdout.readline() == b"one\n"
        command.stdin.close()
        assert await command.stdout.read() == b"two"
        assert await command.wait() == 0

    on_bridge(body)


def test_streams_that_were_not_asked_for_are_not_there(on_bridge: Callable[[Body], None]) -> None:
    async def body(bridge: AsyncBridge) -> None:
        nowhere = subprocess.DEVNULL
        command = await bridge.popen(["cat"], stdin=nowhere, stdout=nowhere, stderr=nowhere)
        assert (command.stdin, command.stdout, command.stderr) == (None, None, None)
        assert await command.communicate() == (None, None)
        assert command.returncode == 0

    on_bridge(body)


@pytest.mark.parametrize(
    ("name", "number"), [("terminate", signal.SIGTERM), ("kill", signal.SIGKILL)]
)
def test_signals_end_it(
    name: str, number: signal.Signals, on_bridge: Callable[[Body], None]
) -> None:
    async def body(bridge: AsyncBridge) -> None:
        command = await bridge.popen(["sleep", "600"])
        await getattr(command, name)()
        assert await command.wait(SECONDS) == -number
        await getattr(command, name)()  # over: does nothing

    on_bridge(body)


def test_communicate_goes_on_after_its_time_and_loses_nothing(
    on_bridge: Callable[[Body], None], tmp_path: Path
) -> None:
    much = b"x" * (3 << 20)
    gate = tmp_path / "gate"
    os.mkfifo(gate)

    async def body(bridge: AsyncBridge) -> None:
        command = await bridge.popen(["sh", "-c", f"echo first; read open <{gate}; wc -c"])
        await until_printed(bridge)
        with pytest.raises(subprocess.TimeoutExpired) as caught:
            await command.communicate(much, 0.2)
        assert caught.value.output == b"first\n"
        await asyncio.get_running_loop().run_in_executor(None, gate.write_text, "go\n")
        out, _ = await command.communicate()
        assert out is not None
        assert out.split() == [b"first", str(len(much)).encode()]

    on_bridge(body)


def test_a_reader_that_stops_slows_its_own_command_only(
    on_bridge: Callable[[Body], None],
) -> None:
    async def body(bridge: AsyncBridge) -> None:
        flood = await bridge.popen(["sh", "-c", "yes; echo never"])
        assert flood.stdout is not None
        await flood.stdout.readline()
        # It has filled its window by now or soon; all others go on.
        for _ in range(20):
            assert (await bridge.run(["echo", "quick"])).stdout == "quick\n"
        big = await bridge.run(["head", "-c", str(8 << 20), "/dev/zero"], text=False)
        assert len(big.stdout) == 8 << 20
        await flood.kill()
        assert await flood.wait(SECONDS) == -signal.SIGKILL

    on_bridge(body)


def test_a_grandchild_that_holds_the_pipe_does_not_hold_up_wait(
    on_bridge: Callable[[Body], None],
) -> None:
    async def body(bridge: AsyncBridge) -> None:
        command = await bridge.popen(["sh", "-c", "sleep 600 & echo $!"])
        assert command.stdout is not None
        child = int(await command.stdout.readline())
        assert await command.wait(SECONDS) == 0
        await command.terminate()
        await wait_until_async(lambda: not is_running(child))

    on_bridge(body)


# --- the whole ----------------------------------------------------------------------------


def test_status_tells_of_the_server(on_bridge: Callable[[Body], None]) -> None:
    async def body(bridge: AsyncBridge) -> None:
        command = await bridge.popen(["cat"])
        status = await bridge.status()
        assert status.connected
        assert (status.server_pid, status.clients, status.running) == (os.getpid(), 1, 1)
        await command.communicate()
        assert (await bridge.status()).running == 0

    on_bridge(body)


def test_after_close_nothing_runs_and_close_may_be_repeated(
    on_bridge: Callable[[Body], None],
) -> None:
    async def body(bridge: AsyncBridge) -> None:
        command = await bridge.popen(["sleep", "600"])
        waiting = asyncio.ensure_future(command.wait())
        await asyncio.sleep(0)
        await bridge.close()
        await bridge.close()
        with pytest.raises(LinkLost):
            await waiting
        with pytest.raises(CommandServerError):
            await bridge.run(["true"])
        assert not (await bridge.status()).connected

    on_bridge(body)


def test_commands_of_a_client_that_left_end_too(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with server_in(tmp_path) as server:
            assert server.beacon is not None
            async with bridge_on(await connect_unix(server.beacon.socket)) as bridge:
                command = await bridge.popen(["sleep", "600"], grace=0.01)
            await wait_until_async(lambda: not is_running(command.pid))

    run(main())


def test_repr_tells_the_state(on_bridge: Callable[[Body], None]) -> None:
    async def body(bridge: AsyncBridge) -> None:
        assert repr(bridge).startswith("<AsyncBridge connected by local to ")
        command = await bridge.popen(["cat"])
        assert repr(command) == "<AsyncCommand ('cat',): running>"
        await command.communicate()
        assert repr(command) == "<AsyncCommand ('cat',): over>"
        await bridge.close()
        assert "not connected" in repr(bridge)

    on_bridge(body)


def test_connect_takes_the_keywords_of_init(near_home: Path) -> None:
    async def main() -> None:
        with pytest.raises(CommandServerError):
            await AsyncBridge.connect("127.0.0.1", transport="local")
        with pytest.raises(ValueError, match="carrier-pigeon"):
            await AsyncBridge.connect("127.0.0.1", transport="carrier-pigeon")

    run(main())


@pytest.mark.parametrize("offset", [2**63, 10**21, -1, 1.5, True, "1"])
def test_an_odd_offset_costs_its_caller_an_error_and_nobody_else(
    offset: Any, on_bridge: Callable[[Body], None]
) -> None:
    async def body(bridge: AsyncBridge) -> None:
        command = await bridge.popen(["sleep", "60"])
        with pytest.raises((TypeError, ValueError)):
            await bridge.attach(command.id, stdout=offset)
        assert (await bridge.run(["echo", "on"])).stdout == "on\n"
        await command.kill()

    on_bridge(body)


@pytest.mark.parametrize("name", ["", "zz", "x" * 1000, "a\0b" * 20])
def test_an_odd_id_is_no_command(name: str, on_bridge: Callable[[Body], None]) -> None:
    async def body(bridge: AsyncBridge) -> None:
        with pytest.raises(NoSuchCommand) as caught:
            await bridge.attach(name)
        assert caught.value.host
        assert len(str(caught.value)) < 300

    on_bridge(body)
