"""Homes that take nothing: the server lives elsewhere on the head, and is found there."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from smartsim_bridge.cli import main as cli
from smartsim_bridge.errors import CommandServerError
from tests.support.heads import Head, MakeHead, servers_in
from tests.support.users import User, is_root

pytestmark = [pytest.mark.sshd, pytest.mark.root]


@pytest.fixture
def head(lonely_user: User, make_head: MakeHead) -> Head:
    return make_head(user=lonely_user)


@pytest.fixture
def disk(head: Head, lonely_user: User) -> Iterator[Path]:
    """A small file system of the user's, where state would be kept."""
    if not is_root():
        pytest.skip("mounting needs root")
    place = head.sshd.home / ".local"
    place.mkdir()
    options = f"size=1m,uid={lonely_user.uid},mode=700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(disk: Path) -> Path:
    path = disk / "full"
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(512)):
            pass
    return path


def options(head: Head) -> list[str]:
    return ["--addr", "head", "--ssh-config", str(head.keywords["ssh_config"])]


def test_a_server_beside_a_read_only_home_is_found_when_it_is_well_again(
    head: Head, lonely_user: User, capfd: pytest.CaptureFixture[str]
) -> None:
    place = head.sshd.home / ".local"
    place.mkdir()  # root's
    pid = head.init(autostart=True).status().server_pid
    elsewhere = Path(f"/var/tmp/smartsim-bridge-{lonely_user.uid}")
    (beacon,) = servers_in(elsewhere)
    assert (beacon.pid, beacon.instead_of) == (pid, str(head.state_dir))

    os.chown(place, lonely_user.uid, lonely_user.uid)
    assert head.init(autostart=True).status().server_pid == pid
    assert head.server_pids() == [pid]
    expected = {"status": f"pid {pid}", "ps": "", "logs": "serving", "stop": f"pid {pid}"}
    for verb, said in expected.items():
        assert cli([verb, *options(head)]) == 0
        assert said in capfd.readouterr().out
    assert head.server_pids() == []
    assert head.init(autostart=True).status().server_pid != pid
    assert servers_in(head.state_dir)


def test_a_home_that_is_full_is_done_without(head: Head, disk: Path) -> None:
    first = head.init(autostart=True)
    assert servers_in(head.state_dir)
    first.shutdown()
    ballast = fill(disk)

    # The far half lies there already: only the server itself can find out.
    status = head.init(autostart=True).status()
    assert status.started
    assert status.server_log.startswith("/var/tmp/")
    ballast.unlink()
    assert head.init(autostart=True).status().server_pid == status.server_pid
    left = [path.name for path in disk.rglob("*") if path.is_file()]
    assert not [name for name in left if name.startswith(".new-") or name.endswith(".part")]


def test_a_home_that_fills_while_the_far_half_arrives_keeps_no_half_of_it(
    head: Head, disk: Path
) -> None:
    (disk / "most").write_bytes(bytes(1000 * 1024))
    status = head.init(autostart=True).status()

    assert status.server_log.startswith("/var/tmp/")
    assert [path.name for path in disk.rglob("*") if path.is_file()] == ["most"]


def test_a_state_directory_of_another_user_is_not_trusted(head: Head, lonely_user: User) -> None:
    """Open to all, so that it looks as if it could be used."""
    head.state_dir.mkdir(parents=True)
    for path in (head.state_dir, head.state_dir.parent, head.state_dir.parent.parent):
        path.chmod(0o777)
    status = head.init(autostart=True).status()

    assert status.server_log.startswith("/var/tmp/")
    assert list(head.state_dir.iterdir()) == []


def test_where_nothing_can_be_kept_every_place_is_named(head: Head, lonely_user: User) -> None:
    (head.sshd.home / ".local").mkdir()
    squatted = [Path(root, f"smartsim-bridge-{lonely_user.uid}") for root in ("/var/tmp", "/tmp")]
    for path in squatted:
        path.mkdir(mode=0o777)
    with pytest.raises(CommandServerError) as raised:
        head.init(autostart=True)
    for path in squatted:
        assert f"{path} belongs to uid 0" in str(raised.value)
