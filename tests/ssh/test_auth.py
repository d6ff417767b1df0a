"""Logging in to a real sshd: each way, several in a row, and each kind of refusal."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from smartsim_bridge.errors import AuthenticationFailed, AuthenticationRequired
from smartsim_bridge.ssh.target import Target
from tests.support.fixtures import Connect, MakeSshd
from tests.support.sshd import Sshd, make_key
from tests.support.users import User

BY_ANSWER = ("PubkeyAuthentication no", "PasswordAuthentication yes")
NO_DIALOGUE = "KbdInteractiveAuthentication no"
DIALOGUE = "KbdInteractiveAuthentication yes"


@dataclass
class Person:
    """Answers every prompt with the same, and remembers them."""

    answer: str
    prompts: list[tuple[str, bool]] = field(default_factory=list)

    def ask(self, prompt: str, secret: bool) -> str:
        self.prompts.append((prompt, secret))
        return self.answer


@pytest.fixture
def password(head_user: User) -> str:
    if head_user.password is None:
        pytest.skip("a login with a known password needs root, who makes the user")
    return head_user.password


@pytest.fixture
def agent(tmp_path: Path, needs_sshd: None) -> Iterator[str]:
    """The socket of an ssh-agent without keys."""
    path = str(tmp_path / "agent")
    with subprocess.Popen(
        ["ssh-agent", "-D", "-a", path], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield path
        process.terminate()


def add_to_agent(agent: str, key: Path) -> None:
    environment = {"SSH_AUTH_SOCK": agent, "PATH": "/usr/bin:/bin"}
    subprocess.run(["ssh-add", "-q", str(key)], env=environment, check=True, capture_output=True)


def method_of(connect: Connect, target: Target, person: Person | None = None) -> str:
    """How the login was done, as sshd and we say in accord."""
    connection = connect(target, ask=person.ask if person else None)
    assert connection.is_alive
    return connection.login


# --- keys ---------------------------------------------------------------------------------


def test_a_key_file_logs_in(sshd: Sshd, connect: Connect) -> None:
    assert method_of(connect, sshd.target()) == f"publickey {sshd.identity}"


def test_a_key_that_the_host_does_not_know_is_refused_by_name(
    sshd: Sshd, connect: Connect, tmp_path: Path
) -> None:
    key = make_key(tmp_path / "stranger")
    target = replace(sshd.target(), identities=(str(key),), methods=("publickey",))
    with pytest.raises(AuthenticationFailed, match="stranger") as caught:
        connect(target)
    assert (caught.value.host, caught.value.step) == (target.destination, "authenticate")


def test_the_second_key_logs_in_where_the_first_is_refused(
    sshd: Sshd, connect: Connect, tmp_path: Path
) -> None:
    key = make_key(tmp_path / "stranger", "ecdsa")
    target = replace(sshd.target(), identities=(str(key), str(sshd.identity)))
    assert method_of(connect, target) == f"publickey {sshd.identity}"


@pytest.mark.parametrize("kind", ["rsa", "ecdsa", "ed25519"])
def test_each_kind_of_key_logs_in(kind: str, sshd: Sshd, connect: Connect, tmp_path: Path) -> None:
    key = make_key(tmp_path / "key", kind)
    sshd.authorize(key)
    target = replace(sshd.target(), identities=(str(key),))
    assert method_of(connect, target) == f"publickey {key}"


def test_a_key_of_the_agent_logs_in(
    sshd: Sshd, connect: Connect, agent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_to_agent(agent, sshd.identity)
    target = replace(sshd.target(), identities=(), identities_only=False)
    assert method_of(connect, replace(target, identity_agent=agent)) == "publickey agent key a test"
    monkeypatch.setenv("SSH_AUTH_SOCK", agent)
    assert method_of(connect, replace(target, identity_agent=None)) == "publickey agent key a test"


def test_identities_only_leaves_the_agents_other_keys_alone(
    make_sshd: MakeSshd, connect: Connect, agent: str, tmp_path: Path
) -> None:
    running = make_sshd()
    for name in ("one", "two"):
        add_to_agent(agent, make_key(tmp_path / name))
    add_to_agent(agent, running.identity)
    target = replace(running.target(), identity_agent=agent)
    assert method_of(connect, target) == "publickey agent key a test"
    assert "Failed publickey" not in running.log
    method_of(connect, replace(target, identities_only=False, identities=()))
    assert running.log.count("Failed publickey") == 2


def test_an_agent_that_is_gone_is_passed_over(sshd: Sshd, connect: Connect, tmp_path: Path) -> None:
    target = replace(sshd.target(), identity_agent=str(tmp_path / "nobody"))
    assert method_of(connect, target) == f"publickey {sshd.identity}"


def test_too_many_keys_end_in_advice(
    make_sshd: MakeSshd, connect: Connect, agent: str, tmp_path: Path
) -> None:
    running = make_sshd("MaxAuthTries 2")
    for number in range(4):
        add_to_agent(agent, make_key(tmp_path / str(number)))
    target = replace(running.target(), identity_agent=agent, identities_only=False)
    with pytest.raises(AuthenticationFailed, match="hung up after it refused") as caught:
        connect(target)
    assert "IdentitiesOnly" in str(caught.value)


# --- passphrases --------------------------------------------------------------------------


@pytest.fixture
def locked(sshd: Sshd, tmp_path: Path) -> Path:
    """The right key, under the passphrase `sesame`."""
    key = tmp_path / "locked"
    key.write_bytes(sshd.identity.read_bytes())
    key.chmod(0o600)
    command = ["ssh-keygen", "-q", "-p", "-P", "", "-N", "sesame", "-f", str(key)]
    subprocess.run(command, check=True, capture_output=True)
    return key


def test_a_locked_key_asks_for_its_passphrase(sshd: Sshd, connect: Connect, locked: Path) -> None:
    person = Person("sesame")
    target = replace(sshd.target(), identities=(str(locked),))
    assert method_of(connect, target, person) == f"publickey {locked}"
    assert person.prompts == [(f"Enter passphrase for key '{locked}': ", True)]


def test_a_wrong_passphrase_is_asked_for_once(sshd: Sshd, connect: Connect, locked: Path) -> None:
    person = Person("wrong")
    target = replace(sshd.target(), identities=(str(locked),), methods=("publickey",))
    with pytest.raises(AuthenticationFailed, match="wrong passphrase"):
        connect(target, ask=person.ask)
    assert len(person.prompts) == 1


def test_a_locked_key_without_a_person_needs_one(
    sshd: Sshd, connect: Connect, locked: Path
) -> None:
    target = replace(sshd.target(), identities=(str(locked),), methods=("publickey",))
    with pytest.raises(AuthenticationRequired, match="needs a passphrase"):
        connect(target)


def test_no_passphrase_is_asked_for_a_key_that_the_host_would_refuse(
    sshd: Sshd, connect: Connect, tmp_path: Path
) -> None:
    person = Person("sesame")
    keys = [make_key(tmp_path / kind, kind, "sesame") for kind in ("ed25519", "rsa", "ecdsa")]
    target = replace(sshd.target(), identities=tuple(map(str, keys)), methods=("publickey",))
    with pytest.raises(AuthenticationFailed, match="ecdsa"):
        connect(target, ask=person.ask)
    assert person.prompts == []


# --- answers ------------------------------------------------------------------------------


def test_a_password_logs_in(make_sshd: MakeSshd, connect: Connect, password: str) -> None:
    running = make_sshd(*BY_ANSWER, NO_DIALOGUE)
    person = Person(password)
    assert method_of(connect, running.target(), person) == "password"
    assert person.prompts == [(f"{running.user.name}@head's password: ", True)]


def test_a_dialogue_logs_in(make_sshd: MakeSshd, connect: Connect, password: str) -> None:
    running = make_sshd(*BY_ANSWER, DIALOGUE)
    person = Person(password)
    assert method_of(connect, running.target(), person) == "keyboard-interactive"
    assert person.prompts == [(f"({running.user.name}@head) Password: ", True)]


@pytest.mark.parametrize("dialogue", [DIALOGUE, NO_DIALOGUE])
def test_a_wrong_password_is_one_failed_attempt(
    dialogue: str, make_sshd: MakeSshd, connect: Connect, password: str
) -> None:
    """Both ways are open in the first case; the refused answer is not tried on the other."""
    running = make_sshd(*BY_ANSWER, dialogue)
    person = Person("wrong")
    with pytest.raises(AuthenticationFailed):
        connect(running.target(), ask=person.ask)
    assert len(person.prompts) == 1
    log = running.wait_for_log("Connection closed by authenticating user")
    failed = [line for line in log.splitlines() if line.startswith("Failed ")]
    assert len(failed) == 1, log


@pytest.mark.parametrize("dialogue", [DIALOGUE, NO_DIALOGUE])
def test_nobody_to_ask_is_its_own_error(
    dialogue: str, make_sshd: MakeSshd, connect: Connect
) -> None:
    running = make_sshd(*BY_ANSWER, dialogue)
    with pytest.raises(AuthenticationRequired, match="assword") as caught:
        connect(running.target())
    assert caught.value.host == running.target().destination


def test_an_interrupted_prompt_closes_the_connection(make_sshd: MakeSshd, connect: Connect) -> None:
    running = make_sshd(*BY_ANSWER, DIALOGUE)

    def interrupt(_prompt: str, _secret: bool) -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        connect(running.target(), ask=interrupt)
    running.wait_for_log("[preauth]")


def test_the_end_of_input_at_a_prompt_is_nobody_there(
    make_sshd: MakeSshd, connect: Connect
) -> None:
    running = make_sshd(*BY_ANSWER, NO_DIALOGUE)

    def end(_prompt: str, _secret: bool) -> str:
        raise EOFError

    with pytest.raises(AuthenticationRequired, match="nobody answered"):
        connect(running.target(), ask=end)


# --- several in a row ---------------------------------------------------------------------


@pytest.mark.parametrize("second", ["password", "keyboard-interactive"])
def test_two_steps_log_in(
    second: str, make_sshd: MakeSshd, connect: Connect, password: str
) -> None:
    running = make_sshd(f"AuthenticationMethods publickey,{second}", DIALOGUE)
    person = Person(password)
    assert method_of(connect, running.target(), person) == f"publickey {running.identity}, {second}"
    assert len(person.prompts) == 1


def test_the_first_of_two_steps_is_no_login(make_sshd: MakeSshd, connect: Connect) -> None:
    running = make_sshd("AuthenticationMethods publickey,password")
    with pytest.raises(AuthenticationRequired):
        connect(running.target())
    with pytest.raises(AuthenticationFailed, match=r"takes password after publickey"):
        connect(replace(running.target(), methods=("publickey",)))


def test_two_keys_wanted_and_one_there_is_no_login(make_sshd: MakeSshd, connect: Connect) -> None:
    running = make_sshd("AuthenticationMethods publickey,publickey")
    with pytest.raises(AuthenticationFailed, match="after publickey"):
        connect(running.target())
