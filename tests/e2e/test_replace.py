"""A server that gives way to another version of itself, with commands that must not notice."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from smartsim_bridge import Bridge, __version__
from smartsim_bridge.bootstrap import artifact
from smartsim_bridge.bootstrap import replace as delivery
from smartsim_bridge.bootstrap.artifact import Artifact
from smartsim_bridge.client import replace
from smartsim_bridge.client.blocking import Command
from smartsim_bridge.errors import CommandServerError, RequestRefused
from smartsim_bridge.protocol.beacon import Credentials
from smartsim_bridge.server import handover
from tests.support.altered_server import alter_server
from tests.support.far_halves import OTHER_VERSION, write_far_half
from tests.support.heads import MakeHead, is_running
from tests.support.local_server import LocalServer, MakeLocalServer
from tests.support.python39 import Python39
from tests.support.waiting import wait_until

MIB = 1024 * 1024
GiveWay = Callable[..., str]


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """The far half of another version."""
    return write_far_half(tmp_path / "far" / "other.pyz")


def give_way(bridge: Bridge, path: Path | str, python: str = "") -> str:
    """Has the server become that; the version of whoever answers then."""
    giving = replace.give_way(bridge._bridge._session, str(path), python)
    return bridge._portal.call(giving).welcome.version


def until(path: Path, then: str) -> list[str]:
    """A command that waits for a file."""
    return ["sh", "-c", f"while [ ! -e '{path}' ]; do sleep 0.02; done; {then}"]


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


@pytest.mark.parametrize("transport", ["local", "direct"])
def test_output_goes_on_with_no_line_lost_and_none_doubled(
    transport: str, local_server: LocalServer, other: Path
) -> None:
    bridge, bystander = (local_server.init(transport=transport) for _ in range(2))
    script = "for i in $(seq 1 1500); do echo out $i; echo err $i >&2; sleep 0.001; done; exit 7"
    commands = [one.popen(["sh", "-c", script]) for one in (bridge, bystander)]
    assert commands[0].stdout is not None
    first = commands[0].stdout.readline()
    before = local_server.beacon
    assert give_way(bridge, other) == OTHER_VERSION
    for command, head in zip(commands, (first, "")):
        assert command.stdout is not None
        assert command.stderr is not None
        out, err = command.stdout.read(), command.stderr.read()
        assert (head + out).splitlines() == [f"out {i}" for i in range(1, 1501)]
        assert err.splitlines() == [f"err {i}" for i in range(1, 1501)]
        assert command.wait(60) == 7
    after = local_server.beacon
    assert (after.pid, after.pid_start, after.endpoints) == (
        local_server.pid,
        before.pid_start,
        before.endpoints,
    )
    assert (before.version, after.version) == (__version__, OTHER_VERSION)
    assert bridge.status().server_pid == local_server.pid


def test_input_goes_on_what_was_not_yet_written_included(
    local_server: LocalServer, other: Path, tmp_path: Path
) -> None:
    bridge, go = local_server.init(), tmp_path / "go"
    data = os.urandom(3 * MIB)
    command = bridge.popen(until(go, "cat"), text=False)
    with ThreadPoolExecutor(1) as pool:
        # More than the pipe and the credit hold: it is written in part before, in part after.
        talking = pool.submit(command.communicate, data, 60)
        assert give_way(bridge, other) == OTHER_VERSION
        go.touch()
        assert talking.result(90)[0] == data


def test_polls_that_share_a_process_go_on_sharing_it(
    local_server: LocalServer, other: Path, tmp_path: Path
) -> None:
    squeue, runs, go = tmp_path / "squeue", tmp_path / "runs", tmp_path / "go"
    wait = f"while [ ! -e {go} ]; do sleep 0.02; done"
    squeue.write_text(f"#!/bin/sh\necho $$ >> {runs}\necho one\n{wait}\necho two\nexit 5\n")
    squeue.chmod(0o700)
    bridges = [local_server.init() for _ in range(3)]
    asked = [one.popen([str(squeue)], stdin=subprocess.DEVNULL) for one in bridges]
    # One that has left before, and one that does so after.
    alone = bridges[0].popen([str(squeue), "-a"], stdin=subprocess.DEVNULL)
    left = bridges[1].popen([str(squeue), "-a"], stdin=subprocess.DEVNULL)
    assert left.stdout is not None
    assert left.stdout.readline() == "one\n"
    left.terminate()
    assert left.wait(60) == -signal.SIGTERM
    for _ in range(2):  # and again, what was taken over
        assert give_way(bridges[0], other) == OTHER_VERSION
        assert all(command.poll() is None for command in asked)
    asked[0].terminate()
    assert asked[0].wait(60) == -signal.SIGTERM
    late = bridges[2].popen([str(squeue)], stdin=subprocess.DEVNULL)
    wait_until(lambda: len(runs.read_text().split()) == 3)
    go.touch()
    for command in (*asked[1:], alone, late):
        assert command.communicate(timeout=60) == ("one\ntwo\n", "")
        assert command.returncode == 5
    assert len(runs.read_text().split()) == 3
    assert late.pid not in {command.pid for command in asked}


def test_commands_that_end_meanwhile_tell_how(local_server: LocalServer, other: Path) -> None:
    bridge = local_server.init()
    # Spread over the whole of it, before and after included.
    pauses = {code: 0.05 * code for code in range(1, 31)}
    commands = {
        code: bridge.popen(["sh", "-c", f"sleep {pause:.3f}; echo {code}; exit {code}"])
        for code, pause in pauses.items()
    }
    assert give_way(bridge, other) == OTHER_VERSION
    for code, command in commands.items():
        assert command.communicate(timeout=60) == (f"{code}\n", "")
        assert command.returncode == code


def test_those_that_wait_for_their_turn_still_get_it(
    make_local_server: MakeLocalServer, other: Path, tmp_path: Path
) -> None:
    server = make_local_server("--port", "0", "--max-commands", "2")
    bridge, go = server.init(), tmp_path / "go"
    with ThreadPoolExecutor(8) as pool:
        try:
            words = until(go, f"echo $$ >> {tmp_path}/ran; cat")
            running = [pool.submit(bridge.run, words, input=f"{i}") for i in range(8)]
            wait_until(lambda: bridge.status().waiting == 6)
            assert give_way(bridge, other) == OTHER_VERSION
            status = bridge.status()
            assert (status.running, status.waiting) == (2, 6)
        finally:
            go.touch()
        assert [one.result(60).stdout for one in running] == [f"{i}" for i in range(8)]
    # Once each.
    assert len((tmp_path / "ran").read_text().split()) == 8


def test_what_nobody_has_read_is_there_afterwards(
    local_server: LocalServer, other: Path, tmp_path: Path
) -> None:
    bridge, go = local_server.init(), tmp_path / "go"
    print_it = "seq 1000000 1600000"  # 4.8 MB: four times what stays in memory
    ended = bridge.popen(["sh", "-c", f"{print_it}; exit 3"]).detach()
    running = bridge.popen(["sh", "-c", f"{print_it}; {until(go, 'seq 9; exit 4')[2]}"]).detach()
    expected = "".join(f"{i}\n" for i in range(1000000, 1600001))

    def entries() -> dict[str, tuple[str, int]]:
        return {one.id: (one.state, one.stdout) for one in bridge.commands()}

    whole = {ended: ("ended", len(expected)), running: ("running", len(expected))}
    wait_until(lambda: entries() == whole)
    assert list((local_server.state_dir / "spool").rglob("*.spool"))
    for _ in range(2):
        assert give_way(bridge, other) == OTHER_VERSION
        assert entries() == whole
    go.touch()
    for command, code, rest in ((ended, 3, ""), (running, 4, "1\n2\n3\n4\n5\n6\n7\n8\n9\n")):
        again = bridge.attach(command)
        assert again.communicate(timeout=60)[0] == expected + rest
        assert again.returncode == code


def test_a_signal_and_its_exit_status_right_afterwards(
    local_server: LocalServer, other: Path
) -> None:
    bridge = local_server.init()
    ends = bridge.popen(["sleep", "600"])
    traps = bridge.popen(["sh", "-c", "trap 'exit 9' USR1; echo up; while :; do sleep 0.02; done"])
    assert traps.stdout is not None
    assert traps.stdout.readline() == "up\n"
    assert give_way(bridge, other) == OTHER_VERSION
    ends.terminate()
    traps.send_signal(10)
    assert (ends.wait(60), traps.wait(60)) == (-15, 9)


def test_a_time_limit_goes_on_running(local_server: LocalServer, other: Path) -> None:
    bridge = local_server.init()
    with ThreadPoolExecutor(1) as pool:
        limited = pool.submit(bridge.run, ["sh", "-c", "echo $$; exec sleep 600"], timeout=4.0)
        wait_until(lambda: bridge.status().running == 1)
        assert give_way(bridge, other) == OTHER_VERSION
        with pytest.raises(subprocess.TimeoutExpired) as expired:
            limited.result(60)
    assert isinstance(expired.value.output, (str, bytes))
    pid = int(expired.value.output)
    wait_until(lambda: not is_running(pid))


def test_a_grace_goes_on_running(local_server: LocalServer, other: Path) -> None:
    bridge, leaving = local_server.init(), local_server.init()
    pid = leaving.popen(["sleep", "600"], grace=4.0).pid
    began = time.monotonic()
    leaving.close()
    assert give_way(bridge, other) == OTHER_VERSION
    assert is_running(pid) or time.monotonic() - began >= 4.0
    wait_until(lambda: not is_running(pid))


def test_a_stop_that_was_begun_is_brought_to_its_end(
    make_local_server: MakeLocalServer,
    other: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = ("from smartsim_bridge.server import commands", "commands.KILL_AFTER = 5.0")
    alter_server(monkeypatch, tmp_path, *lines)
    local_server = make_local_server()
    bridge = local_server.init()
    script = "trap '' TERM; echo up; while :; do sleep 0.02; done"
    stubborn = bridge.popen(["sh", "-c", script], grace=0.0)
    assert stubborn.stdout is not None
    assert stubborn.stdout.readline() == "up\n"
    asking = local_server.init()
    began = time.monotonic()
    bridge.close()  # SIGTERM at once, SIGKILL five seconds later
    assert give_way(asking, other) == OTHER_VERSION
    assert is_running(stubborn.pid) or time.monotonic() - began >= 5.0
    wait_until(lambda: not is_running(stubborn.pid))


def test_nothing_is_forgotten_and_nothing_runs_twice(
    local_server: LocalServer, other: Path
) -> None:
    bridge = local_server.init()
    done = bridge.popen(["sh", "-c", "echo done"])
    running = bridge.popen(["sleep", "600"])
    assert done.communicate(timeout=60)[0] == "done\n"
    wait_until(lambda: [one.state for one in bridge.commands()] == ["ended", "running"])
    assert give_way(bridge, other) == OTHER_VERSION
    assert [one.state for one in bridge.commands()] == ["ended", "running"]
    # The next server reads what this one has left of the journal.
    running.kill()
    running.wait(60)
    lines = next((local_server.state_dir / "journal").glob("*.jsonl")).read_text().splitlines()
    events = [json.loads(line)[0] for line in lines[1:]]
    assert (events.count("record"), events.count("opened")) == (2, 0)


@pytest.mark.parametrize("transport", ["local", "direct"])
def test_what_is_asked_meanwhile_is_done_exactly_once(
    transport: str, local_server: LocalServer, other: Path, tmp_path: Path
) -> None:
    bridge, log = local_server.init(), tmp_path / "log"
    # A submission is forced to the disk before it is spawned: one more moment to be caught in.
    sbatch = tmp_path / "sbatch"
    sbatch.write_text(f'#!/bin/sh\necho "$1" >> {log}\necho "did $1"\nexit 6\n')
    sbatch.chmod(0o700)
    is_over = Event()

    def ask(client: int) -> int:
        asked = 0
        with local_server.init(transport=transport) as mine:
            while not is_over.is_set():
                asked += 1
                words = [str(sbatch), f"{client}-{asked}"]
                done = mine.run(words, keep=None if client % 2 else False)
                assert (done.returncode, done.stdout) == (6, f"did {client}-{asked}\n")
        return asked

    with ThreadPoolExecutor(6) as pool:
        try:
            clients = [pool.submit(ask, number) for number in range(6)]
            for _ in range(4):
                assert give_way(bridge, other) == OTHER_VERSION
        finally:
            is_over.set()
        counts = [client.result(60) for client in clients]
    expected = {f"{client}-{i}" for client, last in enumerate(counts) for i in range(1, last + 1)}
    ran = log.read_text().split()
    assert len(ran) == len(expected)
    assert set(ran) == expected


def test_the_audit_tells_the_end_of_what_began_before(
    make_local_server: MakeLocalServer, other: Path
) -> None:
    server = make_local_server("--port", "0", "--audit")
    bridge = server.init()
    command = bridge.popen(["cat"])
    assert give_way(bridge, other) == OTHER_VERSION
    command.communicate(timeout=60)
    (audit,) = (server.state_dir / "logs").glob("*.audit")

    def events() -> list[str]:
        return [json.loads(line)["event"] for line in audit.read_text().splitlines()]

    wait_until(lambda: events() == ["start", "end"])


def test_the_lock_stays_taken_and_a_second_start_finds_the_server(
    local_server: LocalServer, other: Path
) -> None:
    assert give_way(local_server.init(), other) == OTHER_VERSION
    words = ("-m", "smartsim_bridge.server", "serve", "--detach", "--nonce", "n0nce")
    started = subprocess.run(
        [sys.executable, *words, "--state-dir", str(local_server.state_dir)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "FOUND" in started.stdout
    assert f'"pid":{local_server.pid},' in started.stdout
    assert OTHER_VERSION in started.stdout


def test_no_secret_can_be_seen_and_the_keys_stay_as_they_are(
    local_server: LocalServer, other: Path
) -> None:
    (keys,) = (local_server.state_dir / "servers").glob("*.key")
    before = Credentials.from_json(keys.read_text())
    command = local_server.init().popen(["cat"], env={"MARK": "canary-7d1f"})
    assert give_way(local_server.init(transport="direct"), other) == OTHER_VERSION
    assert Credentials.from_json(keys.read_text()) == before
    for name in ("cmdline", "environ"):
        seen = Path(f"/proc/{local_server.pid}/{name}").read_bytes()
        for secret in (before.client_secret, before.client_key, "canary-7d1f"):
            assert secret.encode() not in seen
    assert all(mode & 0o077 == 0 for mode in _modes(local_server.state_dir))
    command.kill()


def _modes(directory: Path) -> list[int]:
    modes = []
    for path in directory.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # written beside and renamed just now
            modes.append(path.stat().st_mode)
    return modes


def test_descriptors_do_not_gather_and_commands_inherit_none(
    local_server: LocalServer, other: Path
) -> None:
    bridge = local_server.init()
    commands = [bridge.popen(["cat"]) for _ in range(5)]
    assert give_way(bridge, other) == OTHER_VERSION
    bridge.run(["true"])
    settled = descriptors(local_server.pid)
    for _ in range(5):
        assert give_way(bridge, other) == OTHER_VERSION
    bridge.run(["true"])
    wait_until(lambda: descriptors(local_server.pid) <= settled)
    inherited = bridge.run(["sh", "-c", "ls /proc/$$/fd"]).stdout.split()
    assert [int(one) for one in inherited if int(one) > 2] in ([], [10])  # dash's own
    for command in commands:
        assert command.communicate("mine", timeout=60)[0] == "mine"
    wait_until(lambda: descriptors(local_server.pid) < settled)
    states = {one.state for one in bridge.commands()}
    assert states == {"ended"}


def test_commands_find_the_same_surroundings(local_server: LocalServer, other: Path) -> None:
    bridge = local_server.init()
    script = "env | sort; umask; ulimit -n; ulimit -Hn; nice; pwd; grep ^Sig[BI] /proc/self/status"
    before = bridge.run(["sh", "-c", script]).stdout
    assert "SigBlk" in before
    assert give_way(bridge, other) == OTHER_VERSION
    assert bridge.run(["sh", "-c", script]).stdout == before


def test_a_server_that_may_not_run_everything_becomes_only_what_was_sent(
    make_local_server: MakeLocalServer, other: Path
) -> None:
    server = make_local_server("--port", "0", "--allow", "echo")
    bridge = server.init()
    sent = write_far_half(server.state_dir / "far" / "sent.pyz")
    for path, python in ((other, ""), (sent, "/bin/sh"), (sent.parent / "../far/sent.pyz", "")):
        with pytest.raises(RequestRefused, match="which programs it may run"):
            give_way(bridge, path, python)
    assert give_way(bridge, sent) == OTHER_VERSION
    assert bridge.run(["echo", "yes"]).stdout == "yes\n"
    with pytest.raises(PermissionError):
        bridge.run(["cat", "/dev/null"])


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: path.write_bytes(b"no zip"), "fails with status"),
        (lambda path: write_far_half(path, spool="raise ImportError('torn')"), "torn"),
        (lambda path: write_far_half(path, handover="FORMAT = 1"), "cannot take over"),
        (lambda path: write_far_half(path).chmod(0o622), "others can write"),
        (lambda path: path.parent.chmod(0o777), "others can write"),
        (lambda path: path.mkdir(), "no regular file"),
        (lambda path: path.symlink_to(__file__), "no regular file"),
        (lambda path: None, "No such file"),
    ],
    ids=["garbage", "broken", "format", "writable", "folder", "directory", "link", "absent"],
)
def test_what_cannot_take_over_is_refused_and_nothing_has_happened(
    make: Callable[[Path], object], why: str, local_server: LocalServer, tmp_path: Path
) -> None:
    bridge = local_server.init()
    command = bridge.popen(["cat"])
    path = tmp_path / "far" / "bad.pyz"
    path.parent.mkdir(mode=0o700)
    if why == "others can write":
        write_far_half(path)
    make(path)
    before, held = local_server.beacon, descriptors(local_server.pid)
    with pytest.raises(RequestRefused, match=why):
        give_way(bridge, path)
    assert local_server.beacon == before
    # One more may be open for a moment, now as before.
    wait_until(lambda: descriptors(local_server.pid) <= held)
    status = bridge.status()
    assert (status.version, status.reconnects) == (__version__, 0)
    assert command.communicate("still here", timeout=60)[0] == "still here"


def test_a_python_that_is_gone_when_it_counts_leaves_all_as_it_was(
    local_server: LocalServer, other: Path, tmp_path: Path
) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nrm "$0"\nexec {sys.executable} "$@"\n')
    python.chmod(0o700)
    bridge = local_server.init(transport="direct")
    command = bridge.popen(["sh", "-c", "cat; exit 5"])
    before = local_server.beacon
    assert give_way(bridge, other, str(python)) == __version__
    assert local_server.beacon == before
    assert command.communicate("still here", timeout=60) == ("still here", "")
    assert command.returncode == 5
    # It may be tried again.
    assert give_way(bridge, other) == OTHER_VERSION


def test_who_ends_the_server_meanwhile_ends_it_well(
    local_server: LocalServer, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replace, "RETURN_SECONDS", 3.0)  # in vain
    python = tmp_path / "python"
    body = f'[ "$2" = serve ] && kill -TERM $$\nexec {sys.executable} "$@"\n'
    python.write_text(f"#!/bin/sh\n{body}")
    python.chmod(0o700)
    bridge = local_server.init(reconnect=0.0)
    pid = bridge.popen(["sleep", "600"]).pid
    with pytest.raises(CommandServerError):
        give_way(bridge, other, str(python))
    assert local_server.process.wait(60) == 0
    assert not is_running(pid)
    assert list((local_server.state_dir / "servers").iterdir()) == []


@pytest.mark.sshd
@pytest.mark.parametrize("transport", ["tunnel", "stdio"])
def test_over_ssh_the_far_half_is_sent_and_the_server_becomes_it(
    transport: str, make_head: MakeHead, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = make_head()
    bridge = head.init(autostart=True, transport=transport)
    script = "for i in $(seq 1 1000); do echo $i; sleep 0.002; done; cat"
    command: Command = bridge.popen(["sh", "-c", script])
    before = head.beacon()
    pretend_to_be_newer(monkeypatch, tmp_path)
    status = bridge.replace_server()
    assert (status.version, status.server_pid) == (OTHER_VERSION, before.pid)
    assert (status.transport, status.running) == (transport, 1)
    out, _ = command.communicate("the end", timeout=60)
    assert out.split("\n") == [*(f"{i}" for i in range(1, 1001)), "the end"]
    # And again, to what lies there already.
    assert bridge.replace_server().version == OTHER_VERSION
    assert head.server_pids() == [before.pid]


@pytest.mark.sshd
def test_with_the_oldest_python_and_without_zmq_too(
    make_head: MakeHead, python39: Python39, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = make_head(zmq=False, python=python39.python, user=python39.user)
    bridge = head.init(autostart=True)
    command = bridge.popen(["sh", "-c", "cat; exit 3"])
    pretend_to_be_newer(monkeypatch, tmp_path)
    status = bridge.replace_server()
    assert (status.version, status.transport, status.server_zmq) == (OTHER_VERSION, "stdio", "")
    assert " 3.9." in status.server_python
    assert command.communicate("x", timeout=60)[0] == "x"
    assert command.returncode == 3


def test_on_this_host_no_ssh_is_needed(
    local_server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bridge = local_server.init()
    command = bridge.popen(["cat"])
    pretend_to_be_newer(monkeypatch, tmp_path)
    assert bridge.replace_server().version == OTHER_VERSION
    assert command.communicate("x", timeout=60)[0] == "x"
    assert [path.name for path in (local_server.state_dir / "far").iterdir()] == ["newer.pyz"]


def pretend_to_be_newer(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    content = write_far_half(directory / "far" / "newer.pyz").read_bytes()
    digest = artifact.hashlib.sha256(content).hexdigest()  # type: ignore[attr-defined]
    monkeypatch.setattr(delivery, "build", lambda: Artifact("newer.pyz", digest, content))
    monkeypatch.setattr(replace, "__version__", OTHER_VERSION)


def test_the_format_is_the_one_that_these_tests_know() -> None:
    assert (handover.OLDEST_FORMAT, handover.FORMAT) == (1, 2)
