"""Ctrl-C, closed terminals and lost links, as somebody at a terminal meets them."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from smartsim_bridge import Bridge
from smartsim_bridge.client.listing import CommandInfo
from tests.support.command_line import FROM_A_SHELL, PROGRAM, Terminal, typed
from tests.support.flaky_proxy import FlakyProxy, proxied_state
from tests.support.heads import Head, MakeHead, is_running
from tests.support.local_server import LocalServer
from tests.support.waiting import wait_until

# Says what it gets, and dies of nothing but SIGKILL.
STUBBORN = """
trap 'echo got INT' INT
trap 'echo got TERM' TERM
trap 'echo got HUP' HUP
trap 'echo got USR1' USR1
echo pid $$
while :; do sleep 0.05; done
"""

# Whoever types is in no hurry, nor is the server: else a slow machine counts each Ctrl-C as a
# first one, or does not wait to hear that the command may go on.
PATIENT = """
from smartsim_bridge import passthrough, signals
signals.TOGETHER_SECONDS = passthrough.LEAVE_SECONDS = 600.0
"""
# Nor does it tell of a link that is back a little later.
QUIET = f"{PATIENT}passthrough.QUIET_SECONDS = 600.0\n"


def at_terminal(*words: str, after: str = PATIENT) -> Terminal:
    """The program at a terminal, `after` lines of Python."""
    return Terminal(*words, program=[*PROGRAM[:2], f"{after}\n{PROGRAM[2]}"])


def end(pid: int) -> None:
    """The server would give it five seconds, in vain."""
    assert is_running(pid)
    os.kill(pid, signal.SIGKILL)


def pid_in(shown: str) -> int:
    return int(shown.partition("pid ")[2].split()[0])


@pytest.fixture
def here(local_server: LocalServer) -> LocalServer:
    return local_server


def only_command(bridge: Bridge) -> CommandInfo:
    (found,) = bridge.commands()
    return found


def test_the_first_ctrl_c_is_for_the_command(here: LocalServer) -> None:
    script = "trap 'echo caught; exit 9' INT; echo pid $$; while :; do sleep 0.05; done"
    with at_terminal("run", "--", "sh", "-c", script) as terminal:
        pid = pid_in(terminal.expect("pid "))
        terminal.press_ctrl_c()
        assert terminal.wait() == 9
        assert "caught" in terminal.shown
    assert not is_running(pid)


def test_what_dies_of_ctrl_c_takes_us_with_it(here: LocalServer) -> None:
    with at_terminal("run", "--", "sh", "-c", "echo pid $$; exec sleep 600") as terminal:
        terminal.expect("pid ")
        terminal.press_ctrl_c()
        assert terminal.wait() == -signal.SIGINT
        assert "Traceback" not in terminal.shown


def test_the_third_ctrl_c_leaves_it_running(here: LocalServer) -> None:
    with at_terminal("run", "--", "sh", "-c", STUBBORN) as terminal:
        pid = pid_in(terminal.expect("pid "))
        terminal.press_ctrl_c()
        terminal.expect("got INT")
        terminal.press_ctrl_c()
        terminal.expect("got TERM")
        terminal.press_ctrl_c()
        assert terminal.wait() == 130
        shown = terminal.shown
    assert is_running(pid)
    left = only_command(here.init())
    assert (left.pid, left.state, left.keep, left.followed) == (pid, "running", True, False)
    assert f"smartsim-bridge attach {left.id[:12]}\n" in shown
    assert shown.count("got INT") == 1
    end(pid)


def test_two_at_once_count_twice(here: LocalServer) -> None:
    with at_terminal("run", "--", "sh", "-c", STUBBORN) as terminal:
        pid = pid_in(terminal.expect("pid "))
        terminal.press_ctrl_c()
        terminal.press_ctrl_c()
        terminal.expect("got INT")
        terminal.expect("got TERM")
        terminal.press_ctrl_c()
        assert terminal.wait() == 130
    end(pid)


def test_it_may_be_left_and_followed_again_and_again(here: LocalServer) -> None:
    script = "trap '' INT TERM; echo pid $$; while read word; do echo got $word; done"
    words = ["run", "--", "sh", "-c", script]
    for number in range(3):
        with at_terminal(*words) as terminal:
            if number == 0:
                terminal.expect("pid ")
            terminal.type(f"word{number}\n")
            terminal.expect(f"got word{number}")
            for _ in range(3):
                terminal.press_ctrl_c()
            assert terminal.wait() == 130
        command = only_command(here.init())
        assert (command.state, command.followed) == ("running", False)
        words = ["attach", command.id[:12]]
    with at_terminal(*words) as terminal:
        terminal.type("last\n\x04")
        assert terminal.wait() == 0
        assert "got last" in terminal.shown


def test_a_closed_terminal_is_told_to_the_command(here: LocalServer, tmp_path: Path) -> None:
    file = tmp_path / "told"
    script = f"trap 'echo yes > {file}; exit' HUP; echo pid $$; while :; do sleep 0.05; done"
    with at_terminal("run", "--", "sh", "-c", script) as terminal:
        pid = pid_in(terminal.expect("pid "))
        terminal.close()
        wait_until(file.exists)
        terminal.process.wait(60)
    wait_until(lambda: not is_running(pid))


@pytest.mark.parametrize("how", ["run --keep", "attach"])
def test_a_closed_terminal_is_not_told_to_what_stays(how: str, here: LocalServer) -> None:
    bridge = here.init()
    if how == "attach":
        started = typed("run", "--detach", "--", "sh", "-c", STUBBORN)
        words = ["attach", started.stdout.decode().strip()]
    else:
        words = ["run", "--keep", "--", "sh", "-c", STUBBORN]
    with at_terminal(*words) as terminal:
        pid = pid_in(terminal.expect("pid "))
        assert only_command(bridge).followed
        terminal.close()
        terminal.process.wait(60)
    assert is_running(pid)
    left = only_command(bridge)
    assert (left.keep, left.followed) == (True, False)
    out = bridge.attach(left.id).stdout
    assert out is not None
    assert out.readline() == f"pid {pid}\n"
    end(pid)


def test_what_nohup_ignores_stays_ignored(here: LocalServer) -> None:
    """Whoever ignores it for us meant the command too."""
    nohup = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh"]
    with subprocess.Popen(
        [*nohup, *PROGRAM, "run", "--", "sh", "-c", STUBBORN],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline().split()[1])
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == b"got TERM\n"
        process.kill()
    end(pid)


def test_a_reader_that_stopped_does_not_hold_us(here: LocalServer) -> None:
    """The command has ended; what it printed does not fit into the pipe."""
    bridge = here.init()
    with subprocess.Popen(
        [*FROM_A_SHELL, "run", "--", "head", "-c", "300000", "/dev/zero"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    ) as process:
        wait_until(lambda: [one.state for one in bridge.commands()] == ["ended"])

        def ended() -> bool:
            process.terminate()  # again: it may not have heard of the end by the first time
            return process.poll() is not None

        wait_until(ended)
        assert process.wait(60) == -signal.SIGTERM


def test_a_signal_still_reaches_what_the_command_left_behind(here: LocalServer) -> None:
    script = "(trap 'echo caught; exit' TERM; echo ready; while :; do sleep 0.05; done) & exit 4"
    bridge = here.init()
    with subprocess.Popen(
        [*FROM_A_SHELL, "run", "--", "sh", "-c", script],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        wait_until(lambda: only_command(bridge).state == "exited")
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == b"caught\n"
        assert process.wait(60) == 4


# --- a link that is lost meanwhile

# Else the direct rung would lead past the proxy.
LOCAL = ("--transport", "local")


@pytest.fixture
def proxy(
    here: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FlakyProxy]:
    with FlakyProxy(here.beacon.socket, str(tmp_path / "proxy")) as between:
        state = proxied_state(here.state_dir, between, tmp_path / "state")
        monkeypatch.setenv("SMARTSIM_BRIDGE_STATE_DIR", str(state))
        yield between


def test_a_lost_link_is_told_once_and_so_is_its_return(proxy: FlakyProxy) -> None:
    with at_terminal("run", *LOCAL, "--", "cat") as terminal:
        terminal.type("one\n")
        terminal.expect("one\none\n")
        proxy.refuse()
        proxy.cut()
        terminal.expect("the link was lost; looking for another ...\n")
        terminal.type("two\n")
        proxy.welcome()
        terminal.expect("the link is back\n")
        terminal.type("three\n\x04")
        assert terminal.wait() == 0
        lines = terminal.shown.replace("^D\b\b", "").splitlines()
        assert [lines.count(word) for word in ("one", "two", "three")] == [2, 2, 2]
        assert terminal.shown.count("the link was lost") == 1
        assert terminal.shown.count("the link is back") == 1


def test_a_link_that_is_back_at_once_is_no_news(proxy: FlakyProxy) -> None:
    with at_terminal("run", *LOCAL, "--", "cat", after=QUIET) as terminal:
        for number in range(5):
            terminal.type(f"line{number}\n")
            terminal.expect(f"line{number}\nline{number}\n")
            proxy.cut()
        terminal.type("last\n\x04")
        assert terminal.wait() == 0
        assert "last\nlast\n" in terminal.shown.replace("^D\b\b", "")
        assert "link" not in terminal.shown


def test_without_a_link_ctrl_c_still_leaves(proxy: FlakyProxy) -> None:
    with at_terminal("run", *LOCAL, "--", "sh", "-c", STUBBORN) as terminal:
        pid = pid_in(terminal.expect("pid "))
        proxy.refuse()
        proxy.cut()
        terminal.expect("the link was lost")
        for _ in range(4):
            terminal.press_ctrl_c()
        assert terminal.wait() == 130
        assert "could not be told" in terminal.shown
        assert "smartsim-bridge attach " in terminal.shown
    end(pid)


def test_a_signal_that_comes_without_a_link_waits_for_one(proxy: FlakyProxy) -> None:
    with at_terminal("run", *LOCAL, "--", "sh", "-c", STUBBORN) as terminal:
        pid = pid_in(terminal.expect("pid "))
        proxy.refuse()
        proxy.cut()
        terminal.expect("the link was lost")
        terminal.press_ctrl_c()
        proxy.welcome()
        terminal.expect("the link is back")
        terminal.expect("got INT")
        assert terminal.shown.count("got INT") == 1
        end(pid)


# --- over SSH


@pytest.fixture
def head(make_head: MakeHead) -> Head:
    return make_head()


@pytest.mark.sshd
def test_leaving_and_coming_back_over_ssh(head: Head) -> None:
    where = ["--addr", "head", "--ssh-config", str(head.sshd.ssh_config), "--python", head.python]
    with at_terminal("run", *where, "--", "sh", "-c", STUBBORN) as terminal:
        pid = pid_in(terminal.expect("pid "))
        terminal.press_ctrl_c()
        terminal.expect("got INT")
        terminal.press_ctrl_c()
        terminal.expect("got TERM")
        terminal.press_ctrl_c()
        assert terminal.wait() == 130
        hint = terminal.shown.partition("come back to it with: smartsim-bridge ")[2].split()
    assert is_running(pid)
    assert hint[1:-1] == where
    with at_terminal(*hint) as terminal:
        os.kill(pid, signal.SIGUSR1)
        terminal.expect("got USR1")
        terminal.press_ctrl_c()
        terminal.expect("got INT")
        os.kill(pid, signal.SIGKILL)
        assert terminal.wait() == -signal.SIGKILL
