"""The order of the rungs, what each says, and which error is raised in the end."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import Any

import pytest

from smartsim_bridge import errors
from smartsim_bridge.client.attempts import Attempts
from smartsim_bridge.client.ladder import Ascent, climb
from smartsim_bridge.deadline import Deadline
from smartsim_bridge.errors import CommandServerError
from smartsim_bridge.links.link import Link
from smartsim_bridge.settings import Settings
from smartsim_bridge.stages import Journey, Stage
from tests.client.samples import beacon, credentials
from tests.support.local_server import LocalServer
from tests.support.loops import run
from tests.support.peers import http_peer, silent_peer


def climbed(**keywords: Any) -> Ascent:
    async def main() -> Ascent:
        ascent = await climb(Settings.gather(**keywords), "5" * 32)
        await ascent.close()
        return ascent

    return run(main())


def fault_of(**keywords: Any) -> CommandServerError:
    with pytest.raises(CommandServerError) as caught:
        climbed(**keywords)
    return caught.value


def test_here_the_first_rung_holds_and_no_other_is_tried(server: LocalServer) -> None:
    ascent = climbed()
    assert ascent.transport == "local"
    assert [(rung.name, rung.held) for rung in ascent.rungs] == [("local", True)]
    assert ascent.rungs[0].seconds > 0
    assert not ascent.started


def test_a_rung_that_does_not_apply_says_why_and_counts_as_not_tried(server: LocalServer) -> None:
    ascent = climbed(addr="127.0.0.1", transport="direct")
    assert [rung.name for rung in ascent.rungs] == ["direct"]
    fault = fault_of(transport="local", port=1)
    assert "port 1" in fault.what


def test_the_only_fault_is_the_one_that_is_raised(near_home: Path) -> None:
    assert type(fault_of(port=1)) is errors.NobodyListening
    assert type(fault_of()) is errors.NoServer
    assert type(fault_of(transport="local")) is errors.NoServer
    assert type(fault_of(transport="direct")) is errors.NoServer


def test_a_version_that_does_not_fit_is_told_at_once(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same server is behind every other rung."""
    monkeypatch.setattr("smartsim_bridge.client.talk.OLDEST_PROTOCOL", 9)
    monkeypatch.setattr("smartsim_bridge.client.talk.PROTOCOL_VERSION", 9)
    fault = fault_of()
    assert type(fault) is errors.VersionMismatch
    assert "protocol 2-2" in fault.what
    assert "smartsim-bridge stop" in fault.advice


def test_several_faults_are_all_told(near_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that lives and serves nothing: ours."""
    stat = Path("/proc/self/stat").read_text("ascii", "replace")
    found = beacon(
        host=socket.gethostname(),
        boot_id=Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip(),
        pid=os.getpid(),
        pid_start=int(stat.rpartition(")")[2].split()[19]),
        socket=str(near_home / "nobody.sock"),
        endpoints=("tcp://127.0.0.1:1",),
    )
    servers = near_home / "state" / "servers"
    servers.mkdir(parents=True)
    (servers / "a.json").write_text(found.to_json(), encoding="utf-8")
    (servers / "a.key").write_text(credentials().to_json(), encoding="utf-8")
    monkeypatch.setenv("SMARTSIM_BRIDGE_STATE_DIR", str(near_home / "state"))

    fault = fault_of()
    assert isinstance(fault, errors.NoRungHeld)
    assert [rung for rung, _ in fault.reasons] == ["local", "direct"]
    assert "nobody.sock" in str(fault)
    assert "127.0.0.1:1" in str(fault)


def test_where_none_runs_here_a_server_on_another_head_is_named(
    near_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = near_home / "state" / "servers"
    servers.mkdir(parents=True)
    (servers / "a.json").write_text(beacon(host="login3", pid=99).to_json(), encoding="utf-8")
    monkeypatch.setenv("SMARTSIM_BRIDGE_STATE_DIR", str(near_home / "state"))

    fault = fault_of()
    assert type(fault) is errors.NoServer
    assert "servers of yours run on login3 (pid 99)" in fault.what
    assert "Name the head" in fault.advice

    os.utime(servers / "a.json", (1000, 1000))
    assert "login3" not in fault_of().what


def test_of_several_servers_the_oldest_with_a_young_heartbeat_is_tried_first(
    near_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order in which every login chooses, so that all clients of an alias meet."""
    servers = near_home / "state" / "servers"
    servers.mkdir(parents=True)
    for port, started, touched in ((1, 3.0, None), (2, 2.0, None), (3, 1.0, 1000.0)):
        one = beacon(
            host=socket.gethostname(), endpoints=(f"tcp://127.0.0.1:{port}",), started=started
        )
        path = servers / f"{port}.json"
        path.write_text(one.to_json(), encoding="utf-8")
        path.with_suffix(".key").write_text(credentials().to_json(), encoding="utf-8")
        if touched is not None:
            os.utime(path, (touched, touched))
    monkeypatch.setenv("SMARTSIM_BRIDGE_STATE_DIR", str(near_home / "state"))

    fault = fault_of(addr=socket.gethostname(), transport="direct")
    assert isinstance(fault, errors.NoRungHeld)
    ports = [re.findall(r"127\.0\.0\.1:(\d)", reason) for _, reason in fault.reasons]
    assert [found[0] for found in ports] == ["2", "1", "3"]


@pytest.mark.parametrize(
    ("peer", "expected"),
    [(http_peer, errors.NotCommandServer), (silent_peer, errors.PeerSilent)],
)
def test_a_stranger_at_an_explicit_port_is_the_answer(
    peer: Any, expected: type[CommandServerError], near_home: Path
) -> None:
    with peer() as port:
        assert type(fault_of(port=port)) is expected


def test_each_stage_is_told_as_it_ends(server: LocalServer) -> None:
    told: list[Stage] = []
    ascent = climbed(on_stage=told.append)
    assert tuple(told) == ascent.stages
    assert [stage.name for stage in told] == ["handshake"]
    assert str(server.pid) in told[0].detail


def test_the_whole_climb_has_one_deadline(near_home: Path) -> None:
    with silent_peer() as port:
        fault = fault_of(addr=f"127.0.0.1:{port}", autostart=True, timeout=0.5)
    assert fault.host
    assert fault.step


def test_a_rung_that_fails_is_told_with_the_last_word_of_the_host(near_home: Path) -> None:
    async def main() -> str:
        attempts = Attempts(Settings.gather(), "5" * 32, "h", Deadline(60), Journey("h", None))

        async def dial() -> Link:
            noise = "  Welcome to login1\n  sh: python: not found"
            raise errors.LaunchFailed("The relay ended at once", noise=noise)

        assert await attempts.take("stdio", dial, aim="login2") is None
        return attempts.rungs[0].reason

    assert run(main()) == "login2: The relay ended at once: sh: python: not found"
