"""Installed shims, and the agent that serves them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from smartsim_bridge.agent import starter
from smartsim_bridge.agent.installation import Installation
from tests.support.heads import is_running
from tests.support.waiting import wait_until

from .installed import SECONDS, Installed


def test_the_first_shim_starts_an_agent_and_the_next_finds_it(installed: Installed) -> None:
    assert installed.agent() is None
    first = installed.call("a b", "c")
    assert (first.stdout, first.stderr, first.returncode) == ("head: a b c\n", "", 0)
    agent = installed.agent()
    assert agent is not None
    assert installed.call("fail").returncode == 7
    assert installed.agent() == agent


def test_the_agent_holds_nothing_of_the_shim_that_started_it(installed: Installed) -> None:
    """`$(squeue)` must end with squeue."""
    installed.call()  # returns though stdout and stderr are pipes
    agent = installed.agent()
    assert agent is not None
    assert os.getsid(agent.pid) == agent.pid
    assert os.readlink(f"/proc/{agent.pid}/cwd") == "/"
    assert os.readlink(f"/proc/{agent.pid}/fd/0") == "/dev/null"


def test_two_shims_at_once_start_one_agent(installed: Installed) -> None:
    shims = [
        subprocess.Popen(
            installed.words(str(number)),
            env=installed.environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    said = [shim.communicate(timeout=SECONDS)[0] for shim in shims]
    assert said == [f"head: {number}\n" for number in range(4)]
    log = Path(Installation.read(installed.folder).place.log).read_text()
    assert log.count("serves shims") == 1


def test_an_agent_that_was_killed_is_replaced(installed: Installed) -> None:
    installed.call()
    before = installed.agent()
    assert before is not None
    os.kill(before.pid, signal.SIGKILL)
    wait_until(lambda: installed.agent() is None)
    assert os.path.lexists(Installation.read(installed.folder).place.socket)
    assert installed.call("again").stdout == "head: again\n"
    after = installed.agent()
    assert after is not None
    assert after.pid != before.pid


def test_one_that_hangs_on_its_way_is_replaced(installed: Installed) -> None:
    """Its starter was interrupted, and it listens to nobody."""
    installed.call()  # makes the place
    place = Installation.read(installed.folder).place
    assert installed.cli("stop").returncode == 0
    hanging = """
import sys, time
from smartsim_bridge.agent.place import Place, State
import os
place = Place(sys.argv[1])
with place.held() as held:
    place.write(held, State(os.getpid(), "1", "login1"))
    time.sleep(600)
"""
    words = [sys.executable, "-c", hanging, place.directory]
    with subprocess.Popen(words) as process:
        wait_until(lambda: place.state() is not None)
        assert f"pid {process.pid}, version 1, on its way" in installed.cli("list").stdout.decode()
        assert installed.call("a").stdout == "head: a\n"
        assert process.wait(SECONDS) == -signal.SIGHUP


def test_an_idle_agent_ends_and_leaves_nothing_that_shims_would_try(installed: Installed) -> None:
    installed.install("--idle", "0.005")
    installed.call()
    wait_until(lambda: installed.agent() is None)
    place = Installation.read(installed.folder).place
    assert not os.path.lexists(place.socket)
    wait_until(lambda: os.listdir(os.path.join(place.directory, "rooms")) == [])
    assert "idle for 0 s" in Path(place.log).read_text()
    assert installed.call("again").stdout == "head: again\n"


def test_an_agent_with_a_shim_is_not_idle(installed: Installed, tmp_path: Path) -> None:
    installed.install("--idle", "0.005")
    with waiting(installed, tmp_path / "go") as shim:
        agent = installed.agent()
        assert agent is not None
        installed.call()  # long after it would have been idle
        assert installed.agent() == agent
        (tmp_path / "go").touch()
        assert shim.communicate(timeout=SECONDS)[0].endswith("waited\n")


def test_an_agent_waits_for_the_shim_that_it_was_started_for(
    installed: Installed, tmp_path: Path
) -> None:
    """On a busy host that comes later than the agent would have been idle."""
    installed.install("--idle", "0.005")
    assert installed.cli("start").returncode == 0
    agent = installed.agent()
    assert agent is not None
    wait_until(lambda: time.time() > agent.since + 1.0)
    with waiting(installed, tmp_path / "go"):
        assert installed.agent() == agent


def test_one_that_nobody_finds_any_more_retires(installed: Installed, tmp_path: Path) -> None:
    """Whatever empties /tmp takes its files away."""
    installed.install("--idle", "0.005")
    with waiting(installed, tmp_path / "go") as shim:
        before = installed.agent()
        assert before is not None
        log = Path(f"/proc/{before.pid}/fd/1")
        shutil.rmtree(Installation.read(installed.folder).place.directory)
        wait_until(lambda: "its place was removed" in log.read_text())
        assert installed.call("again").stdout == "head: again\n"
        (tmp_path / "go").touch()
        assert shim.communicate(timeout=SECONDS)[0].endswith("waited\n")
    wait_until(lambda: not is_running(before.pid))


def test_one_that_retires_serves_its_last_shim_beside_its_successor(
    installed: Installed, tmp_path: Path
) -> None:
    with waiting(installed, tmp_path / "go") as shim:
        before = installed.agent()
        assert before is not None
        Installation.read(installed.folder).place.retire()
        assert is_running(before.pid)
        assert installed.call("again").stdout == "head: again\n"
        after = installed.agent()
        assert after is not None
        assert after.pid != before.pid
        (tmp_path / "go").touch()
        assert shim.communicate(timeout=SECONDS)[0].endswith("waited\n")
    wait_until(lambda: not is_running(before.pid))


def test_one_of_another_version_is_replaced(
    installed: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed.call()
    before = installed.agent()
    assert before is not None
    monkeypatch.setattr(starter, "__version__", "9.9")
    starter.ensure_agent(Installation.read(installed.folder))
    wait_until(lambda: not is_running(before.pid))
    assert installed.agent() is not None


def test_stop_ends_the_agent_and_tells_its_shims(installed: Installed, tmp_path: Path) -> None:
    with waiting(installed, tmp_path / "go") as shim:
        agent = installed.agent()
        assert agent is not None
        assert installed.cli("stop").stdout == f"agent {agent.pid} ended\n".encode()
        assert shim.wait(SECONDS) == 255
    assert installed.cli("stop").stdout == b"no agent runs on this host\n"


def test_list_tells_how_it_is(installed: Installed) -> None:
    assert b"none on this host" in installed.cli("list").stdout
    assert installed.cli("start").returncode == 0
    said = installed.cli("list").stdout.decode()
    agent = installed.agent()
    assert agent is not None
    assert re.search(rf"^agent     pid {agent.pid}, version .*, linked to ", said, re.MULTILINE)
    assert re.search(rf"^folder    {installed.folder}$", said, re.MULTILINE)
    assert re.search(r"^commands  squeue$", said, re.MULTILINE)


def test_remove_leaves_neither_folder_nor_agent(installed: Installed) -> None:
    installed.call()
    place = Installation.read(installed.folder).place
    assert installed.cli("remove").returncode == 0
    assert not installed.folder.exists()
    assert place.state() is None
    assert not Path(place.directory).exists()
    again = installed.cli("remove")
    assert again.returncode == 255
    assert b"shims install" in again.stderr


def test_a_real_command_further_down_the_path_is_taken(
    installed: Installed, tmp_path: Path
) -> None:
    real = tmp_path / "real"
    real.mkdir()
    (real / "squeue").write_text("#!/bin/sh\necho real $*\n", "utf-8")
    (real / "squeue").chmod(0o755)
    done = installed.call("a", env=installed.environment(PATH=f"{installed.folder}:{real}"))
    assert done.stdout == "real a\n"
    assert installed.agent() is None


def test_where_no_agent_can_start_all_shims_say_so_in_seconds(installed: Installed) -> None:
    said = installed.folder / ".agent.json"
    wrong = '"wishes": {"transport": "tunnel", "addr": "nowhere.invalid",'
    said.write_text(said.read_text().replace('"wishes": {', wrong))
    shims = [
        subprocess.Popen(
            installed.words(), env=installed.environment(), stderr=subprocess.PIPE, text=True
        )
        for _ in range(8)
    ]
    errors = {shim.communicate(timeout=SECONDS)[1] for shim in shims}
    assert {shim.returncode for shim in shims} == {255}
    (error,) = errors  # those who waited do not try one by one
    assert "No agent: " in error
    assert "nowhere.invalid" in error
    assert "Traceback" not in error


class waiting:  # noqa: N801 - reads as a verb
    """A shim whose command waits for the file `go`."""

    def __init__(self, installed: Installed, go: Path) -> None:
        self._go = go
        self._shim = subprocess.Popen(
            installed.words("wait", str(go)),
            env=installed.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def __enter__(self) -> subprocess.Popen[str]:
        wait_until(Path(f"{self._go}.began").exists, SECONDS)
        return self._shim

    def __exit__(self, *about: object) -> None:
        self._go.touch()
        if self._shim.poll() is None:
            self._shim.kill()
        self._shim.communicate()
