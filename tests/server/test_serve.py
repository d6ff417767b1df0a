"""The server within the test's own process and loop."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from smartsim_bridge import links
from smartsim_bridge.errors import LinkLost, ServerAlreadyRuns, ServerStartFailed
from smartsim_bridge.links import stream_link, zmq_listener
from smartsim_bridge.links.link import Link
from smartsim_bridge.links.stream_link import connect_unix
from smartsim_bridge.protocol.messages import (
    PROTOCOL_VERSION,
    Bye,
    Hello,
    Inquiry,
    Ping,
    Pong,
    Refusal,
    Report,
    Start,
    Stop,
    Stopping,
    Welcome,
)
from smartsim_bridge.server import serve, visits
from smartsim_bridge.server.beacon_file import Lock
from smartsim_bridge.server.options import ServerOptions
from smartsim_bridge.server.places import Places
from smartsim_bridge.server.serve import Server
from tests.links.pairs import all_from
from tests.server.talks import Talk, hello
from tests.support.loops import run
from tests.support.waiting import wait_until_async


@pytest.fixture
def places() -> Iterator[Places]:
    # Not below tmp_path: the path of a socket may have 107 bytes only.
    with tempfile.TemporaryDirectory(prefix="ssb-") as name:
        for part in ("servers", "logs", "journal", "spool"):
            (Path(name) / part).mkdir(mode=0o700)
        yield Places(
            state=name,
            servers=f"{name}/servers",
            logs=f"{name}/logs",
            journals=f"{name}/journal",
            spool=f"{name}/spool",
            lock=f"{name}/lock",
            socket=f"{name}/sock",
        )


def make_server(places: Places, home: str = "/", **options: Any) -> Server:
    environ = {"PATH": "/usr/bin:/bin", "HOME": home}
    return Server(ServerOptions("0.1", **options), places, environ)


@asynccontextmanager
async def serving(places: Places, home: str = "/", **options: Any) -> AsyncIterator[Server]:
    server = make_server(places, home, **options)
    await server.start()
    waiting = asyncio.ensure_future(server.wait())
    try:
        yield server
    finally:
        server.stop(0.0)
        await waiting


async def client_of(places: Places) -> Link:
    link = await connect_unix(places.socket)
    link.send(hello())
    assert isinstance(await link.receive(), Welcome)
    return link


async def report(link: Link) -> Report:
    link.send(Inquiry(1))
    answer = await link.receive()
    assert isinstance(answer, Report)
    return answer


def files(places: Places) -> list[str]:
    return sorted(os.listdir(places.servers))


def has_socket(places: Places) -> bool:
    return os.path.exists(places.socket)


def has_lock(places: Places) -> bool:
    return os.path.exists(places.lock)


def test_report_tells_about_the_server(places: Places) -> None:
    async def talk() -> None:
        async with serving(places) as server:
            first, second = await client_of(places), await client_of(places)
            told = await report(first)
            assert (told.pid, told.version, told.clients, told.running) == (
                os.getpid(),
                "0.1",
                2,
                0,
            )
            assert server.beacon is not None
            assert told.endpoints == server.beacon.endpoints
            second.send(Bye())
            await wait_until_async(lambda: len(server._visits) == 1)
            assert (await report(first)).clients == 1
            await first.close()
            await second.close()

    run(talk())


def test_second_server_is_refused_and_told_of_the_first(places: Places) -> None:
    async def talk() -> None:
        async with serving(places):
            with pytest.raises(ServerAlreadyRuns, match=f"pid {os.getpid()}"):
                await make_server(places).start()
            await (await client_of(places)).close()

    run(talk())


def test_ended_server_leaves_nothing(places: Places) -> None:
    async def talk() -> None:
        async with serving(places):
            assert len(files(places)) == 2
        assert files(places) == []
        assert not has_socket(places)
        assert not has_lock(places)
        async with serving(places):
            await (await client_of(places)).close()

    run(talk())


def test_silent_connection_is_cut(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_link, "QUIET_SECONDS", 0.1)

    async def talk() -> None:
        async with serving(places):
            link = await connect_unix(places.socket)
            with pytest.raises(LinkLost):
                await link.receive()

    run(talk())


def test_client_without_heartbeat_is_cut_and_one_with_stays(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visits, "DEFAULT_HEARTBEAT", 0.05)  # it looks as often, by itself
    monkeypatch.setattr(visits, "MISSED_HEARTBEATS", 72_000)  # and an hour is too long

    async def talk() -> None:
        async with serving(places) as server:
            alive, silent = await client_of(places), await client_of(places)

            def let_time_pass(seconds: float) -> None:
                for visit in server._visits._visits.values():
                    visit.heard -= seconds

            let_time_pass(3000)
            alive.send(Ping(1))
            assert await alive.receive() == Pong(1)
            let_time_pass(3000)
            with pytest.raises(LinkLost):
                await silent.receive()
            assert len(server._visits) == 1
            alive.send(Ping(2))
            assert await alive.receive() == Pong(2)
            await alive.close()


def test_server_with_a_client_or_a_command_stays(
    places: Places, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    looks: list[int] = []  # how many commands ran at each
    look = Server._idle

    def count(server: Server) -> None:
        looks.append(server._backlog.running)
        look(server)

    monkeypatch.setattr(Server, "_idle", count)
    gate = tmp_path / "gate"

    async def talk() -> None:
        async with serving(places) as server:
            client = Talk(await client_of(places))
            # Only now: before somebody is here such a short time would be over.
            server._options = replace(server._options, idle_seconds=0.05)
            assert (await client.run("sleep", "0.2")).end.code == 0
            assert looks == []
            client.start("c", "sh", "-c", f"until [ -e {gate} ]; do sleep 0.02; done")
            await client.until(lambda: client.commands["c"].pid)
            await client.close()
            await wait_until_async(lambda: len(looks) >= 3)
            assert not server._ended.done()
            gate.touch()
            await wait_until_async(server._ended.done)
        assert set(looks[:3]) == {1}

    run(talk())


def test_too_many_clients_are_refused(places: Places) -> None:
    async def talk() -> None:
        async with serving(places, max_clients=2):
            clients = [await client_of(places) for _ in range(2)]
            link = await connect_unix(places.socket)
            link.send(hello())
            answer = await link.receive()
            assert isinstance(answer, Refusal)
            assert answer.reason == "limit"
            with pytest.raises(LinkLost):
                await link.receive()
            for client in clients:
                await client.close()

    run(talk())


@pytest.mark.parametrize("later", [hello(), Ping(1), Start("c", ("true",))])
def test_second_hello_costs_the_link_and_the_session(places: Places, later: object) -> None:
    async def talk() -> None:
        async with serving(places) as server:
            link = await connect_unix(places.socket)
            link.send(hello())
            link.send(later)  # type: ignore[arg-type]
            link.send(hello())
            assert isinstance(await link.receive(), Welcome)
            await all_from(link)
            await wait_until_async(lambda: not server._visits)
            await wait_until_async(lambda: not server._backlog.running)

    run(talk())


@pytest.mark.parametrize("newest", [2, 3, 99])
def test_newest_common_protocol_is_spoken(places: Places, newest: int) -> None:
    async def talk() -> None:
        async with serving(places):
            link = await connect_unix(places.socket)
            link.send(Hello(1, newest, "9.9", "s1"))
            answer = await link.receive()
            assert isinstance(answer, Welcome)
            assert answer.protocol == PROTOCOL_VERSION
            await link.close()

    run(talk())


@pytest.mark.parametrize(("oldest", "newest"), [(99, 100), (1, 1), (-5, -1)])
def test_no_common_protocol_is_refused(places: Places, oldest: int, newest: int) -> None:
    async def talk() -> None:
        async with serving(places):
            link = await connect_unix(places.socket)
            link.send(Hello(oldest, newest, "9.9", "s1"))
            answer = await link.receive()
            assert isinstance(answer, Refusal)
            assert answer.reason == "version"
            await link.close()

    run(talk())


def test_lost_beacon_is_written_again(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "BEACON_SECONDS", 0.05)

    async def talk() -> None:
        async with serving(places):
            for name in files(places):
                os.unlink(os.path.join(places.servers, name))
            await wait_until_async(lambda: len(files(places)) == 2)

    run(talk())


def test_removed_directory_is_made_again(
    places: Places, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(serve, "BEACON_SECONDS", 0.05)
    node = Path(places.state) / "node"
    node.mkdir(mode=0o700)
    moved = replace(places, lock=str(node / "lock"), socket=str(node / "sock"))

    async def talk() -> None:
        async with serving(moved):
            before = await client_of(moved)
            shutil.rmtree(node)
            await wait_until_async(lambda: Path(moved.socket).exists())
            after = await client_of(moved)
            assert [(await report(link)).clients for link in (before, after)] == [2, 2]
            for link in (before, after):
                await link.close()
            assert not Lock(moved.lock).take(), "a second server could start"
        assert os.listdir(node) == []

    run(talk())


def test_place_that_another_server_has_taken_is_left_to_it(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "BEACON_SECONDS", 0.05)

    async def talk() -> None:
        async with serving(places) as first:
            client = await client_of(places)
            os.unlink(places.lock)
            os.unlink(places.socket)
            async with serving(places) as second:
                await wait_until_async(lambda: first._returning is not None)
                newcomer = await client_of(places)
                assert len(second._visits) == 1
                await newcomer.close()
                assert (await report(client)).clients == 1
            await client.close()

    run(talk())


def spoil(path: str, content: bytes) -> None:
    """Puts `content` there, or makes it another's."""
    file = Path(path)
    if content == b"another's":
        content = file.read_bytes().replace(b'"pid":', b'"pid":1').replace(b'_key":"', b'_key":"x')
    file.write_bytes(content)


@pytest.mark.parametrize("suffix", [".json", ".key"])
@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"another's"])
def test_damaged_beacon_is_written_again(
    places: Places, monkeypatch: pytest.MonkeyPatch, suffix: str, content: bytes
) -> None:
    monkeypatch.setattr(serve, "BEACON_SECONDS", 0.05)

    async def talk() -> None:
        async with serving(places) as server:
            (name,) = (name for name in files(places) if name.endswith(suffix))
            path = os.path.join(places.servers, name)
            assert server.beacon is not None
            spoil(path, content)
            ours = (server.beacon, server.credentials)
            await wait_until_async(lambda: server._file.read() == ours)
            before = os.stat(path).st_ino
            await asyncio.sleep(0.2)
            assert os.stat(path).st_ino == before  # what is ours is left as it is

    run(talk())


def test_server_without_pyzmq_serves_its_socket_and_says_why(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(links, "zmq_listener", raising=False)
    monkeypatch.setitem(sys.modules, "smartsim_bridge.links.zmq_listener", None)

    async def talk() -> None:
        async with serving(places) as server:
            assert server.beacon is not None
            assert (server.beacon.endpoints, server.credentials) == ((), None)
            assert "zmq" in server.beacon.why_no_zmq
            link = await connect_unix(places.socket)
            link.send(hello())
            answer = await link.receive()
            assert isinstance(answer, Welcome)
            assert answer.why_no_zmq == server.beacon.why_no_zmq
            await link.close()

    run(talk())


BREAKAGES = [
    ImportError("no libzmq.so"),
    RuntimeError("ABI of another Python"),
    OSError(),
    Exception(),
]


def break_zmq(monkeypatch: pytest.MonkeyPatch, where: str, fault: Exception) -> None:
    def fail(*_: object) -> None:
        raise fault

    class Breaking(ModuleType):
        def __getattr__(self, _: str) -> None:
            fail()

    if where == "import":
        monkeypatch.delattr(links, "zmq_listener", raising=False)
        monkeypatch.delitem(sys.modules, "smartsim_bridge.links.zmq_listener", raising=False)
        monkeypatch.setitem(sys.modules, "zmq", Breaking("zmq"))
    elif where == "keys":
        monkeypatch.setattr(zmq_listener, "new_credentials", fail)
    else:
        monkeypatch.setattr("zmq.auth.thread.ThreadAuthenticator.start", fail)


@pytest.mark.parametrize("where", ["import", "keys", "guard"])
@pytest.mark.parametrize("fault", BREAKAGES, ids=repr)
def test_broken_pyzmq_is_like_a_missing_one(
    places: Places, monkeypatch: pytest.MonkeyPatch, where: str, fault: Exception
) -> None:
    break_zmq(monkeypatch, where, fault)

    async def talk() -> None:
        async with serving(places) as server:
            assert server.beacon is not None
            assert (server.beacon.endpoints, server.beacon.zmq, server.credentials) == (
                (),
                "",
                None,
            )
            assert server.beacon.why_no_zmq == (str(fault) or type(fault).__name__)
            await (await client_of(places)).close()

    run(talk())
    assert files(places) == []


@pytest.mark.parametrize("where", ["import", "keys", "guard"])
def test_wished_port_without_zmq_fails_the_start(
    places: Places, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    break_zmq(monkeypatch, where, RuntimeError("it is broken"))

    async def talk() -> None:
        with pytest.raises(
            ServerStartFailed, match="Port 5555 cannot be served: it is broken"
        ) as raised:
            await make_server(places, port=5555).start()
        assert "--port 0" in str(raised.value)

    run(talk())
    assert (files(places), has_socket(places), has_lock(places)) == ([], False, False)


def test_stopping_is_said_and_nothing_more_is_started(places: Places, tmp_path: Path) -> None:
    async def talk() -> None:
        async with serving(places) as server:
            link = await client_of(places)
            link.send(Stop(0.0))
            link.send(Start("c", ("touch", f"{tmp_path}/ran")))
            assert any(isinstance(message, Stopping) for message in await all_from(link))
            assert not server._backlog.running

    run(talk())
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["home", "missing", "file"])
def test_commands_start_in_the_home_or_where_there_is_none_in_the_root(
    places: Places, tmp_path: Path, name: str
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "file").touch()
    home = str(tmp_path / name)

    async def talk() -> bytes:
        async with serving(places, home):
            client = Talk(await client_of(places))
            told = await client.run("pwd")
            await client.close()
            return bytes(told.out)

    assert run(talk()).decode() == (home if name == "home" else "/") + "\n"


@pytest.mark.parametrize(
    ("soft", "most"),
    [(0, 1), (64, 1), (69, 1), (256, 30), (65536, 2048), (resource.RLIM_INFINITY, 2048)],
)
def test_no_more_commands_run_than_there_are_descriptors_for(
    places: Places, monkeypatch: pytest.MonkeyPatch, soft: int, most: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, soft))

    async def talk() -> None:
        async with serving(places) as server:
            assert server._backlog._limit == most

    run(talk())


def test_failed_start_gives_the_lock_back(places: Places) -> None:
    async def talk() -> None:
        os.rmdir(places.servers)
        with pytest.raises(Exception, match="Cannot write"):
            await make_server(places).start()
        os.mkdir(places.servers)
        assert not has_socket(places)
        async with serving(places):
            await (await client_of(places)).close()

    run(talk())


def test_heartbeat_keeps_lock_and_socket_young(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cleaner of /tmp would take them otherwise."""
    monkeypatch.setattr(serve, "BEACON_SECONDS", 0.05)

    def age() -> None:
        for path in (places.lock, places.socket):
            os.utime(path, (1, 1))

    def is_young() -> bool:
        return all(os.stat(path).st_mtime > 1 for path in (places.lock, places.socket))

    async def talk() -> None:
        async with serving(places):
            age()
            await wait_until_async(is_young)

    run(talk())
