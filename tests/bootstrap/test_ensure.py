"""The whole errand, with the real far half, on a head that is a directory of this machine."""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

import pytest

from smartsim_bridge.bootstrap import plan as plan_module
from smartsim_bridge.bootstrap import probe as probe_module
from smartsim_bridge.bootstrap.artifact import build
from smartsim_bridge.bootstrap.ensure import Found, ensure_server, find_server
from smartsim_bridge.bootstrap.facts import Facts
from smartsim_bridge.bootstrap.provision import Provision
from smartsim_bridge.deadline import Deadline
from smartsim_bridge.errors import LaunchFailed, NoServer, NoUsablePython, ProvisionFailed
from smartsim_bridge.stages import Journey
from tests.bootstrap.samples import Head, modern_pythons, start_ticks


class Errands:
    """Runs errands on one head, and ends every server that they started."""

    def __init__(self, head: Head) -> None:
        self.head = head
        self.journey = Journey("me@login1")
        self._pids: dict[int, int] = {}

    def run(self, **wishes: object) -> Found:
        arguments = {
            "python": sys.executable,
            "deadline": Deadline(240),
            "journey": self.journey,
            **wishes,
        }
        found = ensure_server(self.head.host(), **arguments)  # type: ignore[arg-type]
        self._pids[found.beacon.pid] = found.beacon.pid_start
        return found

    def stages(self) -> list[str]:
        names = [stage.name for stage in self.journey.stages]
        self.journey.stages.clear()
        return names

    def end_all(self) -> None:
        for pid, start in self._pids.items():
            if Path(f"/proc/{pid}").exists() and start_ticks(pid) == start:
                kill(pid)


def kill(pid: int) -> None:
    """SIGKILL, and waits for the process to be gone: it is no child of ours."""
    descriptor = os.pidfd_open(pid)
    try:
        os.kill(pid, signal.SIGKILL)
        select.select([descriptor], [], [], 60)
    finally:
        os.close(descriptor)


@pytest.fixture
def errands(head: Head, monkeypatch: pytest.MonkeyPatch) -> Iterator[Errands]:
    monkeypatch.setattr(probe_module, "PYTHON_SECONDS", 60.0)  # ten of them start at once
    errands = Errands(head)
    yield errands
    errands.end_all()


def test_an_empty_head_gets_a_server_and_the_next_errand_finds_it(errands: Errands) -> None:
    first = errands.run()
    assert errands.stages() == ["probe", "upload", "launch"]
    second = errands.run()
    assert errands.stages() == ["probe"]

    assert first.started
    assert not second.started
    assert second.beacon == first.beacon
    assert second.credentials == first.credentials
    assert first.beacon.uid == os.getuid()
    assert first.beacon.state_dir == str(errands.head.state)


def test_the_server_is_no_child_of_the_session_that_started_it(errands: Errands) -> None:
    pid = errands.run().beacon.pid

    assert os.getsid(pid) != os.getsid(0)
    for descriptor in range(3):
        assert os.readlink(f"/proc/{pid}/fd/{descriptor}") == "/dev/null"


def test_no_secret_shows_in_the_command_line_or_the_environment(errands: Errands) -> None:
    found = errands.run()
    shown = b"".join(
        Path(f"/proc/{found.beacon.pid}/{name}").read_bytes() for name in ("cmdline", "environ")
    )
    if found.credentials is not None:
        assert found.credentials.client_secret.encode() not in shown


@pytest.mark.parametrize("python", modern_pythons())
def test_every_python_can_serve(errands: Errands, python: str) -> None:
    found = errands.run(python=python)

    assert found.started
    assert bool(found.beacon.endpoints) == bool(found.beacon.zmq)
    assert (found.credentials is None) == (not found.beacon.zmq)


def test_a_killed_server_is_replaced_without_a_second_upload(errands: Errands) -> None:
    first = errands.run()
    kill(first.beacon.pid)
    errands.stages()
    second = errands.run()

    assert errands.stages() == ["probe", "launch"]
    assert second.started
    assert second.beacon.pid != first.beacon.pid


def test_a_far_half_that_the_disk_damaged_is_sent_again(errands: Errands) -> None:
    first = errands.run()
    kill(first.beacon.pid)
    far = Path(first.beacon.state_dir) / "far" / build().name
    whole = far.read_bytes()
    far.write_bytes(b"\0" * len(whole))
    errands.stages()
    second = errands.run()

    assert errands.stages() == ["probe", "launch", "upload", "launch"]
    assert second.started
    assert far.read_bytes() == whole


def test_a_launch_that_fails_with_what_was_just_sent_is_not_repeated(errands: Errands) -> None:
    python = errands.head.add_program(
        "python", f'case $* in *serve*) exit 7 ;; esac; exec {sys.executable} "$@"'
    )
    with pytest.raises(LaunchFailed, match="with status 7"):
        errands.run(python=python)
    assert errands.stages() == ["probe", "upload", "launch"]
    with pytest.raises(LaunchFailed, match="with status 7"):
        errands.run(python=python)
    assert errands.stages() == ["probe", "launch", "upload", "launch"]


def test_a_pyzmq_that_used_up_all_time_is_the_error(
    errands: Errands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the launch, for which nothing was left."""
    now = [0.0]

    def provide(*_: object, **__: object) -> NoReturn:
        now[0] += 100
        raise ProvisionFailed("No wheel came in time", step="provision")

    monkeypatch.setattr("smartsim_bridge.bootstrap.ensure.provide", provide)
    python = errands.head.add_python("python", "3.11.2", why="No module named zmq")
    monkeypatch.setattr("smartsim_bridge.bootstrap.ensure.upload", lambda *_, **__: "/s/far/f.pyz")
    with pytest.raises(ProvisionFailed, match="No wheel came in time"):
        errands.run(
            python=python,
            provision=Provision(str(tmp_path)),
            deadline=Deadline(60, clock=lambda: now[0]),
        )


def test_the_server_has_the_umask_of_the_login(errands: Errands) -> None:
    pid = errands.run(prelude="umask 027").beacon.pid

    assert "Umask:\t0027" in Path(f"/proc/{pid}/status").read_text()
    assert {path.stat().st_mode & 0o077 for path in errands.head.state.rglob("*")} == {0}


def test_a_strange_umask_of_the_login_does_not_matter(errands: Errands) -> None:
    found = errands.run(prelude="umask 777")

    assert errands.run().beacon == found.beacon


def test_racing_errands_get_one_server(errands: Errands) -> None:
    with ThreadPoolExecutor(10) as threads:
        founds = list(threads.map(lambda _: errands.run(), range(10)))

    assert len({found.beacon.pid for found in founds}) == 1
    assert len({found.credentials for found in founds}) == 1
    assert [found.started for found in founds].count(True) == 1


def test_a_home_that_cannot_be_written_does_not_stop_us(
    errands: Errands, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(plan_module, "ELSEWHERE", (str(tmp_path / "var"), str(tmp_path / "tmp")))
    found = errands.run(state_dir="/dev/null/state")

    assert found.beacon.state_dir == f"{tmp_path}/var/smartsim-bridge-{os.getuid()}"


def test_finding_changes_nothing(errands: Errands, deadline: Deadline) -> None:
    with pytest.raises(NoServer, match="No command server runs there"):
        find_server(errands.head.host(), deadline=deadline, journey=errands.journey)
    assert list(errands.head.home.iterdir()) == []

    started = errands.run()
    found = find_server(errands.head.host(), deadline=deadline, journey=errands.journey)
    assert found.beacon == started.beacon


def test_a_head_with_an_old_python_only_is_an_error_that_names_it(errands: Errands) -> None:
    old = errands.head.add_python("old", "3.6.8")

    with pytest.raises(NoUsablePython, match=r"old: Python 3\.6\.8"):
        errands.run(python=old)
    assert not errands.head.state.exists()


def test_the_wished_state_directory_is_used(errands: Errands, tmp_path: Path) -> None:
    found = errands.run(state_dir=str(tmp_path / "my state"))

    assert found.beacon.state_dir == str(tmp_path / "my state")
    assert (tmp_path / "my state" / "far" / build().name).exists()
    assert isinstance(found.facts, Facts)


def test_the_representation_of_what_was_found_shows_no_secret(errands: Errands) -> None:
    found = errands.run()

    assert found.credentials is None or found.credentials.client_secret not in repr(found)
