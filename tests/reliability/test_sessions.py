"""Links that break under commands that do not notice."""

from __future__ import annotations

import hashlib
import random
import statistics
import time
from pathlib import Path
from typing import IO

import pytest

from smartsim_bridge.errors import AuthenticationRequired
from smartsim_bridge.server.spool import OWN_MEMORY, SEGMENT
from tests.reliability.ways import SECONDS, TICKING, Links, Way
from tests.support.altered_server import alter_server
from tests.support.amounts import Amount
from tests.support.figures import Figure
from tests.support.flaky_proxy import (
    TO_CLIENT,
    TO_SERVER,
    FlakyProxy,
    through_proxy,
)
from tests.support.heads import MakeHead
from tests.support.waiting import wait_until

KIB, MIB = 1024, 1024 * 1024
LINES = 1_000_000
TAIL = "of a million, none of them lost and none of them said twice"
CUTS = 100
TUNNEL_SHARE = 4  # of all that, where each way back is a login; the whole of it in long runs
INPUT_CUTS = 20
WAY_BACK_BYTES = {"direct": 1000, "tunnel": 10_000}  # about as many as it takes

# Prints the lines, and what it felt of the network: its pid, and the signals that it got.
FELT = "for each in HUP INT QUIT PIPE ALRM TERM USR1 USR2 CONT; do trap 'echo got a signal' $each; "
PRINT = f"{FELT} done >&2; seq -f '%.0f {TAIL}' {{lines}}; echo $? $$ >&2"


def _chance() -> random.Random:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    return random.Random(seed)


def _read_all(stream: IO[bytes] | None) -> tuple[bytes, list[float]]:
    """What comes, and when each piece of it came."""
    assert stream is not None
    pieces: list[bytes] = []
    came: list[float] = []
    while True:
        piece = stream.read1(64 * KIB)  # type: ignore[attr-defined]
        if not piece:
            return b"".join(pieces), came
        pieces.append(piece)
        came.append(time.monotonic())


def _difference(wanted: bytes, got: bytes) -> str:
    pairs = enumerate(zip(wanted, got))
    at = next((place for place, (one, other) in pairs if one != other), "the end")
    return f"{len(got)} bytes of {len(wanted)}, different from {at} on"


# --- cuts ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_million_lines_survive_a_hundred_cuts(way: Way, amount: Amount, figure: Figure) -> None:
    chance = _chance()
    links = Links(way.bridge)
    name = way.bridge.status().transport
    share = 1 if name == "direct" else amount(TUNNEL_SHARE, soak=1)
    lines, cuts = LINES // share, CUTS // share
    running = way.bridge.popen(["sh", "-c", PRINT.format(lines=lines)], text=False)
    pid = running.pid
    way.proxy.cut_often(chance, 1, 700 * KIB, TO_CLIENT, times=cuts)
    got, came = _read_all(running.stdout)
    wanted = "".join(f"{number} {TAIL}\n" for number in range(1, lines + 1)).encode()
    assert got == wanted, _difference(wanted, got)
    assert way.proxy.cuts == cuts
    assert running.stderr is not None
    assert running.stderr.read().decode() == f"0 {pid}\n"  # no signal, and the status of seq
    assert (running.wait(SECONDS), running.pid) == (0, pid)
    resumed = links.until_bytes(came)
    assert max(resumed) < SECONDS
    reached = {
        f"{name}_slowest_resume_seconds": max(resumed),
        f"{name}_median_resume_seconds": statistics.median(resumed),
    }
    figure(13, cuts=cuts, lines=lines, lost=0, doubled=0, **reached)


@pytest.mark.slow
def test_input_survives_twenty_cuts(way: Way, figure: Figure) -> None:
    chance = _chance()
    data = chance.randbytes(24 * MIB)
    running = way.bridge.popen(["sha256sum"], text=False)
    pid = running.pid
    way.proxy.cut_often(chance, 1, 2 * 600 * KIB, TO_SERVER, times=INPUT_CUTS)
    assert running.stdin is not None
    for start in range(0, len(data), 100_000):
        running.stdin.write(data[start : start + 100_000])
    out, err = running.communicate(timeout=SECONDS)
    assert (out.split()[0].decode(), err) == (hashlib.sha256(data).hexdigest(), b"")
    assert way.proxy.cuts == INPUT_CUTS
    assert (running.returncode, running.pid) == (0, pid)
    figure(13, input_cuts=INPUT_CUTS, input_mib=len(data) // MIB)


@pytest.mark.slow
@pytest.mark.parametrize("direction", [TO_CLIENT, TO_SERVER])
def test_way_back_that_breaks_at_any_byte_is_tried_again(
    direction: str, way: Way, amount: Amount, figure: Figure
) -> None:
    """In the middle of a login, of a look for the server, of a greeting: none is the last word."""
    chance, times = _chance(), amount(10, soak=60)
    longest = 0.0
    for number in range(times):
        last = chance.randint(1, WAY_BACK_BYTES[way.bridge.status().transport])
        way.proxy.cut_after(last, direction)
        way.proxy.cut()
        began = time.monotonic()
        assert way.bridge.run(["echo", str(number)]).stdout == f"{number}\n", last
        longest = max(longest, time.monotonic() - began)
    way.proxy.cut_no_more()
    assert way.proxy.cuts > times
    figure(13, broken_ways_back=way.proxy.cuts - times, slowest_way_back_seconds=longest)


# --- nobody reads -------------------------------------------------------------------------


@pytest.fixture
def small_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    quota = 12 * MIB
    alter_server(
        monkeypatch,
        tmp_path,
        "from smartsim_bridge.server import spool",
        f"spool.STREAM_QUOTA = {quota}",
    )
    return quota


@pytest.mark.slow
def test_output_that_nobody_reads_is_spooled_and_then_its_producer_waits_and_it_is_told(
    small_quota: int, direct: Way, figure: Figure
) -> None:
    lines = 3_000_000  # 23 MB
    running = direct.bridge.popen(["seq", str(lines)], text=False)
    direct.proxy.refuse()
    direct.proxy.cut()
    wait_until(lambda: direct.sees(running.id).note, SECONDS)
    told = direct.sees(running.id)
    assert (told.state, told.followed) == ("running", False)
    assert told.note == f"paused: its spool of {small_quota // MIB} MiB is full"
    assert small_quota <= told.stdout < small_quota + SEGMENT
    spooled = sum(path.stat().st_size for path in direct.state_dir.glob("spool/**/*.spool"))
    assert spooled >= small_quota - OWN_MEMORY
    direct.proxy.welcome()
    wanted = "".join(f"{number}\n" for number in range(1, lines + 1)).encode()
    got, _ = _read_all(running.stdout)
    assert got == wanted, _difference(wanted, got)
    assert running.wait(SECONDS) == 0
    figure(15, spooled_mib=spooled / MIB)


# --- a login that needs the user ----------------------------------------------------------


@pytest.mark.slow
@pytest.mark.sshd
@pytest.mark.root
def test_password_is_asked_for_again_only_when_the_user_says_so(
    make_head: MakeHead, figure: Figure
) -> None:
    head = make_head("PubkeyAuthentication no", "PasswordAuthentication yes")
    password = head.sshd.user.known_password()
    asked: list[str] = []

    def ask(prompt: str, secret: bool) -> str:
        asked.append(prompt)
        return password

    with FlakyProxy((head.sshd.host, head.sshd.port)) as proxy:
        config = str(through_proxy(head.sshd, proxy))
        bridge = head.init(autostart=True, ssh_config=config, transport="tunnel", ask=ask)
        running = bridge.popen(["sh", "-c", TICKING.format(count=40)], keep=True)
        assert running.stdout is not None
        assert running.stdout.readline() == "1\n"
        assert (len(asked), proxy.connections) == (1, 1)
        began = time.monotonic()
        proxy.cut()
        with pytest.raises(AuthenticationRequired):
            running.wait(SECONDS)
        told = time.monotonic() - began
        # Nor does who asks now: each attempt would count as a failed one with the host.
        with pytest.raises(AuthenticationRequired):
            bridge.run(["true"])
        with pytest.raises(AuthenticationRequired):
            bridge.commands()
        assert (len(asked), proxy.connections) == (1, 2)
        assert "Failed password" not in head.sshd.log
        bridge.reconnect()
        assert (len(asked), proxy.connections) == (2, 3)
        assert bridge.run(["echo", "here"]).stdout == "here\n"
        again = bridge.attach(running.id)
        assert again.pid == running.pid
        assert again.stdout is not None
        assert again.stdout.read().split() == [str(number) for number in range(1, 41)]
        assert again.wait(SECONDS) == 0
        assert len(asked) == 2
    figure(13, told_that_a_login_is_needed_seconds=told)
