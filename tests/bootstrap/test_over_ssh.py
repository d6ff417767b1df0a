"""The whole errand through a real sshd, into another account where the tests run as root."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from smartsim_bridge.bootstrap import shell as shell_module
from smartsim_bridge.bootstrap.ensure import Found, ensure_server
from smartsim_bridge.deadline import Deadline
from smartsim_bridge.errors import CommandsForbidden, NoLoginShell, ProbeFailed
from smartsim_bridge.ssh.connection import SshConnection
from smartsim_bridge.stages import Journey
from tests.support.fixtures import Connect, MakeSshd
from tests.support.shells import shell_command, shell_path
from tests.support.sshd import Sshd

pytestmark = pytest.mark.sshd


def run(connection: SshConnection, journey: Journey | None = None) -> Found:
    return ensure_server(connection, deadline=Deadline(60), journey=journey or Journey("head"))


@contextmanager
def ended(found: Found) -> Iterator[Found]:
    """Ends the server with the block."""
    try:
        yield found
    finally:
        with suppress(ProcessLookupError):
            os.kill(found.beacon.pid, signal.SIGKILL)


@pytest.fixture
def loud_sshd(make_sshd: MakeSshd) -> Sshd:
    """Its start-up file prints on both streams, the last line without a newline."""
    sshd = make_sshd()
    text = "echo welcome; echo warning >&2; printf 'no newline at the end'\n"
    for name in (".bashrc", ".cshrc", ".profile"):
        (sshd.home / name).write_text(text)
        os.chown(sshd.home / name, sshd.user.uid, sshd.user.gid)
    return sshd


def test_a_server_is_started_once_and_outlives_the_connection(
    make_sshd: MakeSshd, connect: Connect
) -> None:
    sshd = make_sshd()
    first = connect(sshd.target())
    journey = Journey("head")
    with ended(run(first, journey)) as found:
        first.close()
        again = run(connect(sshd.target()))

        assert [stage.name for stage in journey.stages] == ["probe", "upload", "launch"]
        assert (found.started, again.started) == (True, False)
        assert again.beacon == found.beacon
        assert Path(f"/proc/{found.beacon.pid}").exists()
        assert found.beacon.uid == sshd.user.uid
        assert found.beacon.state_dir.startswith(str(sshd.home))


def test_a_noisy_start_up_file_changes_nothing(loud_sshd: Sshd, connect: Connect) -> None:
    with ended(run(connect(loud_sshd.target()))) as found:
        assert found.facts.uid == loud_sshd.user.uid


def test_a_forced_command_that_runs_what_is_asked_is_no_trouble(
    make_sshd: MakeSshd, connect: Connect
) -> None:
    sshd = make_sshd('ForceCommand echo banner; eval "$SSH_ORIGINAL_COMMAND"')

    with ended(run(connect(sshd.target()))) as found:
        assert found.started


@pytest.mark.parametrize(
    ("command", "kind", "words"),
    [
        ("echo 'only rsync is allowed here'; exit 1", CommandsForbidden, "only rsync is allowed"),
        ("internal-sftp", CommandsForbidden, "sftp connections only"),
        ("/usr/sbin/nologin", NoLoginShell, "not available"),
        ("/bin/false", NoLoginShell, "with status 1"),
        ("exec bash -c 'no-such-word || exit 5'", ProbeFailed, "no-such-word"),
    ],
)
def test_a_refusal_is_quoted_at_once_with_its_own_error(
    make_sshd: MakeSshd,
    connect: Connect,
    command: str,
    kind: type[ProbeFailed],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # At once: who waited for more would see the end of his time instead.
    monkeypatch.setattr(shell_module, "PATIENCE", 600.0)
    connection = connect(make_sshd(f"ForceCommand {command}").target())
    with pytest.raises(ProbeFailed, match=words) as raised:
        run(connection)

    assert type(raised.value) is kind


def test_what_a_refusing_host_says_on_standard_error_is_quoted(
    make_sshd: MakeSshd, connect: Connect
) -> None:
    sshd = make_sshd("ForceCommand echo 'refused, on standard error' >&2; exit 1")

    for _ in range(5):
        with pytest.raises(ProbeFailed, match="refused, on standard error"):
            run(connect(sshd.target()))


def test_one_session_at_a_time_is_enough(make_sshd: MakeSshd, connect: Connect) -> None:
    connection = connect(make_sshd("MaxSessions 1").target())

    with ended(run(connection)) as found:
        for _ in range(10):
            assert run(connection).beacon == found.beacon


@pytest.mark.parametrize("shell", ["tcsh", "fish", "zsh", "ksh", "dash"])
def test_other_login_shells_do(make_sshd: MakeSshd, connect: Connect, shell: str) -> None:
    path = shell_path(shell)
    sshd = make_sshd(f'ForceCommand exec {path} -c "$SSH_ORIGINAL_COMMAND"')

    with ended(run(connect(sshd.target()))) as found:
        assert found.started


@pytest.mark.parametrize("other", ["zsh", "ksh", "bash -l"])
def test_a_forced_command_that_runs_a_shell_of_its_own_is_no_trouble(
    make_sshd: MakeSshd, connect: Connect, other: str
) -> None:
    command = shell_command(other)
    with ended(run(connect(make_sshd(f"ForceCommand exec {command}").target()))) as found:
        assert found.started


@pytest.mark.parametrize("other", ["fish", "tcsh"])
def test_a_shell_that_cannot_read_our_script_is_named(
    make_sshd: MakeSshd, connect: Connect, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    monkeypatch.setattr(shell_module, "PATIENCE", 0.5)
    connection = connect(make_sshd(f"ForceCommand exec {shell_path(other)}").target())

    with pytest.raises(ProbeFailed, match=r"(fish|csh) read our script"):
        run(connection)
