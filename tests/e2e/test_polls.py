"""Many clients of one server that ask the scheduler the same: how often it is asked."""

from __future__ import annotations

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from smartsim_bridge import Bridge
from smartsim_bridge.errors import InvalidSettings
from tests.support.heads import MakeHead
from tests.support.local_server import LocalServer, MakeLocalServer
from tests.support.waiting import wait_until

CLIENTS = 100


class Squeue:
    """One that counts its runs, and answers once it may."""

    def __init__(self, directory: Path) -> None:
        self.path, self._runs, self._go = (directory / name for name in ("squeue", "runs", "go"))
        wait = f"while [ ! -e {self._go} ]; do sleep 0.02; done"
        self.path.write_text(f"#!/bin/sh\necho $$ >> {self._runs}\n{wait}\necho no jobs\n")
        self.path.chmod(0o700)

    def go(self) -> None:
        self._go.touch()

    @property
    def runs(self) -> int:
        return len(self._runs.read_text().split()) if self._runs.exists() else 0


@pytest.fixture
def squeue(tmp_path: Path) -> Squeue:
    return Squeue(tmp_path)


def test_a_hundred_clients_at_once_cost_the_scheduler_one_run(
    local_server: LocalServer, squeue: Squeue
) -> None:
    with ThreadPoolExecutor(CLIENTS) as pool:
        bridges = list(pool.map(lambda _: local_server.init(), range(CLIENTS)))
        asked = [pool.submit(one.run, [str(squeue.path)], timeout=60) for one in bridges]
        wait_until(lambda: bridges[0].status().running == CLIENTS, 60)
        squeue.go()
        for answer in asked:
            assert answer.result().stdout == "no jobs\n"
    status = bridges[0].status()
    assert (status.polls, status.joined, squeue.runs) == (CLIENTS, CLIENTS - 1, 1)


def test_a_poll_whose_link_is_lost_is_asked_once_all_the_same(
    local_server: LocalServer, squeue: Squeue
) -> None:
    """Said again it is the command that it was, and not one more that joins."""
    bridge, other = (local_server.init() for _ in range(2))
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(one.run, [str(squeue.path)], timeout=60) for one in (bridge, other)]
        wait_until(lambda: other.status().running == 2)
        cut(bridge)
        wait_until(lambda: bridge.status().reconnects == 1)
        squeue.go()
        assert [answer.result().stdout for answer in asked] == ["no jobs\n"] * 2
    assert (other.status().polls, squeue.runs) == (2, 1)


def cut(bridge: Bridge) -> None:
    link = bridge._bridge._session.talk.link
    bridge._portal.call(link.close())


def test_an_answer_is_kept_where_the_server_was_told_so_and_its_age_is_shown(
    make_local_server: MakeLocalServer, squeue: Squeue
) -> None:
    squeue.go()
    server = make_local_server("--port", "0", "--poll-cache", "60", "--audit")
    bridge = server.init()
    ask = [str(squeue.path)]
    assert bridge.run(ask).stdout == bridge.run(ask).stdout == "no jobs\n"
    again = bridge.popen(ask, stdin=subprocess.DEVNULL)
    assert again.communicate(timeout=60) == ("no jobs\n", "")
    assert (squeue.runs, bridge.status().poll_cache) == (1, 60.0)
    assert "may be 60 s old" in str(bridge.status())
    assert 0 < again.age < 60
    audit = next((server.state_dir / "logs").glob("*.audit")).read_text().splitlines()
    lines = [json.loads(line) for line in audit]
    starts = [line for line in lines if line["event"] == "start" and line["argv"] == ask]
    assert ["age" in line for line in starts] == [False, True, True]
    assert len({line["pid"] for line in starts}) == 1
    bridge.run(["true"])
    assert bridge.run(ask).stdout == "no jobs\n"
    assert squeue.runs == 2


@pytest.mark.sshd
def test_a_client_that_starts_the_server_says_how_old_answers_may_be(make_head: MakeHead) -> None:
    bridge = make_head().init(autostart=True, poll_cache=2.5)
    assert bridge.status().poll_cache == 2.5


@pytest.mark.parametrize("seconds", [-1, 61, float("nan")])
def test_an_answer_older_than_a_minute_helps_nobody(
    local_server: LocalServer, seconds: float
) -> None:
    with pytest.raises(InvalidSettings, match="poll_cache"):
        local_server.init(poll_cache=seconds)
