"""Bridge and Command: like subprocess, and like their async twins."""

from __future__ import annotations

import inspect
import io
import signal
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from smartsim_bridge import AsyncBridge, AsyncCommand, Bridge, Command, init_command_server
from smartsim_bridge.errors import BridgeClosed, LinkLost
from tests.support.flaky_proxy import FlakyProxy, proxied_state
from tests.support.heads import is_running
from tests.support.local_server import LocalServer
from tests.support.waiting import wait_until

SECONDS = 60.0

# --- one and the same, awaited or not -----------------------------------------------------

TWINS = [
    (
        Bridge,
        AsyncBridge,
        {
            "connect",
            "begin",
            "described",
            "given_up",
            "host",
            "locate",
            "on_behalf_of",
            "own_program",
            "spelled",
            "sync_directory",
            "reconnect_with",
            "replace_server_with",
        },
    ),
    (
        Command,
        AsyncCommand,
        {"request_start", "wait_started", "abandon", "collect", "collected", "fault"}
        | {"handle", "lost", "resume", "timed_out", "wait_attached"},
    ),
]
# Streams of the async face are bytes; the blocking one makes text of them.
TEXT = {"text", "encoding", "errors"}
STREAMING = ("popen", "attach")
# What only one of the faces has: a process ends there, and so does what it put on its PATH.
BLOCKING_ONLY = {"id", "args", "pid", "returncode", "age", "accompany", "core", "portal"}


def public(cls: type) -> dict[str, object]:
    return {name: value for name, value in inspect.getmembers(cls) if not name.startswith("_")}


def plain(annotation: object) -> str:
    return str(annotation).replace("Async", "")


@pytest.mark.parametrize(("blocking", "awaited", "inner"), TWINS)
def test_both_faces_have_the_same_names(blocking: type, awaited: type, inner: set[str]) -> None:
    # id, args, pid, returncode, age and the streams are attributes of every AsyncCommand.
    missing = set(public(awaited)) - set(public(blocking)) - inner
    assert not missing
    extra = set(public(blocking)) - set(public(awaited)) - BLOCKING_ONLY
    assert not extra


@pytest.mark.parametrize(("blocking", "awaited", "inner"), TWINS)
def test_both_faces_take_the_same_words(blocking: type, awaited: type, inner: set[str]) -> None:
    for name, method in public(blocking).items():
        twin = getattr(awaited, name, None)
        if not inspect.isfunction(method) or twin is None:
            continue
        ours, theirs = inspect.signature(method).parameters, inspect.signature(twin).parameters
        extra = TEXT if name in STREAMING else set()
        assert [one for one in ours if one not in extra] == list(theirs), name
        for word, parameter in theirs.items():
            assert ours[word].default == parameter.default, (name, word)
            assert ours[word].kind == parameter.kind, (name, word)
            if word not in ("self", "input", "cls"):
                assert plain(ours[word].annotation) == plain(parameter.annotation), (name, word)


@pytest.mark.parametrize(("blocking", "awaited", "inner"), TWINS)
def test_both_faces_are_told_in_the_same_words(
    blocking: type, awaited: type, inner: set[str]
) -> None:
    for name, method in public(blocking).items():
        twin = getattr(awaited, name, None)
        if inspect.isfunction(method) and twin is not None and name not in STREAMING:
            assert inspect.getdoc(method), name
            assert inspect.getdoc(method) == inspect.getdoc(twin), name


@pytest.mark.parametrize("name", ["run", "popen"])
def test_the_words_are_those_of_subprocess(name: str) -> None:
    theirs = {
        *inspect.signature(subprocess.Popen).parameters,
        *("input", "capture_output", "timeout", "check"),
    }
    ours = set(inspect.signature(getattr(Bridge, name)).parameters) - {"self"}
    assert ours <= theirs | {"keep", "grace"}  # no local process outlives a link


def test_what_is_started_goes_on_by_itself_and_keeps_its_output(bridge: Bridge) -> None:
    names = [bridge.start(["sh", "-c", "echo $0; cat; exit $0", str(n)]) for n in range(10)]
    bridge.close()
    other = init_command_server()
    for number, name in enumerate(names):
        for _ in range(2):  # whoever attaches leaves it as it was
            command = other.attach(name)
            assert command.communicate() == (f"{number}\n", "")
            assert command.wait(SECONDS) == number
    other.close()


def test_what_cannot_be_started_says_why(bridge: Bridge) -> None:
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        bridge.start(["no-such-program"])


# --- streams as files ---------------------------------------------------------------------


def test_streams_are_text_files(bridge: Bridge) -> None:
    with bridge.popen(["cat"]) as command:
        assert isinstance(command.stdin, io.TextIOWrapper)
        assert isinstance(command.stdout, io.TextIOWrapper)
        print("one\ntwo", file=command.stdin, flush=True)
        assert command.stdout.readline() == "one\n"
        command.stdin.close()
        assert list(command.stdout) == ["two\n"]
    assert command.returncode == 0


def test_streams_are_bytes_where_asked(bridge: Bridge) -> None:
    with bridge.popen(["cat"], text=False) as command:
        assert command.stdin is not None
        assert command.stdout is not None
        command.stdin.write(b"\xff\x00")
        command.stdin.close()
        assert command.stdout.read() == b"\xff\x00"


def test_leaving_the_block_closes_stdin_and_waits(bridge: Bridge) -> None:
    with bridge.popen(["cat"]) as command:
        pass
    assert command.returncode == 0


def test_communicate_gives_text(bridge: Bridge) -> None:
    command = bridge.popen(["sh", "-c", "cat; echo err >&2"])
    assert command.communicate("in") == ("in", "err\n")


def test_communicate_sends_what_was_written_before(bridge: Bridge) -> None:
    command = bridge.popen(["cat"])
    assert command.stdin is not None
    command.stdin.write("a")
    assert command.communicate("b")[0] == "ab"


def test_communicate_after_stdin_was_closed(bridge: Bridge) -> None:
    command = bridge.popen(["cat"])
    assert command.stdin is not None
    command.stdin.write("all")
    command.stdin.close()
    assert command.communicate() == ("all", "")


def test_writing_to_one_that_has_ended_is_a_broken_pipe(bridge: Bridge) -> None:
    command = bridge.popen(["true"], text=False)
    command.wait(SECONDS)
    stdin = command.stdin
    assert stdin is not None
    with pytest.raises(BrokenPipeError):
        stdin.write(b"x" * (1 << 20))


def test_poll_and_signals(bridge: Bridge) -> None:
    command = bridge.popen(["sleep", "600"])
    assert command.poll() is None
    assert is_running(command.pid)
    command.send_signal(signal.SIGUSR1)
    assert command.wait(SECONDS) == -signal.SIGUSR1
    command.kill()
    assert repr(command) == "<Command ('sleep', '600'): over>"


def test_wait_raises_after_its_time_and_the_command_goes_on(bridge: Bridge) -> None:
    with bridge.popen(["cat"]) as command:
        with pytest.raises(subprocess.TimeoutExpired) as caught:
            command.wait(0.01)
        assert caught.value.cmd == ["cat"]
        assert command.poll() is None


def test_a_command_dropped_unread_does_not_hang_anybody(bridge: Bridge) -> None:
    import gc

    for _ in range(5):
        bridge.popen(["yes"]).kill()
    gc.collect()
    assert bridge.run(["echo", "fine"]).stdout == "fine\n"


# --- threads ------------------------------------------------------------------------------


def test_many_threads_share_one_bridge(bridge: Bridge) -> None:
    with ThreadPoolExecutor(16) as pool:
        said = list(pool.map(lambda i: bridge.run(["echo", str(i)]).stdout, range(200)))
    assert said == [f"{i}\n" for i in range(200)]


def test_a_slow_command_does_not_hold_up_other_threads(bridge: Bridge) -> None:
    slow = bridge.popen(["cat"])
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(slow.wait)
        assert bridge.run(["echo", "quick"]).stdout == "quick\n"
        assert not waiting.done()
        slow.communicate()
        assert waiting.result(SECONDS) == 0


def test_a_reader_that_stops_slows_its_own_command_only(bridge: Bridge) -> None:
    with ThreadPoolExecutor(4) as pool:
        flood = bridge.popen(["yes"], text=False)
        assert flood.stdout is not None
        assert flood.stdout.read(2) == b"y\n"
        others = [
            pool.submit(bridge.run, ["head", "-c", str(1 << 21), "/dev/zero"], text=False)
            for _ in range(8)
        ]
        assert all(len(one.result(SECONDS).stdout) == 1 << 21 for one in others)
        assert flood.poll() is None
        assert flood.stdout.read(2) == b"y\n"
        flood.kill()
        flood.wait(SECONDS)


def test_a_command_may_be_read_in_one_thread_and_fed_in_another(bridge: Bridge) -> None:
    much = b"x" * (4 << 20)
    with bridge.popen(["cat"], text=False) as command:
        stdin, stdout = command.stdin, command.stdout
        assert stdin is not None
        assert stdout is not None

        def feed() -> None:
            stdin.write(much)
            stdin.close()

        feeding = threading.Thread(target=feed)
        feeding.start()
        assert stdout.read() == much
        feeding.join(SECONDS)


# --- the end ------------------------------------------------------------------------------

CALLS: list[Callable[[Bridge], object]] = [
    lambda bridge: bridge.run(["true"]),
    lambda bridge: bridge.popen(["true"]),
    lambda bridge: bridge.status(),
    lambda bridge: bridge.shutdown(),
]


@pytest.mark.parametrize("call", CALLS, ids=["run", "popen", "status", "shutdown"])
def test_a_closed_bridge_says_so(call: Callable[[Bridge], object], bridge: Bridge) -> None:
    bridge.close()
    bridge.close()
    with pytest.raises(BridgeClosed, match="closed"):
        call(bridge)
    assert repr(bridge) == "<Bridge closed>"


def test_closing_wakes_who_waits(bridge: Bridge) -> None:
    command = bridge.popen(["sleep", "600"])
    with ThreadPoolExecutor(2) as pool:
        waiting: list[Future[Any]] = [pool.submit(command.wait)]
        waiting += [pool.submit(bridge.run, ["sleep", "601"])]
        # The server is shared: others of it may not be over yet.
        wait_until(lambda: any(one.argv == ("sleep", "601") for one in bridge.commands()))
        bridge.close()
        for one in waiting:
            with pytest.raises(LinkLost, match="closed"):
                one.result(SECONDS)


def test_who_asked_is_told_that_the_link_goes_and_comes(
    server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[bool] = []

    def fail(is_linked: bool) -> None:
        """Another one, whose fault is nobody else's."""
        raise RuntimeError

    with FlakyProxy(server.beacon.socket, str(tmp_path / "proxy")) as proxy:
        state = proxied_state(server.state_dir, proxy, tmp_path / "state")
        monkeypatch.setenv("SMARTSIM_BRIDGE_STATE_DIR", str(state))
        with server.init(transport="local") as bridge:
            bridge.when_link_changes(fail)
            bridge.when_link_changes(told.append)
            assert bridge.run(["echo", "one"]).stdout == "one\n"
            assert told == []
            proxy.cut()
            assert bridge.run(["echo", "two"]).stdout == "two\n"
            assert told == [False, True]
            bridge.stop_telling(told.append)
            bridge.stop_telling(told.append)  # no harm
            proxy.cut()
            assert bridge.run(["echo", "three"]).stdout == "three\n"
            assert bridge.status().reconnects == 2
    assert told == [False, True]


def test_leaving_the_block_closes_the_bridge(server: LocalServer) -> None:
    with server.init() as bridge:
        assert bridge.run(["true"]).returncode == 0
    with pytest.raises(BridgeClosed):
        bridge.run(["true"])


def test_repr_tells_transport_and_host_and_no_secret(bridge: Bridge, server: LocalServer) -> None:
    assert repr(bridge).startswith("<Bridge connected by ")
    assert server.beacon.host in repr(bridge)
    (file,) = server.state_dir.glob("servers/*.key")
    assert file.read_text().split('"client_secret":"')[1][:40] not in repr(vars(bridge))
