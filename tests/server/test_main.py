from __future__ import annotations

import json
import os
import resource
import signal
import socket
import stat
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from smartsim_bridge import __version__
from smartsim_bridge.links.link import Link
from smartsim_bridge.links.stream_link import connect_unix
from smartsim_bridge.links.zmq_link import connect_zmq
from smartsim_bridge.protocol.beacon import (
    Beacon,
    Credentials,
    find_ready_line,
    says_found,
)
from smartsim_bridge.protocol.messages import Hello, Start, Stop, Stopping, Welcome
from smartsim_bridge.server.__main__ import main
from tests.server.running import START_SECONDS, Fleet, is_running
from tests.server.talks import Talk, hello
from tests.support.loops import run
from tests.support.waiting import PATIENCE, wait_until


async def greeted(link: Link) -> Talk:
    link.send(hello())
    assert isinstance(await link.receive(), Welcome)
    return Talk(link)


async def by_zmq(beacon: Beacon, keys: Credentials | None) -> Talk:
    assert keys is not None
    return await greeted(await connect_zmq(beacon.endpoints[0], keys, timeout=PATIENCE))


async def by_socket(beacon: Beacon) -> Talk:
    return await greeted(await connect_unix(beacon.socket))


def modes(*paths: Path) -> set[int]:
    return {stat.S_IMODE(path.lstat().st_mode) for path in paths}


def test_started_server_is_found_and_serves_on_both_ways(fleet: Fleet) -> None:
    beacon, keys = fleet.start()
    assert beacon.version == __version__
    assert keys is not None
    assert beacon.server_key == keys.server_key

    async def talk() -> None:
        for client in (await by_zmq(beacon, keys), await by_socket(beacon)):
            assert (await client.run("echo", "hello")).out == b"hello\n"
            await client.close()

    run(talk())


def test_second_start_finds_the_first(fleet: Fleet) -> None:
    assert fleet.start() == fleet.start()


@pytest.mark.slow
def test_twenty_racing_starts_give_one_server(fleet: Fleet) -> None:
    starters = [fleet.launch() for _ in range(20)]
    found = {fleet.finish(*starter)[0] for starter in starters}
    assert len(found) == 1
    assert is_running(found.pop())


def test_racing_starters_say_who_found_and_one_has_started(fleet: Fleet) -> None:
    starters = [fleet.launch() for _ in range(5)]
    said = [(process.communicate(timeout=START_SECONDS)[0], nonce) for process, nonce in starters]
    beacons = set()
    for text, nonce in said:
        found = find_ready_line(text, nonce)
        assert found is not None
        beacons.add(found[0])
    (beacon,) = beacons
    fleet.adopt(beacon)
    assert sorted(says_found(text, nonce) for text, nonce in said) == [False, *[True] * 4]


def test_killed_server_is_followed_by_another(fleet: Fleet) -> None:
    first, _ = fleet.start()
    fleet.stop(first, signal.SIGKILL)
    assert fleet.files()
    second, keys = fleet.start()
    assert second.pid != first.pid
    run(_says_hello(second, keys))


async def _says_hello(beacon: Beacon, keys: Credentials | None) -> None:
    client = await by_zmq(beacon, keys)
    assert (await client.run("echo", "hello")).out == b"hello\n"
    await client.close()


def test_beacon_of_a_stranger_with_the_same_pid_is_not_believed(fleet: Fleet) -> None:
    first, _ = fleet.start()
    fleet.stop(first, signal.SIGKILL)
    (name,) = (name for name in fleet.files() if name.endswith(".json"))
    stale = replace(first, pid=os.getpid(), pid_start=1)
    (fleet.state / "servers" / name).write_text(stale.to_json())
    assert fleet.start()[0].pid not in (os.getpid(), first.pid)


@pytest.mark.parametrize("content", ["", "garbage", "[" * 5000, "{}"])
def test_garbage_for_a_beacon_does_not_stop_a_start(fleet: Fleet, content: str) -> None:
    first, _ = fleet.start()
    fleet.stop(first, signal.SIGKILL)
    for name in fleet.files():
        (fleet.state / "servers" / name).write_text(content)
    assert fleet.start()[0].pid != first.pid


def test_sigterm_ends_commands_and_takes_the_beacon_away(fleet: Fleet) -> None:
    beacon, keys = fleet.start()

    async def talk() -> int:
        client = await by_zmq(beacon, keys)
        client.start("c", "sleep", "60")
        await client.until(lambda: client.commands["c"].pid)
        os.kill(beacon.pid, signal.SIGTERM)
        await client.until(lambda: client.is_lost)
        assert any(isinstance(message, Stopping) for message in client.all)
        await client.close()
        return client.commands["c"].pid

    pid = run(talk())
    wait_until(lambda: not is_running(beacon))
    assert not Path(f"/proc/{pid}").exists()
    assert fleet.files() == []
    assert not Path(beacon.socket).exists()


def test_commands_of_a_client_that_is_gone_end_with_the_server(fleet: Fleet) -> None:
    beacon, _ = fleet.start()

    async def talk() -> int:
        client = await by_socket(beacon)
        client.start("c", "sleep", "60")
        await client.until(lambda: client.commands["c"].pid)
        await client.close()
        return client.commands["c"].pid

    pid = run(talk())
    fleet.stop(beacon)
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_foreground_server_ends_with_status_0(fleet: Fleet, number: int) -> None:
    with subprocess.Popen(
        fleet.command(), env=fleet.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as server:
        assert server.stdout is not None
        assert server.stderr is not None
        for line in server.stdout:
            if b"stop it with" in line:
                break
        server.send_signal(number)
        assert server.wait(PATIENCE) == 0
        assert server.stderr.read() == b""
    assert fleet.files() == []


def test_client_may_stop_the_server(fleet: Fleet) -> None:
    beacon, _ = fleet.start()

    async def talk() -> None:
        client = await by_socket(beacon)
        client.link.send(Stop(0.0))
        await client.until(lambda: client.is_lost)
        assert any(isinstance(message, Stopping) for message in client.all)
        await client.close()

    run(talk())
    wait_until(lambda: not is_running(beacon))
    assert fleet.files() == []


def test_hangup_does_not_end_the_server_and_commands_feel_theirs(fleet: Fleet) -> None:
    beacon, _ = fleet.start()
    os.kill(beacon.pid, signal.SIGHUP)

    async def talk() -> None:
        client = await by_socket(beacon)
        told = await client.run("sh", "-c", "kill -HUP $$; echo still here")
        assert told.end.signal == signal.SIGHUP
        await client.close()

    run(talk())
    assert is_running(beacon)


def test_server_without_clients_ends_by_itself(fleet: Fleet) -> None:
    beacon, _ = fleet.start("--idle-exit", str(0.3 / 3600))
    wait_until(lambda: not is_running(beacon))
    assert fleet.files() == []


@pytest.mark.parametrize("hours", ["0", "-1", "nan", "soon"])
def test_nonsense_for_a_time_is_refused(hours: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["serve", "--idle-exit", hours])
    assert "--idle-exit" in capsys.readouterr().err


@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_nonsense_for_a_port_is_refused(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["serve", "--port", port])
    assert "--port" in capsys.readouterr().err


def test_taken_port_is_told_and_leaves_nothing(fleet: Fleet) -> None:
    # An address of its own: at 127.0.0.1 any connection of this machine may have the port next.
    with socket.create_server(("127.0.0.11", 0)) as taken:
        port = str(taken.getsockname()[1])
        asked = ("--addr", "127.0.0.11", "--port", port)
        said = fleet.refuse(*asked)
    assert f"Port {port}" in said
    assert "--port 0" in said
    assert fleet.files() == []
    assert fleet.start(*asked)[0].ports == (int(port),)


def test_port_without_pyzmq_is_told_and_leaves_nothing(fleet: Fleet, tmp_path: Path) -> None:
    (tmp_path / "zmq.py").write_text("raise RuntimeError('built for another Python')")
    fleet.environ["PYTHONPATH"] = str(tmp_path)
    said = fleet.refuse("--port", "5555")
    assert "Port 5555 cannot be served: built for another Python" in said
    assert "--port 0" in said
    assert fleet.files() == []
    assert "another Python" in fleet.start()[0].why_no_zmq


def test_foreign_address_is_told_and_leaves_nothing(fleet: Fleet) -> None:
    said = fleet.refuse("--addr", "127.0.0.1", "--addr", "192.0.2.1")
    assert "192.0.2.1" in said
    assert "--addr" in said
    assert fleet.files() == []


def test_unusable_state_directory_is_told(fleet: Fleet) -> None:
    fleet.state.write_text("a file")
    said = fleet.refuse()
    assert str(fleet.state) in said


def test_state_directory_that_is_a_link_is_refused(fleet: Fleet, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    fleet.state.symlink_to(tmp_path / "elsewhere")
    assert "link" in fleet.refuse()


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_everything_is_private_whatever_the_umask(fleet: Fleet, mask: int) -> None:
    before = os.umask(mask)
    try:
        beacon, _ = fleet.start()
    finally:
        os.umask(before)
    found = [fleet.state, *fleet.state.rglob("*"), *map(Path, (beacon.socket, beacon.log))]
    directories = [path for path in found if path.is_dir()]
    others = [path for path in found if not path.is_dir()]
    assert modes(*directories, Path(beacon.socket).parent) == {0o700}
    assert modes(*others) == {0o600}
    assert len(others) >= 4

    async def talk() -> bytes:
        client = await by_socket(beacon)
        told = await client.run("sh", "-c", "umask")
        await client.close()
        return bytes(told.out)

    assert int(run(talk()), 8) == mask


def test_no_secret_is_seen_in_ps_or_log(fleet: Fleet) -> None:
    beacon, keys = fleet.start()
    assert keys is not None
    run(_says_hello(beacon, keys))
    shown = [Path(f"/proc/{beacon.pid}/{name}").read_bytes() for name in ("cmdline", "environ")]
    shown.append(Path(beacon.log).read_bytes())
    assert not any(keys.client_secret.encode() in text for text in shown)


def test_what_is_run_is_not_logged(fleet: Fleet) -> None:
    beacon, _ = fleet.start()

    async def talk() -> None:
        client = await by_socket(beacon)
        await client.run("echo", "canary-in-argv", env={"X": "canary-in-env"})
        await client.close()

    run(talk())
    assert "canary" not in Path(beacon.log).read_text()


def test_enclosing_job_of_the_starter_stays_behind(fleet: Fleet) -> None:
    fleet.environ.update({"SLURM_JOB_ID": "7", "PMI_RANK": "0", "MINE": "1"})
    beacon, _ = fleet.start()

    async def talk() -> bytes:
        client = await by_socket(beacon)
        told = await client.run("env")
        await client.close()
        return bytes(told.out)

    names = {line.partition(b"=")[0] for line in run(talk()).splitlines()}
    assert b"MINE" in names
    assert not names & {b"SLURM_JOB_ID", b"PMI_RANK"}


def test_commands_get_the_starters_limit_of_open_files(fleet: Fleet) -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    beacon, _ = fleet.start()

    async def talk() -> bytes:
        client = await by_socket(beacon)
        client.start("c", "sh", "-c", "read x; ulimit -n", stdin="pipe")
        client.feed("c", b"\n", eof=True)
        told = await client.over("c")
        await client.close()
        return bytes(told.out)

    assert int(run(talk())) == soft


def test_other_protocol_versions_are_refused_with_both_versions(fleet: Fleet) -> None:
    beacon, _ = fleet.start()

    async def talk() -> str:
        link = await connect_unix(beacon.socket)
        link.send(Hello(99, 100, "9.9", "s1"))
        answer = await link.receive()
        await link.close()
        return json.dumps(vars(answer))

    answer = run(talk())
    assert "version" in answer
    assert __version__ in answer
    assert "9.9" in answer


def test_request_before_the_greeting_runs_nothing(fleet: Fleet, tmp_path: Path) -> None:
    beacon, _ = fleet.start()

    async def talk() -> None:
        link = await connect_unix(beacon.socket)
        link.send(Start("c", ("touch", str(tmp_path / "ran"))))
        client = Talk(link)
        await client.until(lambda: client.is_lost)
        await client.close()

    run(talk())
    assert not (tmp_path / "ran").exists()


def test_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out.strip() == __version__
