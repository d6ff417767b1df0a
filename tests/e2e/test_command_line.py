"""`smartsim-bridge`, as somebody types it."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.command_line import FROM_A_SHELL, PROGRAM, Terminal
from tests.support.command_line import typed as bridge
from tests.support.heads import Head, MakeHead, is_running, stop_servers
from tests.support.local_server import LocalServer
from tests.support.waiting import wait_until

ENDING = [
    *(signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGABRT, signal.SIGKILL),
    *(signal.SIGSEGV, signal.SIGPIPE, signal.SIGTERM),
]


@pytest.fixture
def here(local_server: LocalServer) -> LocalServer:
    """A server on this host, which `--addr` need not name."""
    return local_server


@pytest.mark.parametrize("status", [0, 1, 3, 127, 255])
def test_run_ends_with_the_commands_status(status: int, here: LocalServer) -> None:
    done = bridge("run", "--", "sh", "-c", f"exit {status}")
    assert (done.returncode, done.stdout, done.stderr) == (status, b"", b"")


@pytest.mark.parametrize("number", [*ENDING, signal.SIGRTMIN + 3])
def test_run_ends_by_the_signal_that_ended_the_command(number: int, here: LocalServer) -> None:
    assert bridge("run", "--", "sh", "-c", f"kill -{number} $$").returncode == -number


def test_a_shell_sees_128_and_the_signal(here: LocalServer) -> None:
    ours = shlex.join([*PROGRAM, "run", "--", "sh", "-c", "kill -TERM $$"])
    done = subprocess.run(
        ["sh", "-c", f"{ours}; echo $?"], capture_output=True, timeout=60, check=False
    )
    assert done.stdout == b"143\n"


def test_the_commands_crash_leaves_no_core_of_ours(here: LocalServer, tmp_path: Path) -> None:
    as_much_as_may_be = ["sh", "-c", 'ulimit -c $(ulimit -H -c); exec "$@"', "sh"]
    process = subprocess.Popen(
        [*as_much_as_may_be, *PROGRAM, "run", "--", "sh", "-c", "kill -SEGV $$"], cwd=tmp_path
    )
    _, status = os.waitpid(process.pid, 0)
    process.returncode = status
    assert os.WTERMSIG(status) == signal.SIGSEGV
    assert not os.WCOREDUMP(status)
    assert list(tmp_path.glob("core*")) == []


def test_run_passes_bytes_through_both_ways(here: LocalServer) -> None:
    every = bytes(range(256)) * 2000
    done = bridge("run", "--", "sh", "-c", "tee /dev/stderr", input=every)
    assert done.returncode == 0
    assert done.stdout == every
    assert done.stderr == every


def test_run_needs_no_dashes_before_a_plain_command(here: LocalServer) -> None:
    assert bridge("run", "echo", "-n", "plain").stdout == b"plain"


def test_run_says_what_it_does_not_find(here: LocalServer) -> None:
    done = bridge("run", "--", "no-such-program")
    assert done.returncode == 127
    assert b"no-such-program" in done.stderr
    assert b"Traceback" not in done.stderr


def test_run_in_another_directory(here: LocalServer) -> None:
    assert bridge("run", "--cwd", "/usr", "--", "pwd").stdout == b"/usr\n"


def test_run_without_a_command_says_how(here: LocalServer) -> None:
    done = bridge("run")
    assert done.returncode == 2
    assert b"PROGRAM" in done.stderr


def test_output_comes_while_the_command_runs(here: LocalServer) -> None:
    with subprocess.Popen(
        [*PROGRAM, "run", "--", "sh", "-c", "echo ready; read word; echo got $word; cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.stdin.write(b"this\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"got this\n"
        process.stdin.close()
        assert process.stdout.read() == b""
        assert process.wait(60) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_passed_on(number: signal.Signals, here: LocalServer) -> None:
    script = f"trap 'echo caught; exit 9' {number.name[3:]}; echo $$; while :; do sleep 0.05; done"
    with subprocess.Popen(
        [*FROM_A_SHELL, "run", "--", "sh", "-c", script],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.send_signal(number)
        assert process.stdout.read() == b"caught\n"
        assert process.wait(60) == 9
    assert not is_running(pid)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_ends_the_command_is_its_status(
    number: signal.Signals, here: LocalServer
) -> None:
    with subprocess.Popen(
        [*FROM_A_SHELL, "run", "--", "sh", "-c", "echo $$; exec sleep 600"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.send_signal(number)
        assert process.wait(60) == -number
    wait_until(lambda: not is_running(pid))


def test_killed_client_does_not_leave_its_command_for_ever(here: LocalServer) -> None:
    with subprocess.Popen(
        [*PROGRAM, "run", "--", "sh", "-c", "echo $$; yes"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.kill()
    # It has a grace; the server's own end does not leave it behind either.
    here.process.send_signal(signal.SIGTERM)
    assert here.process.wait(60) == 0
    assert not is_running(pid)


def test_a_reader_that_goes_away_ends_it(here: LocalServer) -> None:
    with subprocess.Popen(
        [*PROGRAM, "run", "--", "sh", "-c", "echo $$ >&2; exec yes"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        pid = int(process.stderr.readline())
        process.stdout.read(100)
        process.stdout.close()
        assert process.wait(60) == -signal.SIGPIPE
    wait_until(lambda: not is_running(pid))


def test_no_server_is_255_with_advice(here: LocalServer) -> None:
    here.process.terminate()
    here.process.wait(60)
    done = bridge("run", "--no-autostart", "--", "true")
    assert done.returncode == 255
    assert b"smartsim-bridge: " in done.stderr
    assert b"start_cmd_server.py" in done.stderr
    assert b"Traceback" not in done.stderr
    assert bridge("status").returncode == 255


def test_wrong_settings_are_255_in_words(here: LocalServer) -> None:
    done = bridge("status", "--transport", "carrier-pigeon")
    assert done.returncode in (2, 255)
    assert b"carrier-pigeon" in done.stderr
    assert b"Traceback" not in done.stderr


def test_status_tells_people_and_programs(here: LocalServer) -> None:
    said = bridge("status").stdout.decode()
    assert str(here.pid) in said
    assert "local" in said
    content = json.loads(bridge("status", "--json").stdout)
    assert content["server_pid"] == here.pid
    assert content["transport"] == "local"
    assert {rung["name"] for rung in content["rungs"]} >= {"local"}


def test_ps_shows_what_runs_and_what_ended(here: LocalServer) -> None:
    client = here.init(shims=False)
    sleeper = client.popen(["sleep", "600"], keep=True)
    client.run(["sh", "-c", "echo out; exit 3"])
    client.run(["sh", "-c", "kill -TERM $$"])
    heading, *lines = bridge("ps").stdout.decode().splitlines()
    assert heading.split() == [
        *("ID", "STATE", "PID", "STARTED", "EXIT", "FLAGS", "BYTES", "COMMAND")
    ]
    found = [line.split(None, 7) for line in lines]
    assert [[line[1], *line[4:]] for line in found] == [
        ["running", "-", "keep,followed", "0", "sleep 600"],
        ["ended", "3", "-", "4", "sh -c 'echo out; exit 3'"],
        ["ended", "SIGTERM", "-", "0", "sh -c 'kill -TERM $$'"],
    ]
    assert (found[0][0], found[0][2]) == (sleeper.id[:12], str(sleeper.pid))
    listed = json.loads(bridge("ps", "--json").stdout)
    assert [one["id"] for one in listed] == [one.id for one in client.commands()]
    assert listed[0]["argv"] == ["sleep", "600"]
    assert listed[1]["returncode"] == 3


def test_ps_leaves_out_what_ended_long_ago(here: LocalServer) -> None:
    here.init(shims=False).run(["true"])
    two_hours_later = "import time; now = time.time; time.time = lambda: now() + 7200"
    done = bridge("ps", after=two_hours_later)
    assert (done.returncode, done.stdout) == (0, b"")
    assert b"no command runs there; --all shows 1" in done.stderr
    assert b"true" in bridge("ps", "--all", after=two_hours_later).stdout
    assert json.loads(bridge("ps", "--json", after=two_hours_later).stdout) == []


def test_ps_cuts_lines_to_the_screen(here: LocalServer) -> None:
    here.init(shims=False).run(["echo", "x" * 300])
    with Terminal("ps", env={**os.environ, "COLUMNS": "70"}) as terminal:
        assert terminal.wait() == 0
        assert max(map(len, terminal.shown.splitlines())) == 70
    assert b"x" * 300 in bridge("ps").stdout


@pytest.mark.parametrize("words", [["ps"], ["attach", "abc"], ["status"]])
def test_what_only_looks_starts_no_server(words: list[str], here: LocalServer) -> None:
    here.process.terminate()
    here.process.wait(60)
    done = bridge(*words)
    assert (done.returncode, done.stdout) == (255, b"")
    assert b"No server of yours runs" in done.stderr
    assert b"Traceback" not in done.stderr
    assert list((here.state_dir / "servers").glob("*.json")) == []


def test_logs_show_what_a_started_server_wrote(near_home: Path) -> None:
    state_dir = near_home / "state"
    environment = {**os.environ, "SMARTSIM_BRIDGE_STATE_DIR": str(state_dir)}
    try:
        assert bridge("start", env=environment).returncode == 0
        done = bridge("logs", env=environment)
        assert done.returncode == 0
        assert b"serving as pid" in done.stdout
    finally:
        stop_servers(state_dir)


def test_start_status_stop_in_turn(near_home: Path) -> None:
    state_dir = near_home / "state"
    environment = {**os.environ, "SMARTSIM_BRIDGE_STATE_DIR": str(state_dir)}
    try:
        assert b"started" in bridge("start", env=environment).stdout
        assert b"already runs" in bridge("start", env=environment).stdout
        pid = json.loads(bridge("status", "--json", env=environment).stdout)["server_pid"]
        assert b"stopped" in bridge("stop", env=environment).stdout
        wait_until(lambda: not is_running(pid))
        again = bridge("stop", env=environment)
        assert again.returncode == 0
        assert b"nothing to stop" in again.stderr
    finally:
        stop_servers(state_dir)


def test_help_and_version_need_no_head() -> None:
    assert b"run" in bridge("--help").stdout
    assert bridge("--version").stdout.startswith(b"smartsim-bridge ")


# --- over SSH -----------------------------------------------------------------------------


@pytest.fixture
def head(make_head: MakeHead) -> Head:
    return make_head()


def there(head: Head) -> list[str]:
    keywords = ("--addr", "head", "--ssh-config", str(head.sshd.ssh_config), "--python")
    return [*keywords, head.python]


@pytest.mark.sshd
def test_the_whole_round_over_ssh(head: Head) -> None:
    where = there(head)
    assert b"started" in bridge("start", *where).stdout
    (pid,) = head.server_pids()
    status = json.loads(bridge("status", *where, "--json").stdout)
    assert (status["server_pid"], status["transport"]) == (pid, "tunnel")
    done = bridge("run", *where, "--", "sh", "-c", "id -un; cat; exit 3", input=b"in")
    assert (done.returncode, done.stdout) == (3, f"{head.sshd.user.name}\nin".encode())
    assert b"serving as pid" in bridge("logs", *where[:4]).stdout
    assert b"stopped" in bridge("stop", *where).stdout
    wait_until(lambda: not is_running(pid))


@pytest.mark.sshd
def test_run_starts_the_server_where_none_runs(head: Head) -> None:
    done = bridge("run", *there(head), "--", "echo", "hello")
    assert (done.returncode, done.stdout) == (0, b"hello\n")
    assert len(head.server_pids()) == 1


@pytest.mark.sshd
def test_an_unknown_host_key_is_255_with_its_fingerprint(head: Head) -> None:
    head.sshd.known_hosts.write_text("")
    done = bridge("run", *there(head), "--", "true")
    assert done.returncode == 255
    assert b"SHA256:" in done.stderr


@pytest.mark.sshd
def test_verbose_shows_the_steps(head: Head) -> None:
    done = bridge("start", *there(head), "-v")
    for word in (b"probe", b"upload", b"launch", b"tunnel", b"handshake"):
        assert word in done.stderr


@pytest.fixture(autouse=True)
def _no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize("count", [1000, 900_000, 5_000_000])
def test_output_that_cannot_be_written_is_255_with_the_reason(
    count: int, here: LocalServer
) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*PROGRAM, "run", "--", "head", "-c", str(count), "/dev/zero"],
            stdout=full,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            timeout=60,
            check=False,
        )
    assert done.returncode == 255
    assert b"No space left on device" in done.stderr
