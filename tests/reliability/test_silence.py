"""Links that stall and peers that freeze: nobody says that anything is wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.reliability.ways import SECONDS, Links, Way, numbers_up_to_last, ticking_until
from tests.support.figures import Figure
from tests.support.waiting import wait_until

NOTICE_SECONDS = 15.0  # what is promised
LATE_SECONDS = 45.0  # ... and how much later a busy machine may be
UNNOTICED_SECONDS = 5.0


def _goes_on(way: Way, command: str) -> None:
    """Waits until it has said more, though nobody follows it."""
    unread = way.sees(command)
    assert (unread.state, unread.followed) == ("running", False)
    wait_until(lambda: way.sees(command).stdout > unread.stdout, SECONDS)


@pytest.mark.slow
def test_stalled_link_is_noticed_by_both_sides_and_costs_nothing(way: Way, figure: Figure) -> None:
    """Packets vanish, and nobody says so: as with a cable that was pulled, or a firewall."""
    links = Links(way.bridge)
    running = way.bridge.popen(ticking_until(way.end))
    assert running.stdout is not None
    assert running.stdout.readline() == "1\n"
    way.proxy.stall()
    began = time.monotonic()
    wait_until(lambda: not way.sees(running.id).followed, NOTICE_SECONDS + LATE_SECONDS)
    by_server = time.monotonic() - began
    wait_until(lambda: links.lost, NOTICE_SECONDS + LATE_SECONDS)
    by_client = links.lost[0] - began
    _goes_on(way, running.id)
    way.end.touch()
    way.proxy.resume()
    said = running.stdout.read().split()
    assert said == numbers_up_to_last(said, first=2)
    assert running.wait(SECONDS) == 0
    figure(14, noticed_by_client_seconds=by_client, noticed_by_server_seconds=by_server)


@pytest.mark.slow
@pytest.mark.parametrize("is_noticed", [False, True], ids=["unnoticed", "noticed"])
def test_frozen_server_goes_on_where_it_was(is_noticed: bool, way: Way, figure: Figure) -> None:
    links = Links(way.bridge)
    running = way.bridge.popen(ticking_until(way.end))
    assert running.stdout is not None
    assert running.stdout.readline() == "1\n"
    froze = time.monotonic()
    os.kill(way.server_pid, signal.SIGSTOP)
    try:
        if is_noticed:
            wait_until(lambda: links.lost, NOTICE_SECONDS + LATE_SECONDS)
        else:
            wait_until(lambda: time.monotonic() > froze + UNNOTICED_SECONDS, NOTICE_SECONDS)
    finally:
        os.kill(way.server_pid, signal.SIGCONT)
    thawed = time.monotonic()
    assert running.stdout.readline() == "2\n"
    resumed = time.monotonic() - thawed
    way.end.touch()
    said = running.stdout.read().split()
    assert said == numbers_up_to_last(said, first=3)
    assert running.wait(SECONDS) == 0
    assert bool(links.lost) is is_noticed
    figure(15, server_frozen_seconds=thawed - froze, slowest_after_thaw_seconds=resumed)


READER = """
import sys
from smartsim_bridge import init_command_server
with init_command_server(transport="direct", timeout=60.0) as bridge:
    running = bridge.popen(sys.argv[1:])
    print(running.id, flush=True)
    for line in running.stdout:
        print(line, end="", flush=True)
    print("status", running.wait())
"""


@pytest.mark.slow
def test_frozen_client_reads_on_to_the_last_byte(direct: Way, tmp_path: Path) -> None:
    path = tmp_path / "read"
    with path.open("wb") as file:
        client = subprocess.Popen(
            [sys.executable, "-c", READER, *ticking_until(direct.end)], stdout=file
        )
    try:
        wait_until(lambda: len(path.read_text().split()) >= 3, SECONDS)
        client.send_signal(signal.SIGSTOP)
        name = path.read_text().split()[0]
        wait_until(lambda: not direct.sees(name).followed, NOTICE_SECONDS + LATE_SECONDS)
        _goes_on(direct, name)
        direct.end.touch()
        client.send_signal(signal.SIGCONT)
        assert client.wait(SECONDS) == 0
    finally:
        client.kill()
        client.wait()
    first, *numbers, word, status = path.read_text().split()
    assert (first, word, status) == (name, "status", "0")
    assert numbers == numbers_up_to_last(numbers)
