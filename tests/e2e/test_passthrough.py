"""Commands that are left running, and those who come back to them."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from smartsim_bridge import Bridge
from smartsim_bridge.client.listing import CommandInfo
from tests.support.command_line import PROGRAM, typed
from tests.support.heads import Head, MakeHead, is_running
from tests.support.local_server import LocalServer
from tests.support.waiting import wait_until


@pytest.fixture
def bridge(local_server: LocalServer) -> Bridge:
    """Another client of the same server."""
    return local_server.init()


def left(*words: str) -> str:
    """Starts it, leaves it, and gives its id."""
    done = typed("run", "--detach", "--", *words)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode().strip()


def entry(bridge: Bridge, name: str) -> CommandInfo:
    (found,) = (one for one in bridge.commands() if one.id == name)
    return found


def test_detach_prints_the_id_of_what_runs_on(bridge: Bridge) -> None:
    name = left("sh", "-c", "echo out; exec sleep 600")
    found = entry(bridge, name)
    assert (found.state, found.keep, found.followed) == ("running", True, False)
    assert found.argv == ("sh", "-c", "echo out; exec sleep 600")
    bridge.attach(name).kill()


def test_what_was_detached_has_an_empty_stdin(bridge: Bridge) -> None:
    name = left("cat")
    wait_until(lambda: entry(bridge, name).returncode == 0)


def test_what_cannot_be_started_cannot_be_left_either(bridge: Bridge) -> None:
    done = typed("run", "--detach", "--", "no-such-program")
    assert (done.returncode, done.stdout) == (127, b"")
    assert b"no-such-program" in done.stderr


@pytest.mark.parametrize("status", [0, 3, 255])
def test_attach_gives_all_output_and_the_status(status: int, bridge: Bridge) -> None:
    name = left("sh", "-c", f"echo out; echo err >&2; exit {status}")
    wait_until(lambda: entry(bridge, name).is_over)
    for _ in range(2):
        done = typed("attach", name[:12])
        assert (done.returncode, done.stdout, done.stderr) == (status, b"out\n", b"err\n")


def test_attach_ends_by_the_signal_that_ended_the_command(bridge: Bridge) -> None:
    name = left("sh", "-c", "kill -TERM $$")
    assert typed("attach", name).returncode == -signal.SIGTERM


@pytest.mark.parametrize(
    ("begin", "out", "err"),
    [("0", "0123456789", "abcdef"), ("4", "456789", "abcdef"), ("10,5", "", "f")],
)
def test_attach_from_an_offset_skips_what_came_before(
    begin: str, out: str, err: str, bridge: Bridge
) -> None:
    name = left("sh", "-c", "printf 0123456789; printf abcdef >&2")
    wait_until(lambda: entry(bridge, name).is_over)
    done = typed("attach", name, "--from", begin)
    assert (done.stdout.decode(), done.stderr.decode()) == (out, err)


@pytest.mark.parametrize("begin", ["-1", "x", "1,x", ""])
def test_an_offset_that_is_none_is_a_wrong_command_line(begin: str) -> None:
    done = typed("attach", "abc", f"--from={begin}")
    assert done.returncode == 2
    assert b"--from" in done.stderr


def test_attach_passes_stdin_and_signals_on(bridge: Bridge) -> None:
    script = "trap 'echo caught; exit 7' TERM; echo ready; read word; echo got $word; read more"
    command = bridge.popen(["sh", "-c", script], keep=True)
    with subprocess.Popen(
        [*PROGRAM, "attach", command.id], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.stdin.write(b"this\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"got this\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == b"caught\n"
        assert process.wait(60) == 7


def test_attach_to_nothing_says_so(bridge: Bridge) -> None:
    for wrong in ("abcdef", "f" * 32):
        done = typed("attach", wrong)
        assert done.returncode == 255
        assert wrong.encode() in done.stderr
        assert b"smartsim-bridge ps" in done.stderr
        assert b"Traceback" not in done.stderr


def test_attach_to_what_never_started_says_why(bridge: Bridge) -> None:
    with pytest.raises(FileNotFoundError):
        bridge.popen(["no-such-program"])
    (failed,) = bridge.commands()
    done = typed("attach", failed.id)
    assert done.returncode == 127
    assert b"no-such-program" in done.stderr


def test_who_followed_it_is_told_that_another_does(bridge: Bridge) -> None:
    with subprocess.Popen(
        [*PROGRAM, "run", "--", "sh", "-c", "echo ready; exec sleep 600"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        (found,) = bridge.commands()
        taken = bridge.attach(found.id)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 255
    assert b"Another client follows" in said
    taken.kill()


def test_what_is_kept_outlives_a_client_that_is_killed(bridge: Bridge) -> None:
    with subprocess.Popen(
        [*PROGRAM, "run", "--keep", "--", "sh", "-c", "echo $$; exec sleep 600"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.kill()
    (found,) = bridge.commands()
    wait_until(lambda: not entry(bridge, found.id).followed)
    assert entry(bridge, found.id).keep
    assert is_running(pid)
    again = bridge.attach(found.id)
    assert again.stdout is not None
    assert again.stdout.readline() == f"{pid}\n"
    again.kill()


def test_a_server_that_dies_leaves_no_hint_to_attach(local_server: LocalServer) -> None:
    """What it ran is not known by anybody any more."""
    with subprocess.Popen(
        [*PROGRAM, "run", "--no-autostart", "--", "sh", "-c", "echo $$; exec sleep 600"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        local_server.process.kill()
        _, said = process.communicate(timeout=90)
    assert process.returncode == 255
    assert b"smartsim-bridge attach" not in said
    assert b"Traceback" not in said
    subprocess.run(["kill", "-KILL", str(pid)], check=False)


# --- over SSH


@pytest.fixture
def head(make_head: MakeHead) -> Head:
    return make_head()


@pytest.mark.sshd
def test_left_and_followed_over_ssh(head: Head, tmp_path: Path) -> None:
    where = ["--addr", "head", "--ssh-config", str(head.sshd.ssh_config), "--python", head.python]
    done = typed("run", *where, "--detach", "--", "sh", "-c", "echo one; sleep 1; echo two; exit 5")
    name = done.stdout.decode().strip()
    assert len(name) == 32, done.stderr
    listed = typed("ps", *where).stdout.decode()
    assert name[:12] in listed
    done = typed("attach", *where, name[:12])
    assert (done.returncode, done.stdout, done.stderr) == (5, b"one\ntwo\n", b"")
