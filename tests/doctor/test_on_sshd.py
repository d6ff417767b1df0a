"""The doctor on a real sshd, one site's rule at a time."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from smartsim_bridge.doctor import examination
from smartsim_bridge.doctor.examination import examine
from smartsim_bridge.doctor.findings import CHECKS, Finding
from smartsim_bridge.doctor.report import Report
from smartsim_bridge.settings import Settings
from tests.support.command_line import PROGRAM, typed
from tests.support.heads import Head, MakeHead, processes_with
from tests.support.openssh import live_master_of
from tests.support.sshd import make_key
from tests.support.users import User, is_root
from tests.support.waiting import wait_until

pytestmark = pytest.mark.sshd


def report_of(head: Head, **keywords: Any) -> Report:
    return examine(Settings.gather(**{**head.keywords, **keywords}))


def findings_of(head: Head, **keywords: Any) -> dict[str, Finding]:
    report = report_of(head, **keywords)
    assert [one.name for one in report.findings] == list(CHECKS)
    return {one.name: one for one in report.findings}


def failed(found: dict[str, Finding]) -> list[str]:
    return [one.name for one in found.values() if one.verdict == "fail"]


def files_below(directory: Path) -> list[str]:
    return sorted(str(path) for path in directory.rglob("*"))


def processes_of(head: Head) -> list[int]:
    """All that a login of this head started, however it detached itself."""
    marker = f"HOME={head.sshd.home}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and marker in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def test_a_good_head_fails_in_nothing_and_is_left_as_it_was(make_head: MakeHead) -> None:
    head = make_head()
    before = files_below(head.sshd.home)
    scratch = set(Path("/tmp").glob(".smartsim-bridge-doctor-*"))

    found = findings_of(head)

    assert failed(found) == []
    assert found["name"].evidence == "127.0.0.1"
    assert str(head.sshd.port) in found["TCP port"].evidence
    assert "ssh-ed25519 SHA256:" in found["host key"].evidence
    assert f"{head.sshd.known_hosts}:1" in found["host key"].evidence
    assert "offered: publickey" in found["authentication"].evidence
    assert f"worked: publickey {head.sshd.identity}" in found["authentication"].evidence
    assert "nobody was asked" in found["login"].evidence
    assert found["login shell"].evidence.startswith("/bin/")
    assert head.python in found["Python"].evidence
    assert found["pyzmq"].verdict == "ok"
    assert found["state directory"].verdict in ("ok", "warn")
    assert "a lock holds" in found["node directory"].evidence
    assert "carried the banner" in found["forwarding"].evidence
    assert "is reached from here" in found["direct port"].evidence
    assert "outlived the logout" in found["background"].evidence
    assert found["server"].evidence.startswith("No command server runs")

    assert head.server_pids() == []
    assert files_below(head.sshd.home) == before
    # Those of a test beside this one come and go.
    fresh = set(Path("/tmp").glob(".smartsim-bridge-doctor-*")) - scratch
    wait_until(lambda: not any(path.exists() for path in fresh))
    wait_until(lambda: processes_of(head) == [])
    assert head.sshd.log.count("Accepted publickey") == 2


@pytest.mark.parametrize("line", ["AllowTcpForwarding no", "PermitOpen none"])
def test_forwarding_that_is_forbidden_is_told_and_fails_nothing(
    line: str, make_head: MakeHead
) -> None:
    found = findings_of(make_head(line))
    assert failed(found) == []
    assert found["forwarding"].verdict == "warn"
    assert "refuses to forward" in found["forwarding"].evidence


def test_one_session_at_a_time_is_enough(make_head: MakeHead) -> None:
    found = findings_of(make_head("MaxSessions 1"))
    assert failed(found) == []
    assert "outlived the logout" in found["background"].evidence


def test_without_pyzmq_there_is_a_warning(make_head: MakeHead) -> None:
    found = findings_of(make_head(zmq=False))
    assert failed(found) == []
    assert found["pyzmq"].verdict == "warn"
    assert "--provision" in found["pyzmq"].advice


def test_without_python_that_fails_and_the_rest_is_looked_at(make_head: MakeHead) -> None:
    found = findings_of(make_head(), python="/usr/bin/python-that-is-not-there")
    assert failed(found) == ["Python"]
    assert found["pyzmq"].verdict == found["direct port"].verdict == "skipped"
    assert "carried the banner" in found["forwarding"].evidence
    assert "outlived the logout" in found["background"].evidence


def test_a_server_that_runs_is_told_and_left_alone(make_head: MakeHead) -> None:
    head = make_head()
    head.init(autostart=True)
    beacon = head.beacon()
    found = findings_of(head)
    assert f"pid {beacon.pid} on {beacon.host}" in found["server"].evidence
    assert head.server_pids() == [beacon.pid]


@pytest.mark.parametrize(
    ("line", "stream"), [("echo welcome", "stdout"), ("echo welcome >&2", "stderr")]
)
def test_a_noisy_shell_is_told_with_its_stream(line: str, stream: str, make_head: MakeHead) -> None:
    head = make_head()
    rc = head.sshd.home / ".bashrc"
    rc.write_text(f"{line}\n", "utf-8")
    head.sshd.user.own(rc)
    found = findings_of(head)
    assert failed(found) == []
    assert f"{stream} 'welcome'" in found["login shell"].evidence


def test_a_forced_command_fails_at_the_shell_with_what_it_said(make_head: MakeHead) -> None:
    found = findings_of(make_head('ForceCommand echo "this key may only copy files"'))
    assert failed(found) == ["login shell"]
    assert "this key may only copy files" in found["login shell"].evidence
    assert found["Python"].evidence == "not reached: login shell failed"
    assert found["login"].verdict == "ok"


def test_a_start_up_file_that_hangs_fails_within_its_time(
    make_head: MakeHead, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examination, "EXEC_SECONDS", 1.0)
    head = make_head()
    rc = head.sshd.home / ".bashrc"
    rc.write_text("sleep 120\n", "utf-8")
    head.sshd.user.own(rc)
    began = time.monotonic()
    found = findings_of(head)
    assert time.monotonic() - began < 120
    for pid in processes_of(head):
        with contextlib.suppress(ProcessLookupError):  # it may end with the connection
            os.kill(pid, signal.SIGKILL)
    assert failed(found) == ["login shell"]
    assert "did not end in time" in found["login shell"].evidence


# As logind does where it is told to: what a session leaves behind ends with it.
KILLS_AT_LOGOUT = (
    'ForceCommand sh -c "$SSH_ORIGINAL_COMMAND"; '
    'for one in $(grep -lzx "HOME=$HOME" /proc/[0-9]*/environ 2>/dev/null); do '
    'one=${one%/environ}; [ "$(cat $one/comm)" = sleep ] && kill ${one#/proc/}; done; true'
)


def test_a_logout_that_ends_everything_is_told(make_head: MakeHead) -> None:
    found = findings_of(make_head(KILLS_AT_LOGOUT))
    assert failed(found) == []
    assert found["background"].verdict == "warn"
    assert "was ended at the logout" in found["background"].evidence
    assert "enable-linger" in found["background"].advice


# --- the system's ssh


def test_over_the_systems_ssh_the_same_is_found(make_head: MakeHead) -> None:
    found = findings_of(make_head(), ssh="openssh")
    assert failed(found) == []
    assert found["host key"].evidence == "left to the system's ssh"
    assert "by the system's ssh" in found["authentication"].evidence
    assert "carried the banner" in found["forwarding"].evidence
    assert "outlived the logout" in found["background"].evidence


def test_a_master_of_the_user_stays_logged_in_and_is_told(make_head: MakeHead) -> None:
    head = make_head()
    with live_master_of(head.sshd):
        found = findings_of(head)
        assert head.sshd.log.count("Accepted publickey") == 1
    assert failed(found) == []
    assert "over your ControlMaster" in found["authentication"].evidence
    assert found["host key"].verdict == "skipped"
    assert "when you logged in for your ControlMaster" in found["host key"].evidence
    assert "your ControlMaster stays logged in" in found["background"].evidence


@pytest.mark.parametrize("line", ["AllowTcpForwarding no", "PermitOpen none"])
def test_the_systems_ssh_finds_forwarding_forbidden_too(line: str, make_head: MakeHead) -> None:
    found = findings_of(make_head(line), ssh="openssh")
    assert failed(found) == []
    assert found["forwarding"].verdict == "warn"


# --- the way there


@pytest.mark.parametrize("engine", ["paramiko", "openssh"])
def test_a_closed_port_fails_there(engine: str, make_head: MakeHead) -> None:
    found = findings_of(make_head(), ssh_port=1, ssh=engine)
    assert failed(found) == ["TCP port"]
    assert found["name"].verdict == "ok"
    assert found["host key"].evidence == "not reached: TCP port failed"


@pytest.mark.parametrize("engine", ["paramiko", "openssh"])
def test_a_changed_host_key_fails_there(engine: str, make_head: MakeHead, tmp_path: Path) -> None:
    head = make_head()
    other = make_key(tmp_path / "other")
    key = " ".join(Path(f"{other}.pub").read_text("ascii").split()[:2])
    head.sshd.known_hosts.write_text(f"[127.0.0.1]:{head.sshd.port} {key}\n", "ascii")
    found = findings_of(head, ssh=engine)
    assert failed(found) == ["host key"]
    if engine == "paramiko":
        assert "expected was" in found["host key"].evidence
        assert found["TCP port"].verdict == "ok"
    else:
        assert found["TCP port"].evidence == "left to the system's ssh"
    assert found["authentication"].evidence == "not reached: host key failed"


def test_an_unknown_host_key_fails_where_nobody_answers(make_head: MakeHead) -> None:
    head = make_head()
    head.sshd.known_hosts.write_text("", "ascii")

    def nobody(prompt: str, secret: bool) -> str:
        raise EOFError

    found = findings_of(head, ask=nobody)
    assert failed(found) == ["host key"]
    assert "is not in known_hosts" in found["host key"].evidence


def test_a_wrong_user_fails_at_the_authentication(make_head: MakeHead) -> None:
    found = findings_of(make_head("PasswordAuthentication no", "KbdInteractiveAuthentication no"),
                        user="nobody-of-that-name")  # fmt: skip
    assert failed(found) == ["authentication"]
    assert "the host takes publickey" in found["authentication"].evidence
    assert found["login"].verdict == "skipped"


# --- directories


@contextmanager
def mounted(path: Path, options: str) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.fixture
def mount_state(make_head: MakeHead) -> Iterator[Callable[[str], Head]]:
    """A head whose state directory is a file system of its own."""
    if not is_root():
        pytest.skip("mounting needs root")
    head = make_head()
    state = head.state_dir
    state.mkdir(parents=True, mode=0o700)
    for one in (state, *list(state.parents)[:2]):
        head.sshd.user.own(one)
    mounts = []

    def mount(options: str) -> Head:
        context = mounted(state, f"mode=700,uid={head.sshd.user.uid},{options}")
        context.__enter__()
        mounts.append(context)
        return head

    try:
        yield mount
    finally:
        for context in mounts:
            context.__exit__(None, None, None)


@pytest.mark.root
def test_a_full_state_directory_is_told_with_the_place_that_is_taken_instead(
    mount_state: Callable[[str], Head],
) -> None:
    head = mount_state("size=32k")
    found = findings_of(head)["state directory"]
    assert found.verdict == "warn"
    assert "No space left" in found.evidence
    assert f"/var/tmp/smartsim-bridge-{head.sshd.user.uid}" in found.advice
    assert files_below(head.state_dir) == []


@pytest.mark.root
def test_a_state_directory_without_execution_is_told(mount_state: Callable[[str], Head]) -> None:
    found = findings_of(mount_state("noexec"))["state directory"]
    assert "noexec" in found.evidence
    assert "pyzmq goes to /var/tmp or /tmp" in found.advice
    assert found.verdict == "warn"


# --- prompts and secrets


def test_after_a_question_there_is_no_second_login(make_head: MakeHead, head_user: User) -> None:
    head = make_head()
    head.sshd.known_hosts.write_text("", "ascii")
    asked = []

    def consent(prompt: str, secret: bool) -> str:
        asked.append(prompt)
        return "yes"

    found = findings_of(head, ask=consent)
    assert len(asked) == 1
    assert failed(found) == []
    assert "a second login would ask again" in found["background"].evidence
    assert head.sshd.log.count("Accepted publickey") == 1


def test_no_secret_reaches_the_report(make_head: MakeHead, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY_VARIABLE", "canary-in-the-environment")
    head = make_head("PubkeyAuthentication no", "PasswordAuthentication yes",
                     "KbdInteractiveAuthentication no")  # fmt: skip
    head.sshd.home.joinpath("CANARY_FILE").touch()
    right, wrong = head.sshd.user.password, "canary-of-a-password"
    private = "".join(head.sshd.identity.read_text("ascii").splitlines()[1:-1])
    for password in filter(None, (right, wrong)):
        answer = password

        def ask(prompt: str, secret: bool, answer: str = answer) -> str:
            return answer

        report = report_of(head, ask=ask)
        for text in (report.to_text(), report.to_json()):
            assert password not in text
            assert "canary" not in text.lower()
            assert private[:40] not in text
        assert report.has_failed == (password == wrong)
    # One set of prompts for each run, and no login behind it.
    if right is not None:
        assert head.sshd.log.count("Accepted password") == 1


# --- the head is this host


def test_on_the_head_itself_only_what_lies_there_is_looked_at(near_home: Path) -> None:
    before = files_below(near_home)
    report = examine(Settings.gather(addr="127.0.0.1", python=sys.executable))
    found = {one.name: one for one in report.findings}
    assert failed(found) == []
    assert found["host key"].evidence == found["forwarding"].evidence == "the head is this host"
    assert found["Python"].verdict == "ok"
    assert str(near_home) in found["state directory"].evidence
    assert files_below(near_home) == before


# --- as a program


def test_the_table_and_the_json_tell_the_same(make_head: MakeHead) -> None:
    head = make_head("AllowTcpForwarding no")
    words = ["doctor", "head", "--ssh-config", str(head.sshd.ssh_config), "--python", head.python]
    shown = typed(*words)
    told = typed(*words, "--json")
    assert shown.returncode == told.returncode == 0, shown.stderr
    table = shown.stdout.decode()
    assert "\x1b" not in table
    assert all(len(line) <= 80 for line in table.splitlines())
    assert all(re.search(rf"^\S+ +{name} ", table, re.MULTILINE) for name in CHECKS)
    findings = json.loads(told.stdout)["findings"]
    assert [one["name"] for one in findings] == list(CHECKS)
    # Of one look at the head: how slow the login was need not be the same again.
    report = report_of(head)
    table = report.to_text()
    for one in json.loads(report.to_json())["findings"]:
        verdict = {"skipped": "-", "fail": "FAIL"}.get(one["verdict"], one["verdict"])
        assert f"\n{verdict:4}  {one['name']} " in table


def test_a_failure_is_exit_status_one_with_the_whole_table(make_head: MakeHead) -> None:
    head = make_head()
    words = ["--addr", "head", "--ssh-config", str(head.sshd.ssh_config), "--ssh-port", "1"]
    done = typed("doctor", *words)
    assert done.returncode == 1
    assert all(name in done.stdout.decode() for name in CHECKS)


def test_two_targets_are_a_wrong_command_line(near_home: Path) -> None:
    assert typed("doctor", "one", "--addr", "two").returncode == 2


def test_what_runs_on_the_head_ends_also_where_the_doctor_is_killed(make_head: MakeHead) -> None:
    head = make_head()
    program = (
        "import smartsim_bridge.doctor.trials as trials; trials.SURVIVOR_SECONDS = 4;"
        "trials.LISTEN_SECONDS = 4; trials.SETTLE_SECONDS = 6;"
    )
    command = [*PROGRAM[:2], f"{program}\n{PROGRAM[2]}"]
    words = ["doctor", "head", "--ssh-config", str(head.sshd.ssh_config), "--python", head.python]
    with subprocess.Popen([*command, *words], stdout=subprocess.PIPE) as doctor:
        # The head's own: the same test may run beside this one.
        wait_until(lambda: set(processes_with("sleep", "4")) & set(processes_of(head)))
        doctor.send_signal(signal.SIGKILL)
        doctor.wait(60)
    wait_until(lambda: processes_of(head) == [])
    assert head.server_pids() == []
