"""What the demo does with a bridge, act by act, through the public API only.

Each act shows something and checks it: a demo that shows a wrong number must fail.
"""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING

from ..errors import CommandServerError
from .screen import Screen

if TYPE_CHECKING:
    from smartsim_bridge import Bridge, Rung

__all__ = ["act_at_once", "act_failures", "act_speed", "act_status", "act_streaming"]

AT_ONCE, NAP = 8, 0.5
# A loaded machine may be slow, but not so slow that half of them ran one after another.
AT_ONCE_LIMIT = AT_ONCE * NAP / 2
LINES, PAUSE = 5, 0.2
HELD_SECONDS = 30  # for lines to arrive that the command has printed
ROUND_TRIPS = 50
FRESH_LOGINS = 3


def act_at_once(bridge: Bridge, screen: Screen) -> None:
    """Several commands at the same time, from threads."""
    screen.heading(f"Several commands at once: {AT_ONCE} times `sleep {NAP}`")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        began = time.monotonic()
        done = list(pool.map(lambda _: bridge.run(["sleep", str(NAP)]), range(AT_ONCE)))
        took = time.monotonic() - began
    screen.show("all together", f"{took:.2f} s", good=took < AT_ONCE_LIMIT)
    screen.show("one by one", f"{AT_ONCE * NAP:.2f} s it would have been")
    _expect(all(each.returncode == 0 for each in done), "a `sleep` failed")
    _expect(took < AT_ONCE_LIMIT, f"{AT_ONCE} commands took {took:.1f} s: one waited for another")


def act_streaming(bridge: Bridge, screen: Screen) -> None:
    """Output arrives while the command still runs: it ends when all of it was seen here."""
    screen.heading("Output, as it comes")
    steps = f"for i in $(seq {LINES}); do echo step $i of {LINES}; sleep {PAUSE}; done"
    began = time.monotonic()
    seen = 0
    with bridge.popen(["sh", "-c", f"{steps}; exec timeout {HELD_SECONDS} cat"]) as command:
        assert command.stdout is not None
        for line in islice(command.stdout, LINES):
            screen.show(f"{time.monotonic() - began:.2f} s", _text(line).rstrip())
            seen += 1
    _expect(seen == LINES, f"{seen} lines arrived, not {LINES}")
    _expect(command.returncode == 0, "the lines arrived when the command had ended")


def act_failures(bridge: Bridge, screen: Screen) -> None:
    """What goes wrong is told as subprocess tells it."""
    screen.heading("What goes wrong, told as subprocess tells it")
    failed = bridge.run(["sh", "-c", "echo 'no such partition: gpuu' >&2; exit 3"])
    _compare(screen, "fails", f"returncode {failed.returncode}, {failed.stderr.strip()!r}",
             "returncode 3, 'no such partition: gpuu'")  # fmt: skip
    with bridge.popen(["sleep", "60"]) as command:
        command.terminate()
        command.communicate()
    _compare(screen, "is terminated", f"returncode {command.returncode}", "returncode -15")
    _compare(screen, "is not there", _raised(lambda: bridge.run(["sbatchh"])), "FileNotFoundError")
    slow = _raised(lambda: bridge.run(["sleep", "60"], timeout=0.2))
    _compare(screen, "takes too long", slow, "TimeoutExpired")


def act_speed(bridge: Bridge, screen: Screen, log_in: Callable[[], object] | None) -> None:
    """The round trip of one command, beside a login of its own for each."""
    screen.heading("The price of one command, `true`")
    bridge_ms = _median_ms(lambda: bridge.run(["true"], check=True), ROUND_TRIPS)
    screen.show("bridge.run", f"{bridge_ms:6.1f} ms  median of {ROUND_TRIPS}", good=True)
    if log_in is not None:
        login_ms = _median_ms(log_in, FRESH_LOGINS)
        screen.show("ssh HOST true", f"{login_ms:6.1f} ms  median of {FRESH_LOGINS}")


def act_status(bridge: Bridge, screen: Screen) -> None:
    """How the head was reached, and why not in another way."""
    screen.heading("bridge.status()")
    status = bridge.status()
    screen.show("transport", status.transport)
    server = f"pid {status.server_pid} on {status.server_host}, version {status.version}"
    screen.show("server", f"{server}, {'started by us' if status.started else 'it ran already'}")
    for rung in status.rungs:
        screen.show(f"rung {rung.name}", _outcome(rung), good=True if rung.held else None)


def _outcome(rung: Rung) -> str:
    if rung.held:
        return f"held after {rung.seconds:.3f} s"
    return rung.reason if rung.tried else f"not tried: {rung.reason}"


def _text(line: str | bytes) -> str:
    return line if isinstance(line, str) else line.decode(errors="replace")


def _raised(call: Callable[[], object]) -> str:
    try:
        call()
    except (FileNotFoundError, subprocess.TimeoutExpired) as expected:
        return type(expected).__name__
    return "nothing raised"


def _compare(screen: Screen, name: str, outcome: str, expected: str) -> None:
    screen.show(name, outcome, good=outcome == expected)
    _expect(outcome == expected, f"a command that {name} gave {outcome}, not {expected}")


def _median_ms(call: Callable[[], object], times: int) -> float:
    took = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        took.append(time.perf_counter() - began)
    return statistics.median(took) * 1000


def _expect(condition: bool, otherwise: str) -> None:
    if not condition:
        raise CommandServerError(
            f"The demo saw something else than it should: {otherwise}",
            step="demo",
            advice="Please report this, with the whole output.",
        )
