"""Links that stall and peers that freeze: nobody says that anything is wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.reliability.ways import SECONDS, TICKING, Links, Way
from tests.support.figures import Figure
from tests.support.waiting import wait_until

NOTICE_SECONDS = 15.0  # what is promised
LATE_SECONDS = 15.0  # ... and how much later a busy machine may be


@pytest.mark.slow
def test_stalled_link_is_noticed_by_both_sides_and_costs_nothing(way: Way, figure: Figure) -> None:
    """Packets vanish, and nobody says so: as with a cable that was pulled, or a firewall."""
    links = Links(way.bridge)
    running = way.bridge.popen(["sh", "-c", TICKING.format(count=250)])
    assert running.stdout is not None
    assert running.stdout.readline() == "1\n"
    way.proxy.stall()
    began = time.monotonic()
    wait_until(lambda: not way.sees(running.id).followed, NOTICE_SECONDS + LATE_SECONDS)
    by_server = time.monotonic() - began
    wait_until(lambda: links.lost, NOTICE_SECONDS + LATE_SECONDS)
    by_client = links.lost[0] - began
    assert way.sees(running.id).state == "running"
    way.proxy.resume()
    assert running.stdout.read().split() == [str(number) for number in range(2, 251)]
    assert running.wait(SECONDS) == 0
    figure(14, noticed_by_client_seconds=by_client, noticed_by_server_seconds=by_server)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [5.0, 20.0], ids=["unnoticed", "noticed"])
def test_frozen_server_goes_on_where_it_was(seconds: float, way: Way, figure: Figure) -> None:
    links = Links(way.bridge)
    running = way.bridge.popen(["sh", "-c", TICKING.format(count=100)])
    assert running.stdout is not None
    assert running.stdout.readline() == "1\n"
    os.kill(way.server_pid, signal.SIGSTOP)
    try:
        thawing = time.monotonic() + seconds
        wait_until(lambda: time.monotonic() > thawing, 2 * seconds)
    finally:
        os.kill(way.server_pid, signal.SIGCONT)
    thawed = time.monotonic()
    assert running.stdout.readline() == "2\n"
    resumed = time.monotonic() - thawed
    assert running.stdout.read().split() == [str(number) for number in range(3, 101)]
    assert running.wait(SECONDS) == 0
    assert bool(links.lost) is (seconds > NOTICE_SECONDS)
    figure(15, server_frozen_seconds=seconds, slowest_after_thaw_seconds=resumed)


READER = """
import sys
from smartsim_bridge import init_command_server
with init_command_server(transport="direct", timeout=20.0) as bridge:
    running = bridge.popen(["sh", "-c", sys.argv[1]])
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
            [sys.executable, "-c", READER, TICKING.format(count=250)], stdout=file
        )
    try:
        wait_until(lambda: len(path.read_text().split()) >= 3, SECONDS)
        client.send_signal(signal.SIGSTOP)
        name = path.read_text().split()[0]
        assert direct.sees(name).followed
        wait_until(lambda: not direct.sees(name).followed, NOTICE_SECONDS + LATE_SECONDS)
        client.send_signal(signal.SIGCONT)
        assert client.wait(SECONDS) == 0
    finally:
        client.kill()
        client.wait()
    numbers = [str(number) for number in range(1, 251)]
    assert path.read_text().split() == [name, *numbers, "status", "0"]
