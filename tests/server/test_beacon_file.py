from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from smartsim_bridge.errors import ServerStartFailed
from smartsim_bridge.protocol.beacon import Beacon, Credentials
from smartsim_bridge.server.beacon_file import (
    BeaconFile,
    Lock,
    boot_id,
    host_name,
    process_start,
)
from smartsim_bridge.server.places import Places
from tests.support.waiting import wait_until

KEYS = Credentials("s" * 40, "c" * 40, "x" * 40)
BEACON = Beacon("login1", "b00t", os.getuid(), os.getpid(), 1, "0.1", 1, "/tmp/s")


@pytest.fixture
def places(tmp_path: Path) -> Places:
    (tmp_path / "servers").mkdir(mode=0o700)
    return Places(
        state=str(tmp_path),
        servers=str(tmp_path / "servers"),
        logs=str(tmp_path),
        journals=str(tmp_path),
        spool=str(tmp_path),
        lock=str(tmp_path / "lock"),
        socket=str(tmp_path / "socket"),
    )


@pytest.fixture
def file(places: Places) -> BeaconFile:
    return BeaconFile(places, "login1", "b00t")


def files(places: Places) -> list[Path]:
    return sorted(Path(places.servers).iterdir())


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_files_are_private_whatever_the_umask(places: Places, file: BeaconFile, mask: int) -> None:
    before = os.umask(mask)
    try:
        file.write(BEACON, KEYS)
        lock = Lock(places.lock)
        assert lock.take()
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (*files(places), Path(places.lock))}
    lock.release()
    assert (len(files(places)), modes) == (2, {0o600})


def test_released_lock_leaves_no_file_and_can_be_taken_again(places: Places) -> None:
    first, second = Lock(places.lock), Lock(places.lock)
    assert first.take()
    assert not second.take()
    first.release()
    assert not Path(places.lock).exists()
    assert second.take()
    second.release()


def test_lock_on_a_file_that_lost_its_name_is_none(places: Places) -> None:
    """What a taker holds that opened the file just before its holder removed it."""
    late = Lock(places.lock)
    opened = os.open

    def open_and_lose(path: str, *arguments: int) -> int:
        descriptor = opened(path, *arguments)
        os.unlink(path)
        return descriptor

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", open_and_lose)
        assert not late.take()
    assert late.take()
    late.release()


def test_what_was_written_is_read(file: BeaconFile) -> None:
    assert file.read() is None
    file.write(BEACON, KEYS)
    assert file.read() == (BEACON, KEYS)
    file.write(replace(BEACON, pid=7), None)
    assert file.read() == (replace(BEACON, pid=7), None)


def test_secret_is_not_in_the_beacon(places: Places, file: BeaconFile) -> None:
    file.write(BEACON, KEYS)
    (beacon,) = (path for path in files(places) if path.suffix == ".json")
    assert KEYS.client_secret not in beacon.read_text()


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 10_000, b"null\n"])
def test_broken_beacon_is_none(places: Places, file: BeaconFile, content: bytes) -> None:
    file.write(BEACON, KEYS)
    for path in files(places):
        path.write_bytes(content)
    assert file.read() is None


def test_only_the_servers_own_beacon_is_removed(places: Places, file: BeaconFile) -> None:
    file.write(BEACON, KEYS)
    file.remove(BEACON.pid + 1)
    assert len(files(places)) == 2
    file.remove(BEACON.pid)
    assert files(places) == []


def test_heartbeat_moves_the_time_and_notices_what_is_not_as_it_was_left(
    places: Places, file: BeaconFile
) -> None:
    assert not file.touch(BEACON, None)
    file.write(BEACON, None)
    (path,) = files(places)
    os.utime(path, (1, 1))
    assert file.touch(BEACON, None)
    assert path.stat().st_mtime > 1
    assert not file.touch(BEACON, KEYS)
    assert not file.touch(replace(BEACON, pid=BEACON.pid + 1), None)
    file.write(BEACON, KEYS)
    assert file.touch(BEACON, KEYS)
    assert not file.touch(BEACON, None)


def test_directory_that_cannot_be_written_is_an_error_with_advice(
    places: Places, file: BeaconFile
) -> None:
    Path(places.servers).rmdir()
    with pytest.raises(ServerStartFailed, match="--state-dir"):
        file.write(BEACON, KEYS)


def test_failed_write_leaves_the_old_beacon_and_no_rubbish(
    places: Places, file: BeaconFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write(BEACON, KEYS)

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(ServerStartFailed, match="No space left"):
        file.write(replace(BEACON, pid=7), KEYS)
    assert file.read() == (BEACON, KEYS)
    assert len(files(places)) == 2


def test_lock_is_held_by_one(places: Places) -> None:
    one, two = Lock(places.lock), Lock(places.lock)
    assert one.take()
    assert not two.take()
    one.release()
    assert two.take()
    two.release()
    two.release()


def test_lock_of_a_killed_process_is_free(places: Places) -> None:
    script = f"""
from smartsim_bridge.server.beacon_file import Lock
lock = Lock({places.lock!r})
print(lock.take(), flush=True)
input()
"""
    lock = Lock(places.lock)
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"True\n"
        assert not lock.take()
        holder.kill()
        holder.wait()
    assert lock.take()
    lock.release()


def test_lock_is_not_inherited_by_commands(places: Places) -> None:
    lock = Lock(places.lock)
    assert lock.take()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False) as child:
        lock.release()
        assert Lock(places.lock).take()
        child.communicate()


def test_link_in_place_of_the_lock_is_an_error(places: Places) -> None:
    Path(places.lock).symlink_to("/etc/hostname")
    with pytest.raises(ServerStartFailed, match="lock"):
        Lock(places.lock).take()


def test_process_start_tells_processes_apart() -> None:
    assert process_start(os.getpid()) > process_start(1) >= 0
    with subprocess.Popen(["true"]) as child:
        child.wait()
    assert process_start(child.pid) == 0


def test_process_that_is_only_waited_for_has_ended() -> None:
    child = subprocess.Popen(["true"])
    wait_until(lambda: process_start(child.pid) == 0)
    assert Path(f"/proc/{child.pid}").exists()
    child.wait()


def test_odd_process_name_does_not_confuse(tmp_path: Path) -> None:
    program = tmp_path / "a) b (c"
    program.symlink_to("/bin/cat")
    with subprocess.Popen([str(program)], stdin=subprocess.PIPE) as child:
        assert process_start(child.pid) >= process_start(os.getpid())
        child.communicate()


def test_host_and_boot_have_names() -> None:
    assert host_name() == socket.gethostname()
    assert boot_id() == boot_id()


def test_what_was_left_before_the_boot_is_removed_and_nothing_else(
    places: Places, file: BeaconFile
) -> None:
    kept = [
        BeaconFile(places, "login2", "0ld"),
        BeaconFile(places, "login1-x", "0ld"),
        BeaconFile(places, "stranger", "0ld"),
    ]
    kept[0].write(replace(BEACON, host="login2", boot_id="0ld"), KEYS)
    kept[1].write(replace(BEACON, host="login1-x", boot_id="0ld"), KEYS)
    kept[2].write(replace(BEACON, uid=os.getuid() + 1, boot_id="0ld"), KEYS)
    (Path(places.servers) / "login1-x.json").write_text("garbage", encoding="utf-8")
    (Path(places.servers) / "login1-y.json").write_text("", encoding="utf-8")
    os.mkfifo(Path(places.servers) / "login1-z.json")
    file.write(BEACON, KEYS)
    before = files(places)
    BeaconFile(places, "login1", "0ld").write(replace(BEACON, boot_id="0ld"), KEYS)
    assert len(files(places)) == len(before) + 2

    file.clean()

    assert files(places) == before


def test_two_heads_leave_each_others_beacons_alone(places: Places) -> None:
    heads = {name: BeaconFile(places, name, "b00t") for name in ("login1", "login2", "login")}
    beacons = {name: replace(BEACON, host=name) for name in heads}
    for name, file in heads.items():
        file.write(beacons[name], KEYS)
    for _ in range(50):
        for name, file in heads.items():
            file.clean()
            assert file.touch(beacons[name], KEYS)
    heads["login"].remove(os.getpid())
    assert heads["login"].read() is None
    assert heads["login1"].read() == (beacons["login1"], KEYS)
    assert heads["login2"].read() == (beacons["login2"], KEYS)


def test_a_beacon_that_the_home_cannot_read_any_more_is_none(
    places: Places, file: BeaconFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write(BEACON, KEYS)

    def stale(*_: object, **__: object) -> None:
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr("builtins.open", stale)
    assert file.read() is None
    assert not file.touch(BEACON, KEYS)
    file.clean()
