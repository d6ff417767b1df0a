"""The engine on the system's ssh against a real sshd: what each failure is called, who is
asked, which login is used, and that nothing stays behind."""

from __future__ import annotations

import base64
import contextlib
import logging
import os
import re
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from smartsim_bridge.deadline import Deadline
from smartsim_bridge.errors import (
    AuthenticationFailed,
    AuthenticationRequired,
    CommandServerError,
    ForwardingRefused,
    HostKeyChanged,
    HostKeyRevoked,
    HostKeyUnknown,
    HostNameUnknown,
    HostUnreachable,
    InvalidSettings,
    MasterRequired,
    NobodyListening,
    SshFailed,
    UnsupportedSshConfig,
)
from smartsim_bridge.ssh import openssh_target as resolving
from smartsim_bridge.ssh.ask import Unattended
from smartsim_bridge.ssh.known_hosts import fingerprint
from smartsim_bridge.ssh.openssh import OpensshConnection
from smartsim_bridge.ssh.openssh_control import Control
from smartsim_bridge.ssh.openssh_master import Master
from smartsim_bridge.ssh.openssh_pipe import OpensshPipe
from smartsim_bridge.ssh.socket_directory import socket_directory
from smartsim_bridge.stages import Journey
from tests.support.fixtures import MakeSshd
from tests.support.footprint import footprint
from tests.support.heads import processes_with
from tests.support.openssh import OpenOpenssh, live_master_of, openssh_target
from tests.support.sshd import Sshd, make_key
from tests.support.users import User, is_root
from tests.support.waiting import wait_until

pytestmark = pytest.mark.sshd

CANARY = "canary-5b1f0c"


def run(connection: OpensshConnection, command: str) -> bytes:
    return connection.execute(command, deadline=Deadline(60)).stdout


def failure(open_openssh: OpenOpenssh, sshd: Sshd, **how: object) -> CommandServerError:
    with pytest.raises(CommandServerError) as caught:
        open_openssh(sshd, **how)  # type: ignore[arg-type]
    assert caught.value.host
    return caught.value


def append(sshd: Sshd, *lines: str) -> None:
    sshd.ssh_config.write_text(sshd.ssh_config.read_text() + "".join(f"  {x}\n" for x in lines))


def answering(*answers: str) -> tuple[Callable[[str, bool], str], list[tuple[str, bool]]]:
    asked: list[tuple[str, bool]] = []
    left = list(answers)

    def ask(prompt: str, secret: bool) -> str:
        asked.append((prompt, secret))
        return left.pop(0)

    return ask, asked


# --- what goes well


def test_one_login_serves_everything(make_sshd: MakeSshd, open_openssh: OpenOpenssh) -> None:
    running = make_sshd()
    journey = Journey("head")
    connection = open_openssh(running, journey=journey)
    assert run(connection, "id -un; echo $HOME").decode().split() == [
        running.user.name,
        str(running.home),
    ]
    assert connection.answers(Deadline(60))
    assert running.wait_for_log("Connection from").count("Connection from") == 1
    assert connection.login == "publickey by the system's ssh"
    assert [(one.name, one.detail) for one in journey.stages] == [
        ("authenticate", connection.login)
    ]
    assert repr(connection) == f"<OpensshConnection {connection.target.destination}, open>"


def test_close_is_final_may_be_repeated_and_leaves_nothing(
    sshd: Sshd, open_openssh: OpenOpenssh, tmp_path: Path
) -> None:
    connection = open_openssh(sshd)
    directory = Path(connection._control.path).parent
    threads = [threading.Thread(target=connection.close) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not connection.is_alive
    assert repr(connection).endswith("closed>")
    assert not directory.exists()
    with pytest.raises(SshFailed):
        connection.execute("true", deadline=Deadline(60))
    assert not connection.answers(Deadline(60))


def test_a_host_that_goes_away_is_noticed(make_sshd: MakeSshd, open_openssh: OpenOpenssh) -> None:
    running = make_sshd()
    connection = open_openssh(running)
    running.kill_sessions()
    wait_until(lambda: not connection.is_alive)
    assert repr(connection).endswith("broken>")
    with pytest.raises(SshFailed):
        connection.open_stdio("cat")


def test_what_the_user_configured_for_himself_does_not_disturb(
    make_sshd: MakeSshd, open_openssh: OpenOpenssh
) -> None:
    running = make_sshd()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        append(
            running,
            f"LocalForward {port} 127.0.0.1:{port}",
            "ExitOnForwardFailure yes",
            "RemoteCommand echo not this",
            "RequestTTY force",
            "PermitLocalCommand yes",
            "LocalCommand echo nor this",
            "ForwardAgent yes",
            "ControlMaster auto",
            "ControlPersist 60",
            "LogLevel QUIET",
            "StrictHostKeyChecking no",
        )
        connection = open_openssh(running)
        assert run(connection, "echo this; tty; echo $SSH_AUTH_SOCK") == b"this\nnot a tty\n\n"


def test_slots_of_one_session_at_a_time_are_taken_in_turn(
    make_sshd: MakeSshd, open_openssh: OpenOpenssh
) -> None:
    running = make_sshd("MaxSessions 1")
    connection = open_openssh(running)
    for number in range(5):
        assert run(connection, f"echo {number}") == b"%d\n" % number
    pipe = connection.open_stdio("cat")
    with pytest.raises(SshFailed, match="refused") as caught:
        connection.open_stdio("cat")
    assert "MaxSessions" in caught.value.advice
    assert "ControlMaster" not in caught.value.advice
    assert connection.answers(Deadline(60))
    pipe.close()
    assert running.wait_for_log("Connection from").count("Connection from") == 1


def test_a_jump_host_of_the_config_is_passed(
    make_sshd: MakeSshd, open_openssh: OpenOpenssh, tmp_path: Path
) -> None:
    gate, goal = make_sshd(), make_sshd()
    text = gate.ssh_config.read_text().replace("Host head", "Host gate")
    config = tmp_path / "config"
    config.write_text(text + goal.ssh_config.read_text() + "  ProxyJump gate\n")
    assert run(open_openssh(goal, ssh_config=str(config)), "echo there") == b"there\n"
    assert gate.wait_for_log("Accepted publickey for").count("Accepted publickey for") == 1


@pytest.mark.parametrize("name", ["two words", 'a "quote"', "100% [mine]*"])
def test_a_named_file_is_read_as_ssh_reads_it(
    name: str, make_sshd: MakeSshd, open_openssh: OpenOpenssh, tmp_path: Path
) -> None:
    running = make_sshd()
    config = tmp_path / name
    # A file that others can write to is taken where it was named.
    config.write_text(running.ssh_config.read_text())
    config.chmod(0o666)
    assert run(open_openssh(running, ssh_config=str(config)), "echo on") == b"on\n"


# --- masters


def test_a_master_that_refuses_a_session_leads_to_no_other_login(
    make_sshd: MakeSshd, open_openssh: OpenOpenssh
) -> None:
    running = make_sshd("MaxSessions 1")
    with live_master_of(running):
        connection = open_openssh(running)
        pipe = connection.open_stdio("cat")
        with pytest.raises(SshFailed) as caught:
            connection.open_stdio("cat")
        assert "your ControlMaster: end another session of it" in caught.value.advice
        assert 'ssh="paramiko"' in caught.value.advice
        pipe.close()
        connection.close()
        again = open_openssh(running, only_master=True)
        assert run(again, "echo on") == b"on\n"
    wait_until(lambda: not again.is_alive)
    with pytest.raises(SshFailed):
        again.open_stdio("cat")
    assert running.wait_for_log("Connection from").count("Connection from") == 1


def test_no_master_is_told_with_the_command_to_type(
    make_sshd: MakeSshd, open_openssh: OpenOpenssh
) -> None:
    running = make_sshd()
    error = failure(open_openssh, running, only_master=True, user="me$you")
    assert isinstance(error, MasterRequired)
    assert "ssh -fN -o ControlMaster=auto -S " in error.advice
    assert "-l 'me$you' -- head" in error.advice
    assert "Connection from" not in running.log


def test_a_file_in_the_masters_place_is_no_master(
    make_sshd: MakeSshd, open_openssh: OpenOpenssh
) -> None:
    running = make_sshd()
    append(running, f"ControlPath {running.near_home}/file")
    (running.near_home / "file").write_text("no socket")
    assert isinstance(failure(open_openssh, running, only_master=True), MasterRequired)


def test_what_a_command_says_before_ssh_tells_that_it_began_is_kept(sshd: Sshd) -> None:
    """The master writes it to where ssh's own words go, and ssh may be slow to say them."""
    fast = (
        "OpenSSH_9.2p1\r\ndebug1: Reading configuration data /dev/null\r\n"
        "why\nnot debug1: mux_client_request_session: master session id: 2\r\nlater\n"
    )

    class Fast(Control):
        def command(self, *words: str, options: tuple[str, ...] = ()) -> list[str]:
            return ["/bin/sh", "-c", 'printf %s "$1" >&2; exit 6', "sh", fast]

    control = Fast(openssh_target(sshd), "/nowhere")
    pipe = OpensshPipe(control, "true", "head", Deadline(60))
    pipe.wait()
    assert (pipe.status, pipe.noise) == (6, "why\nnot later\n")
    pipe.close()


def test_what_uses_a_master_of_the_user_ends_with_the_connection(
    make_sshd: MakeSshd, open_openssh: OpenOpenssh, echo: int, tmp_path: Path
) -> None:
    running = make_sshd()
    with live_master_of(running):
        connection = open_openssh(running)
        pipe = connection.open_stdio("cat")
        place = connection.forward(
            "127.0.0.1", echo, directory=str(tmp_path), deadline=Deadline(60)
        )
        path = Path(place.endpoint[len("ipc://") :])
        assert path.exists()
        connection.close()
        assert not place.is_alive
        assert not path.parent.exists()
        assert repr(pipe).endswith("closed>")
        assert run(open_openssh(running, only_master=True), "echo on") == b"on\n"


def test_a_command_that_goes_on_holds_nothing_here(
    make_sshd: MakeSshd, open_openssh: OpenOpenssh
) -> None:
    running = make_sshd()
    with live_master_of(running):
        connection = open_openssh(running)
        before = footprint(os.getpid()).handles
        pipe = connection.open_stdio("echo $$ >&2; exec sleep 600")
        wait_until(lambda: pipe.noise.endswith("\n"))
        pipe.close()
        # What other tests have left may still go, too.
        wait_until(lambda: _has_no_more_than(before))
        assert run(connection, f"kill {pipe.noise.split()[-1]}; echo on") == b"on\n"


def _has_no_more_than(before: tuple[int, int]) -> bool:
    return all(now <= then for now, then in zip(footprint(os.getpid()).handles, before))


def test_a_master_whose_place_has_an_awkward_name_is_found(
    make_sshd: MakeSshd, open_openssh: OpenOpenssh
) -> None:
    running = make_sshd()
    place = running.near_home / "100% mine"
    place.mkdir()
    with live_master_of(running, str(place).replace("%", "%%") + "/cm-%C"):
        assert run(open_openssh(running, only_master=True), "echo on") == b"on\n"


def test_a_home_with_an_awkward_name_takes_the_suggested_master(
    make_sshd: MakeSshd, tmp_path: Path
) -> None:
    home = tmp_path / "100% mine"
    target = resolving.resolve_openssh_target(
        "head", ssh_config=str(make_sshd().ssh_config), home=str(home), deadline=Deadline(60)
    )
    assert target.control_path.startswith(f"{home}/.ssh/ssb-")


def test_a_link_of_somebody_else_leads_to_no_master_of_ours(
    make_sshd: MakeSshd, open_openssh: OpenOpenssh, tmp_path: Path
) -> None:
    if not is_root():
        pytest.skip("giving a link away needs root")
    one, other = make_sshd(), make_sshd()
    with live_master_of(one) as path:
        link = tmp_path / "link"
        link.symlink_to(path)
        append(other, f"ControlPath {link}")
        open_openssh(other, only_master=True)  # it is ours, and so our own business
        os.lchown(link, 12345, -1)
        assert isinstance(failure(open_openssh, other, only_master=True), MasterRequired)


def test_an_ssh_that_is_another_program_is_told(
    sshd: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolving, "find_ssh", lambda: "/bin/true")
    with pytest.raises(UnsupportedSshConfig, match="does not speak"):
        openssh_target(sshd)


# --- what goes wrong


def test_what_the_system_refuses_names_the_host(
    sshd: Sshd, open_openssh: OpenOpenssh, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object, **_keywords: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    target = openssh_target(sshd)
    monkeypatch.setattr("subprocess.Popen", refuse)
    with pytest.raises(SshFailed, match="Resource") as caught:
        OpensshConnection.open(
            target, ask=None, directory="/tmp", deadline=Deadline(60), journey=Journey("head")
        )
    assert (caught.value.host, caught.value.step) == (target.destination, "authenticate")
    with pytest.raises(SshFailed, match="Resource"):
        openssh_target(sshd)


def test_an_unknown_host_is_sent_no_login(make_sshd: MakeSshd, open_openssh: OpenOpenssh) -> None:
    running = make_sshd()
    running.known_hosts.unlink()
    error = failure(open_openssh, running)
    assert isinstance(error, HostKeyUnknown)
    assert error.step == "host key"
    assert "Accepted" not in running.log


def test_no_configuration_lets_an_unknown_key_pass(
    make_sshd: MakeSshd, open_openssh: OpenOpenssh
) -> None:
    running = make_sshd()
    running.known_hosts.unlink()
    append(running, "NoHostAuthenticationForLocalhost yes", "StrictHostKeyChecking off")
    assert isinstance(failure(open_openssh, running), HostKeyUnknown)


def test_a_proxy_command_that_fails_or_hangs_is_named(
    make_sshd: MakeSshd, open_openssh: OpenOpenssh
) -> None:
    running = make_sshd()
    plain = running.ssh_config.read_text()
    for command, seconds in (("cat /no/such/file", 60.0), ("sleep 600", 1.0)):
        running.ssh_config.write_text(f"{plain}  ProxyCommand {command}\n")
        error = failure(open_openssh, running, seconds=seconds)
        assert type(error) is SshFailed
        assert f"by the ProxyCommand `{command}`" in error.what
        assert ("No such file" in error.what) is (seconds > 1)


def test_a_changed_key_is_told_with_its_fingerprint(
    make_sshd: MakeSshd, open_openssh: OpenOpenssh, tmp_path: Path
) -> None:
    running = make_sshd()
    other = Path(f"{make_key(tmp_path / 'other')}.pub").read_text()
    running.known_hosts.write_text(f"[127.0.0.1]:{running.port} {other}")
    error = failure(open_openssh, running, host_keys="accept-new", ask=answering("yes")[0])
    assert isinstance(error, HostKeyChanged)
    expected = fingerprint(base64.b64decode(other.split()[1]))
    assert error.fingerprint.startswith("SHA256:")
    assert error.expected == (expected,)
    assert error.fingerprint in error.what
    assert f"{expected} at {running.known_hosts}:1" in error.what


def test_a_revoked_key_is_told(make_sshd: MakeSshd, open_openssh: OpenOpenssh) -> None:
    running = make_sshd()
    running.known_hosts.write_text(f"@revoked {running.known_hosts.read_text()}")
    assert isinstance(failure(open_openssh, running), HostKeyRevoked)


def test_a_new_key_is_accepted_where_that_was_asked_for(
    make_sshd: MakeSshd, open_openssh: OpenOpenssh
) -> None:
    running = make_sshd()
    running.known_hosts.unlink()
    open_openssh(running, host_keys="accept-new")
    assert running.host_key_lines[0] in running.known_hosts.read_text()


@pytest.mark.parametrize("answer", ["yes", "no", "", "whatever"])
def test_a_person_is_asked_about_an_unknown_key(
    answer: str, make_sshd: MakeSshd, open_openssh: OpenOpenssh
) -> None:
    running = make_sshd()
    running.known_hosts.unlink()
    ask, asked = answering(answer)
    if answer == "yes":
        open_openssh(running, ask=ask)
    else:
        error = failure(open_openssh, running, ask=ask)
        assert isinstance(error, HostKeyUnknown)
        assert error.fingerprint.startswith("SHA256:")
        assert error.fingerprint in error.what
    ((prompt, secret),) = asked
    assert "SHA256:" in prompt
    assert not secret


def test_a_refused_key_is_an_authentication_that_failed(
    make_sshd: MakeSshd, open_openssh: OpenOpenssh, tmp_path: Path
) -> None:
    running = make_sshd("AuthenticationMethods publickey")
    running._authorized_keys.write_text("")
    error = failure(open_openssh, running)
    assert type(error) is AuthenticationFailed
    assert "Permission denied (publickey)" in error.what


def test_where_a_person_is_wanted_and_there_is_none_that_is_said(
    make_sshd: MakeSshd, open_openssh: OpenOpenssh
) -> None:
    running = make_sshd("AuthenticationMethods password", "PasswordAuthentication yes")
    assert isinstance(failure(open_openssh, running), AuthenticationRequired)
    unattended = Unattended("the link was lost", "call reconnect")
    error = failure(open_openssh, running, ask=unattended)
    assert isinstance(error, AuthenticationRequired)
    assert error.advice == "call reconnect"
    assert "Failed password" not in running.log


def test_nobody_on_the_port_is_unreachable(sshd: Sshd, open_openssh: OpenOpenssh) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    journey = Journey("head")
    error = failure(open_openssh, sshd, ssh_port=port, journey=journey)
    assert type(error) is HostUnreachable
    assert error.step == "connect"
    assert [(one.name, one.failed) for one in journey.stages] == [("connect", True)]


def test_a_name_without_address_is_unknown(make_sshd: MakeSshd, open_openssh: OpenOpenssh) -> None:
    running = make_sshd()
    text = running.ssh_config.read_text().replace("127.0.0.1\n", "no-such-host.invalid\n")
    running.ssh_config.write_text(text)
    assert isinstance(failure(open_openssh, running), HostNameUnknown)


@pytest.mark.parametrize("seconds", [0.3, 2.0])
def test_a_silent_port_is_given_up_in_time(
    seconds: float, sshd: Sshd, open_openssh: OpenOpenssh
) -> None:
    began = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        error = failure(open_openssh, sshd, ssh_port=port, seconds=seconds)
    assert type(error) is SshFailed
    assert time.monotonic() - began < seconds + 60


def test_no_common_algorithm_is_told(make_sshd: MakeSshd, open_openssh: OpenOpenssh) -> None:
    error = failure(open_openssh, make_sshd("Ciphers 3des-cbc"))
    assert "no matching cipher" in error.what


def test_a_banner_is_no_reason(
    make_sshd: MakeSshd, open_openssh: OpenOpenssh, tmp_path: Path
) -> None:
    banner = tmp_path / "banner"
    banner.write_text(
        "Is it said 'Could not resolve hostname' or 'Host key verification failed.'?\n"
    )
    running = make_sshd(f"Banner {banner}")
    running._authorized_keys.write_text("")
    assert type(failure(open_openssh, running)) in (AuthenticationFailed, AuthenticationRequired)


@pytest.mark.parametrize("name", ["100%h", "a:b", "two words", "${HOME}"])
def test_a_runtime_directory_with_an_awkward_name_is_left(
    name: str,
) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        parent = os.path.join(short, name)
        made = socket_directory(parent)
        try:
            assert not made.startswith(short)
            assert os.listdir(parent) == []
        finally:
            os.rmdir(made)


def test_a_login_that_is_given_up_leaves_nothing_to_whoever_ends_now(sshd: Sshd) -> None:
    made = socket_directory("/tmp")
    master = Master(openssh_target(sshd), ["sleep", "600"], made, {})
    try:
        master.give_up()
        # Nobody else will: Ctrl-C at the prompt may end the program before `close` is reached.
        assert not os.path.exists(made)
        assert master.output.read() == b""
    finally:
        master.close()


def test_a_proxy_that_fails_is_quoted(make_sshd: MakeSshd, open_openssh: OpenOpenssh) -> None:
    running = make_sshd()
    append(running, "ProxyCommand sh -c 'printf \"no \\033[1mway\\n\" >&2; exit 3'")
    error = failure(open_openssh, running)
    assert type(error) is SshFailed
    assert "no ?[1mway" in error.what


def test_what_ssh_itself_does_not_accept_is_told(
    make_sshd: MakeSshd, open_openssh: OpenOpenssh
) -> None:
    running = make_sshd()
    append(running, "NoSuchKeyword yes")
    error = failure(open_openssh, running)
    assert isinstance(error, UnsupportedSshConfig)
    assert "nosuchkeyword" in error.what


def test_an_identity_that_is_no_file_is_told(sshd: Sshd) -> None:
    with pytest.raises(InvalidSettings):
        openssh_target(sshd, identity="/no/such/key")


def test_without_a_usable_ssh_that_is_said(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolving, "find_ssh", lambda: None)
    with pytest.raises(UnsupportedSshConfig, match="not on PATH") as caught:
        openssh_target(sshd)
    assert "paramiko" in caught.value.advice


# --- prompts


@pytest.fixture
def password(head_user: User) -> str:
    if not is_root() or head_user.password is None:
        pytest.skip("logging in with a password needs root")
    return head_user.password


@pytest.mark.parametrize("method", ["password", "keyboard-interactive"])
def test_a_secret_reaches_ssh_and_nothing_else(
    method: str,
    password: str,
    make_sshd: MakeSshd,
    open_openssh: OpenOpenssh,
    caplog: pytest.LogCaptureFixture,
) -> None:
    running = make_sshd(
        f"AuthenticationMethods {method}",
        "PasswordAuthentication yes",
        "KbdInteractiveAuthentication yes",
    )
    caplog.set_level(logging.DEBUG)
    threads = []

    def ask(prompt: str, secret: bool) -> str:
        threads.append(threading.current_thread())
        assert secret
        assert "assword" in prompt
        return password

    connection = open_openssh(running, ask=ask)
    assert threads == [threading.current_thread()]
    assert connection.login == f"{method} by the system's ssh"
    seen = [*_seen_of_our_processes(), caplog.text, repr(connection), repr(vars(connection))]
    directory = Path(connection._control.path).parent
    seen += [path.read_text() for path in directory.iterdir() if path.is_file()]
    assert not [text for text in seen if password in text]


def _seen_of_our_processes() -> Iterator[str]:
    """What `ps` shows of everything that runs, and the environments that we may read."""
    for entry in Path("/proc").iterdir():
        for name in ("cmdline", "environ"):
            with contextlib.suppress(OSError):
                yield (entry / name).read_bytes().decode("utf-8", "replace")


@pytest.mark.parametrize("methods", ["password", "keyboard-interactive", "any"])
def test_a_wrong_answer_is_one_attempt(
    methods: str, password: str, make_sshd: MakeSshd, open_openssh: OpenOpenssh
) -> None:
    running = make_sshd(
        "PubkeyAuthentication no",
        f"AuthenticationMethods {methods}",
        "PasswordAuthentication yes",
        "KbdInteractiveAuthentication yes",
    )
    ask, asked = answering(CANARY, CANARY, CANARY)
    error = failure(open_openssh, running, ask=ask)
    assert type(error) is AuthenticationFailed
    assert len(asked) == 1
    wait_until(lambda: not running.session_pids())
    assert len(re.findall(r"^Failed \S+ for", running.wait_for_log("Failed "), re.MULTILINE)) == 1
    assert CANARY not in f"{error!r}{error}{running.log}"


def test_nobody_who_answers_is_told_as_he_says_it(
    password: str, make_sshd: MakeSshd, open_openssh: OpenOpenssh
) -> None:
    running = make_sshd("AuthenticationMethods password", "PasswordAuthentication yes")

    def ask(prompt: str, secret: bool) -> str:
        raise AuthenticationRequired("there is no terminal")

    error = failure(open_openssh, running, ask=ask)
    assert isinstance(error, AuthenticationRequired)
    assert (error.what, error.step) == ("there is no terminal", "authenticate")
    wait_until(lambda: not running.session_pids())
    assert "Failed password" not in running.wait_for_log("[preauth]")


def test_an_interrupted_prompt_leaves_nothing(
    password: str, make_sshd: MakeSshd, open_openssh: OpenOpenssh, tmp_path: Path
) -> None:
    running = make_sshd("AuthenticationMethods password", "PasswordAuthentication yes")

    def ask(prompt: str, secret: bool) -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_openssh(running, ask=ask)
    wait_until(lambda: running.session_pids() == [])
    assert processes_with("-F", str(running.ssh_config)) == []


def test_a_locked_key_asks_for_its_passphrase(
    make_sshd: MakeSshd, open_openssh: OpenOpenssh
) -> None:
    running = make_sshd("AuthenticationMethods publickey")
    locked = make_key(running.near_home / ".ssh" / "locked", passphrase="sesame")
    running._authorized_keys.write_text("")
    running.authorize(locked)
    ask, asked = answering("sesame")
    open_openssh(running, ask=ask, identity=str(locked))
    ((prompt, secret),) = asked
    assert "passphrase" in prompt
    assert secret


# --- forwarding


@pytest.fixture
def echo() -> Iterator[int]:
    """A port that gives back what it gets, and says nothing before."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    accepted, _ = listener.accept()
                    with accepted:
                        while data := accepted.recv(100):
                            accepted.sendall(data)

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def forwarded(connection: OpensshConnection, port: int, directory: Path) -> str:
    forward = connection.forward("127.0.0.1", port, directory=str(directory), deadline=Deadline(60))
    try:
        assert forward.is_alive
        path = forward.endpoint[len("ipc://") :]
        assert os.stat(os.path.dirname(path)).st_mode & 0o077 == 0
        with socket.socket(socket.AF_UNIX) as stream:
            stream.settimeout(60)
            stream.connect(path)
            stream.sendall(b"hello")
            assert stream.recv(100) == b"hello"
        return path
    finally:
        forward.close()
        assert not forward.is_alive


@pytest.mark.parametrize("of", ["ours", "the user's"])
def test_a_port_of_the_host_is_reached(
    of: str, echo: int, make_sshd: MakeSshd, open_openssh: OpenOpenssh, tmp_path: Path
) -> None:
    running = make_sshd()
    with contextlib.ExitStack() as stack:
        if of != "ours":
            stack.enter_context(live_master_of(running))
        path = forwarded(open_openssh(running), echo, tmp_path)
        assert not os.path.exists(os.path.dirname(path))
        # The listener in the master is gone as well: the same place may be used again.
        assert run(open_openssh(running), "echo on") == b"on\n"


def test_the_end_of_our_master_leaves_no_socket_of_a_port(
    echo: int, sshd: Sshd, open_openssh: OpenOpenssh, tmp_path: Path
) -> None:
    """Its supervisor removes what a program that was killed could not."""
    connection = open_openssh(sshd)
    directory = str(tmp_path)
    forward = connection.forward("127.0.0.1", echo, directory=directory, deadline=Deadline(60))
    path = forward.endpoint[len("ipc://") :]
    assert os.path.exists(path)
    connection.close()
    assert not os.path.exists(os.path.dirname(path))


@pytest.mark.parametrize("line", ["AllowTcpForwarding no", "PermitOpen none"])
def test_forbidden_forwarding_is_told(
    line: str, echo: int, make_sshd: MakeSshd, open_openssh: OpenOpenssh, tmp_path: Path
) -> None:
    connection = open_openssh(make_sshd(line))
    with pytest.raises(ForwardingRefused, match="administratively prohibited"):
        forwarded(connection, echo, tmp_path)
    assert run(connection, "echo on") == b"on\n"


def test_a_port_where_nobody_listens_is_told(
    sshd: Sshd, open_openssh: OpenOpenssh, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(NobodyListening, match="Connection refused"):
        forwarded(open_openssh(sshd), port, tmp_path)


def test_a_master_of_the_user_does_not_tell_which(
    make_sshd: MakeSshd, open_openssh: OpenOpenssh, echo: int, tmp_path: Path
) -> None:
    running = make_sshd("AllowTcpForwarding no")
    with live_master_of(running), pytest.raises(ForwardingRefused, match="or nobody listens"):
        forwarded(open_openssh(running), echo, tmp_path)


def test_a_broken_connection_forwards_nothing(
    make_sshd: MakeSshd, open_openssh: OpenOpenssh, echo: int, tmp_path: Path
) -> None:
    running = make_sshd()
    connection = open_openssh(running)
    running.kill_sessions()
    wait_until(lambda: not connection.is_alive)
    with pytest.raises(SshFailed):
        forwarded(connection, echo, tmp_path)
