"""Signals as a queue, and as an end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from smartsim_bridge.signals import PASSED_ON, TOGETHER_SECONDS, Bell, Interrupts, end_like

SECONDS = 60.0


@pytest.mark.parametrize("name", PASSED_ON)
def test_each_signal_rings(name: str) -> None:
    number = getattr(signal, name)
    with Bell() as bell:
        os.kill(os.getpid(), number)
        assert bell.wait(SECONDS) == number


def test_signals_are_queued_in_order() -> None:
    with Bell() as bell:
        for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
            signal.raise_signal(number)
        rung = [bell.wait(SECONDS) for _ in range(4)]
    assert rung == [signal.SIGUSR1, signal.SIGTERM, signal.SIGUSR1, signal.SIGINT]


def test_a_busy_main_thread_misses_none() -> None:
    """A handler in Python would run once for all that came while one call did not return."""
    # The kernel keeps one of a kind: the next is sent when the last has been handed over.
    taken = "while grep -q '^ShdPnd:.*[2367abef]$' /proc/$0/status; do :; done"
    script = f"kill -INT $0; {taken}; kill -INT $0; {taken}; kill -INT $0"
    with Bell() as bell:
        # One call of the C library, which waits for the shell, and starts again when interrupted.
        subprocess.run(["sh", "-c", script, str(os.getpid())], check=True, timeout=SECONDS)
        assert [bell.wait(SECONDS) for _ in range(3)] == [signal.SIGINT] * 3
        assert bell.wait(0) is None


def test_other_threads_ring_too() -> None:
    with Bell() as bell:
        ringing = threading.Thread(target=lambda: bell.ring(200))
        ringing.start()
        assert bell.wait(SECONDS) == 200
        ringing.join(SECONDS)


def test_a_bell_that_rings_too_often_never_waits() -> None:
    with Bell() as bell:
        for _ in range(1_000_000):
            bell.ring(200)
        assert bell.wait(SECONDS) == 200
    bell.ring(200)


def test_waiting_ends_when_time_is_up() -> None:
    with Bell() as bell:
        assert bell.wait(0) is None
        assert bell.wait(0.01) is None


def test_afterwards_everything_is_as_before() -> None:
    def ours(number: int, frame: object) -> None:
        raise AssertionError

    former = signal.signal(signal.SIGUSR2, ours)
    try:
        before = signal.getsignal(signal.SIGINT)
        with Bell():
            assert signal.getsignal(signal.SIGINT) is not before
        assert signal.getsignal(signal.SIGINT) is before
        assert signal.getsignal(signal.SIGUSR2) is ours
        assert signal.set_wakeup_fd(-1) == -1
    finally:
        signal.signal(signal.SIGUSR2, former)


def test_what_is_ignored_stays_ignored() -> None:
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Bell() as bell:
            signal.raise_signal(signal.SIGHUP)
            assert bell.wait(0) is None
    finally:
        signal.signal(signal.SIGHUP, former)


def test_interrupts_count_together_and_begin_anew() -> None:
    now = [100.0]
    interrupts = Interrupts(lambda: now[0])
    assert [interrupts.another() for _ in range(4)] == [1, 2, 3, 4]
    now[0] += TOGETHER_SECONDS
    assert interrupts.another() == 5
    now[0] += TOGETHER_SECONDS + 0.1
    assert interrupts.another() == 1


# --- the end


@pytest.mark.parametrize("status", [0, 1, 255])
def test_an_exit_status_stays_one(status: int) -> None:
    assert end_like(status) == status


def ended(number: int, before: str = "") -> int:
    script = f"{before}\nimport sys\nfrom smartsim_bridge.signals import end_like\n"
    script += f"sys.exit(end_like(-{number}))"
    return subprocess.run([sys.executable, "-c", script], timeout=SECONDS, check=False).returncode


@pytest.mark.parametrize("number", [1, 2, 3, 6, 9, 11, 13, 15, 34, 64])
def test_a_signal_ends_us_as_well(number: int) -> None:
    assert ended(number) == -number


@pytest.mark.parametrize("number", [15, 2])
def test_so_it_does_where_it_is_ignored_or_blocked(number: int) -> None:
    ignored = f"import signal; signal.signal({number}, signal.SIG_IGN)"
    blocked = f"import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [{number}])"
    assert ended(number, ignored) == -number
    assert ended(number, blocked) == -number


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGTSTP, signal.SIGCHLD, 100])
def test_a_signal_that_ends_nobody_here_is_128_and_its_number(number: int) -> None:
    """Another system may number them differently."""
    assert ended(number) == 128 + number
