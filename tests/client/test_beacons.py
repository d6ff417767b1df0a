from __future__ import annotations

import errno
import os
import socket
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from smartsim_bridge.client.beacons import Sighting, host_matches, is_this_host, sightings
from smartsim_bridge.protocol.beacon import Beacon
from tests.client.samples import beacon, credentials


@pytest.fixture
def servers(tmp_path: Path) -> Path:
    path = tmp_path / "servers"
    path.mkdir()
    return path


def leave(servers: Path, left: Beacon, name: str = "login1-bbbb", *, keys: bool = True) -> Path:
    file = servers / f"{name}.json"
    file.write_text(left.to_json(), encoding="utf-8")
    if keys:
        (servers / f"{name}.key").write_text(credentials().to_json(), encoding="utf-8")
    return file


def test_a_beacon_comes_with_its_credentials(servers: Path) -> None:
    leave(servers, beacon())
    (found,) = sightings(str(servers.parent))
    assert found == Sighting(beacon(), credentials())


def test_a_beacon_without_credentials_is_seen_too(servers: Path) -> None:
    leave(servers, beacon(), keys=False)
    (found,) = sightings(str(servers.parent))
    assert found.credentials is None


def test_the_freshest_is_first(servers: Path) -> None:
    old, new = beacon(host="old"), beacon(host="new")
    os.utime(leave(servers, new, "aaa"), (2000, 2000))
    os.utime(leave(servers, old, "bbb"), (1000, 1000))
    assert [one.beacon.host for one in sightings(str(servers.parent))] == ["new", "old"]


def test_no_directory_is_no_beacon(tmp_path: Path) -> None:
    assert list(sightings(str(tmp_path / "missing"))) == []


@pytest.mark.parametrize("junk", ["", "{", "[]", "{}", "null", "x" * 100_000, '{"format": 2}'])
def test_junk_is_passed_over(junk: str, servers: Path) -> None:
    (servers / "aaa.json").write_text(junk, encoding="utf-8")
    leave(servers, beacon())
    assert [one.beacon for one in sightings(str(servers.parent))] == [beacon()]


def test_a_link_is_not_followed(servers: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.json"
    elsewhere.write_text(beacon().to_json(), encoding="utf-8")
    (servers / "aaa.json").symlink_to(elsewhere)
    assert list(sightings(str(tmp_path))) == []


def test_a_pipe_does_not_block(servers: Path) -> None:
    os.mkfifo(servers / "aaa.json")
    assert list(sightings(str(servers.parent))) == []


def test_the_beacon_of_another_user_is_passed_over(servers: Path) -> None:
    leave(servers, beacon(uid=os.getuid() + 1))
    assert list(sightings(str(servers.parent))) == []


def test_a_file_that_goes_stale_while_it_is_read_is_passed_over(
    servers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(servers, beacon())

    def stale(*_: object) -> None:
        raise OSError(errno.ESTALE, "Stale file handle")

    with monkeypatch.context() as home:
        home.setattr("os.fstat", stale)
        seen = list(sightings(str(servers.parent)))
    assert seen == []


def test_a_server_that_had_to_go_elsewhere_is_seen(
    servers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smartsim_bridge.client.beacons.ELSEWHERE", (str(tmp_path / "var"),))
    there = tmp_path / "var" / f"smartsim-bridge-{os.getuid()}" / "servers"
    there.mkdir(parents=True)
    mine, another = (
        beacon(host=name, instead_of=str(place))
        for name, place in (("login1", servers.parent), ("login2", "/other"))
    )
    leave(there, mine, "mine")
    leave(there, another, "another")
    assert [one.beacon for one in sightings(str(servers.parent))] == [mine]


def test_a_heartbeat_of_a_minute_ago_is_fresh_and_one_of_an_hour_ago_is_not(servers: Path) -> None:
    path, now = leave(servers, beacon()), time.time()
    for age, is_fresh in ((60, True), (3600, False), (-3600, True)):
        os.utime(path, (now - age, now - age))
        (found,) = sightings(str(servers.parent))
        assert found.is_fresh is is_fresh


@pytest.mark.parametrize(
    ("name", "matches"), [("login", True), ("login.site", True), ("LOGIN", True), ("log", False)]
)
def test_a_beacon_is_known_by_the_alias_that_led_its_starter_there(
    name: str, matches: bool
) -> None:
    assert host_matches(beacon(known_as=("login",)), name) is matches


def test_a_process_that_is_there_is_alive(servers: Path) -> None:
    boot = Path("/proc/sys/kernel/random/boot_id")
    if not boot.exists():
        pytest.skip("needs /proc")
    stat = Path("/proc/self/stat").read_text()
    start = int(stat.rpartition(")")[2].split()[19])
    ours = beacon(
        host=socket.gethostname(),
        boot_id=boot.read_text().strip(),
        pid=os.getpid(),
        pid_start=start,
    )
    assert Sighting(ours, None).is_alive_here
    for change in (
        {"host": "another"},
        {"boot_id": "another"},
        {"pid_start": start + 1},
        {"pid": 2**22 + 1},
    ):
        assert not Sighting(replace(ours, **change), None).is_alive_here


def test_a_zombie_is_not_alive() -> None:
    boot = Path("/proc/sys/kernel/random/boot_id")
    if not boot.exists():
        pytest.skip("needs /proc")
    with subprocess.Popen(["true"]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, and not collected
        values = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        assert values[0] == "Z"
        left = beacon(
            host=socket.gethostname(),
            boot_id=boot.read_text().strip(),
            pid=child.pid,
            pid_start=int(values[19]),
        )
        assert not Sighting(left, None).is_alive_here


@pytest.mark.parametrize(
    ("host", "name", "matches"),
    [
        ("login1", "login1", True),
        ("login1.site", "login1", True),
        ("login1", "login1.site", True),
        ("login1.site", "login1.site", True),
        ("login1.site", "login1.other", False),
        ("login1", "login2", False),
        ("login1", "login", False),
        ("login1", "10.0.0.1", True),
        ("login1", "10.0.0.2", False),
        ("login1", "127.0.0.1", False),
    ],
)
def test_a_name_means_the_host_or_one_of_its_addresses(host: str, name: str, matches: bool) -> None:
    found = beacon(host=host, endpoints=("tcp://127.0.0.1:1", "tcp://10.0.0.1:1"))
    assert host_matches(found, name) is matches


def test_this_host_is_known_without_a_name_server() -> None:
    assert is_this_host("localhost")
    assert is_this_host(socket.gethostname())
    assert not is_this_host("login1.site")
