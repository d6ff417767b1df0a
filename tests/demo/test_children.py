"""Processes are reaped by one thread, and all ended at the end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Its reaper waits for every child of the process it runs in, and would take those of other
# tests: so it gets a process of its own, and tells what it saw.
OPENING = """
import sys
from pathlib import Path
from smartsim_bridge.demo.children import Children, adopt_orphans
def start(children, script):
    return children.start(["/bin/sh", "-c", script], cwd=Path("/"), env={"PATH": "/usr/bin:/bin"})
children = Children()
"""


def outcome(program: str) -> str:
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", OPENING + program],
        env={**os.environ, "PYTHONPATH": root},
        stdout=subprocess.PIPE,
        timeout=60,
        check=True,
        text=True,
    )
    return done.stdout


def test_exit_codes_and_signals_are_told_apart() -> None:
    assert (
        outcome("print([start(children, s).wait() for s in ('exit 0', 'exit 255', 'kill -9 $$')])")
        == "[0, 255, -9]\n"
    )


def test_many_quick_children_are_all_noticed() -> None:
    assert (
        outcome(
            "from concurrent.futures import ThreadPoolExecutor\n"
            "with ThreadPoolExecutor(8) as pool:\n"
            "    codes = pool.map(lambda n: start(children, f'exit {n}').wait(), range(200))\n"
            "print(list(codes) == list(range(200)))"
        )
        == "True\n"
    )


def test_missing_program_raises_and_the_next_one_runs() -> None:
    assert (
        outcome(
            "try:\n"
            "    children.start(['/nonexistent'], cwd=Path('/'), env={})\n"
            "except FileNotFoundError as error:\n"
            "    print(error.filename)\n"
            "print(start(children, 'exit 3').wait())"
        )
        == "/nonexistent\n3\n"
    )


def test_child_that_ends_by_itself_in_time_is_not_named() -> None:
    assert (
        outcome(
            "child = start(children, 'read line')\n"
            "child.process.stdin.close()\n"
            "print(children.end_all(grace=60, patience=60))"
        )
        == "()\n"
    )


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_child_that_ignores_sigterm_is_killed_and_named() -> None:
    said = outcome(
        "child = start(children, 'trap : TERM; echo ready; read line; read line')\n"
        "child.process.stdout.readline()\n"
        "(left,) = children.end_all(grace=0, patience=0)\n"
        "print(left == f'{child.process.pid} /bin/sh -c ' + child.process.args[2])\n"
        "print(child.wait())"
    )
    assert said == "True\n-9\n"


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted on Linux only")
def test_orphans_come_to_us_and_are_ended() -> None:
    said = outcome(
        "assert adopt_orphans()\n"
        "child = start(children, 'sleep 600 <&- >&- 2>&- & echo $!')\n"
        "pid = child.process.stdout.readline().decode().strip()\n"
        "child.wait()\n"
        "print(children.end_all(grace=0, patience=60) == (f'{pid} sleep 600',))\n"
        "from tests.support.heads import is_running\n"
        "print(is_running(int(pid)))"
    )
    assert said == "True\nFalse\n"
