"""A child beside us: signals, ends, and the keys of a terminal."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.command_line import Terminal
from tests.support.heads import is_running
from tests.support.waiting import wait_until

SECONDS = 60.0
_SCRIPT = """
import sys
from smartsim_bridge.child import run_child
from smartsim_bridge.signals import end_like
sys.exit(end_like(run_child(sys.argv[1:])))
"""
PROGRAM = [sys.executable, "-c", _SCRIPT]
# Counts each signal, however close they come.
COUNTING = """
import os, signal, sys, time
heard = []
for name in sys.argv[1:]:
    signal.signal(getattr(signal, name), lambda number, frame: heard.append(number))
print("pid", os.getpid(), flush=True)
while not heard:
    time.sleep(0.01)
time.sleep(0.3)  # for one more, if there is one
print("heard", *heard, flush=True)
sys.exit(7)
"""


def counting(*names: str) -> list[str]:
    return [sys.executable, "-c", COUNTING, *names]


@contextmanager
def running(*words: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """In a session without a terminal; the program and the pid that its child prints."""
    with subprocess.Popen(
        [*PROGRAM, *words], stdout=subprocess.PIPE, start_new_session=True
    ) as ours:
        assert ours.stdout is not None
        try:
            yield ours, int(ours.stdout.readline().split()[-1])
        finally:
            if ours.poll() is None:
                os.killpg(ours.pid, signal.SIGKILL)


def ended(*words: str) -> int:
    return subprocess.run([*PROGRAM, *words], timeout=SECONDS, check=False).returncode


@pytest.mark.parametrize("status", [0, 1, 127, 255])
def test_the_childs_status_is_ours(status: int) -> None:
    assert ended("sh", "-c", f"exit {status}") == status


@pytest.mark.parametrize("name", ["KILL", "TERM", "INT", "SEGV", "PIPE"])
def test_what_ended_the_child_ends_us(name: str) -> None:
    assert ended("sh", "-c", f"kill -{name} $$") == -signal.Signals[f"SIG{name}"]


def test_its_status_is_told_where_whoever_started_us_ignores_children() -> None:
    ignoring = "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN);"
    words = [sys.executable, "-c", ignoring + "os.execv(sys.argv[1], sys.argv[1:])", *PROGRAM]
    done = subprocess.run([*words, "sh", "-c", "exit 5"], timeout=SECONDS, check=False)
    assert done.returncode == 5


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"])
def test_a_signal_to_us_alone_reaches_the_child_once(name: str) -> None:
    with running(*counting(name)) as (ours, _):
        ours.send_signal(getattr(signal, name))
        out, _ = ours.communicate(timeout=SECONDS)
    assert out == b"heard %d\n" % getattr(signal, name)
    assert ours.returncode == 7


def test_a_child_that_was_stopped_by_hand_does_not_stop_us() -> None:
    """Its shims need us when it goes on."""
    with running(*counting("SIGTERM")) as (ours, pid):
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: state_of(pid) == "T")
        os.kill(pid, signal.SIGCONT)
        ours.terminate()
        assert ours.wait(SECONDS) == 7


def test_ctrl_c_reaches_the_child_once_and_us_not() -> None:
    with Terminal(*counting("SIGINT"), program=PROGRAM) as terminal:
        terminal.expect("pid")
        terminal.press_ctrl_c()
        assert terminal.wait() == 7
        assert "heard 2\n" in terminal.shown


def test_what_dies_of_ctrl_c_takes_us_with_it() -> None:
    with Terminal("sh", "-c", "echo pid; exec sleep 600", program=PROGRAM) as terminal:
        terminal.expect("pid")
        terminal.press_ctrl_c()
        assert terminal.wait() == -signal.SIGINT
        assert "Traceback" not in terminal.shown


def test_a_closed_window_ends_both() -> None:
    with Terminal("sh", "-c", "echo pid $$; exec sleep 600", program=PROGRAM) as terminal:
        pid = pid_in(terminal.expect("\n"))
        terminal.close()
        assert terminal.process.wait(SECONDS) == -signal.SIGHUP
    wait_until(lambda: not is_running(pid))


# --- in a shell with job control


@contextmanager
def shell(home: Path) -> Iterator[Terminal]:
    environment = {**os.environ, "PS1": "$ ", "HISTFILE": "", "TERM": "dumb", "HOME": str(home)}
    bash = ["/bin/bash", "--norc", "--noprofile", "-i"]
    with Terminal(program=bash, env=environment) as terminal:
        terminal.expect("$ ")
        yield terminal
        terminal.type("exit\n")
        terminal.wait()


def typed(program: Sequence[str]) -> str:
    return (
        shlex.join([*PROGRAM, *program]).replace(_SCRIPT, _SCRIPT.strip().replace("\n", ";")) + "\n"
    )


def test_ctrl_z_stops_the_job_and_fg_goes_on_with_it(tmp_path: Path) -> None:
    with shell(tmp_path) as terminal:
        terminal.type(typed(["sh", "-c", "echo pi''d $$; read word; echo got $word"]))
        pid = pid_in(terminal.expect("pid "))
        terminal.type("\x1a")
        terminal.expect("Stopped")
        wait_until(lambda: state_of(pid) == "T")
        terminal.type("fg\nhello\n")
        terminal.expect("got hello")


def test_a_shell_as_the_child_has_its_jobs_and_may_be_suspended(tmp_path: Path) -> None:
    inner = ["/bin/bash", "--norc", "--noprofile", "-i"]
    with shell(tmp_path) as terminal:
        terminal.type("PS1='in> ' " + typed(inner))
        terminal.expect("\nin> ")
        # It says so itself: until then the keys are those of the shell.
        terminal.type("sh -c 'echo sle''eps; exec sleep 600'\n")
        terminal.expect("sleeps")
        terminal.press_ctrl_c()
        terminal.type("echo st''ill\n")
        terminal.expect("still")
        terminal.type("suspend\n")
        terminal.expect("Stopped")
        terminal.type("echo ou''ter; fg\n")
        terminal.expect("outer")
        terminal.type("echo ba''ck; exit 3\n")
        terminal.expect("back")
        terminal.type("echo sta''tus $?\n")
        terminal.expect("status 3")


def pid_in(shown: str) -> int:
    (pid,) = re.findall(r"pid (\d+)", shown)
    return int(pid)


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
