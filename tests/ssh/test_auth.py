"""Logging in to a real sshd: each way, several in a row, and each kind of refusal."""

from __future__ import annotations

import re
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from smartsim_bridge.errors import AuthenticationFailed, AuthenticationRequired
from smartsim_bridge.ssh.target import Target
from tests.support.fixtures import Connect, MakeSshd
from tests.support.sshd import Sshd, make_key
from tests.support.users import User, is_root, user_of_nobody_else
from tests.support.waiting import wait_until

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
def expired_user(needs_sshd: None) -> Iterator[User]:
    """Who must choose a new password with the next login."""
    if not is_root():
        pytest.skip("making a user needs root")
    with user_of_nobody_else("ssb_dave") as user:
        subprocess.run(["chage", "-d", "0", user.name], check=True)
        yield user


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
    wait_until(lambda: running.log.count("Failed publickey") == 2)


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


def test_a_locked_key_for_the_jump_host_and_the_head_is_asked_for_once(
    make_sshd: MakeSshd, connect: Connect, tmp_path: Path
) -> None:
    gate, head = make_sshd(), make_sshd()
    key = make_key(tmp_path / "locked", passphrase="sesame")
    for running in (gate, head):
        running.authorize(key)
    hop = replace(gate.target(), identities=(str(key),))
    target = replace(head.target(), identities=(str(key),), jump=(hop.destination,), hops=(hop,))
    person = Person("sesame")
    assert method_of(connect, target, person) == f"publickey {key}"
    assert person.prompts == [(f"Enter passphrase for key '{key}': ", True)]
    # A second connection knows nothing of the first.
    connect(target, ask=person.ask)
    assert len(person.prompts) == 2


def test_passwords_of_the_jump_host_and_the_head_are_asked_for_by_name(
    make_sshd: MakeSshd, connect: Connect, password: str
) -> None:
    gate, head = make_sshd(*BY_ANSWER, DIALOGUE), make_sshd(*BY_ANSWER, NO_DIALOGUE)
    hop = replace(gate.target(), alias="gate")
    target = replace(head.target(), jump=(hop.destination,), hops=(hop,))
    person = Person(password)
    assert method_of(connect, target, person) == "password"
    assert [prompt for prompt, _ in person.prompts] == [
        f"({gate.user.name}@gate) Password: ",
        f"{head.user.name}@head's password: ",
    ]


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


@dataclass
class Attempts:
    """What a host that watches its log for failures would count."""

    connections: int
    failed: int
    accepted: int


def attempts_in(running: Sshd, last: str) -> Attempts:
    """Once all connections are over and the line `last`, too, has come through sshd's pipes."""
    wait_until(lambda: not running.session_pids())
    lines = running.wait_for_log(last).splitlines()
    starts = ("Connection from ", r"Failed \S+ for ", r"Accepted \S+ for ")
    counted = [sum(bool(re.match(start, line)) for line in lines) for start in starts]
    return Attempts(counted[0], counted[1], counted[2])


@pytest.mark.parametrize("answer", ["wrong", ""])
@pytest.mark.parametrize("lines", [[DIALOGUE], [NO_DIALOGUE], [DIALOGUE, "MaxAuthTries 1"]])
def test_a_wrong_password_is_one_failed_attempt(
    answer: str, lines: list[str], make_sshd: MakeSshd, connect: Connect, password: str
) -> None:
    running = make_sshd(*BY_ANSWER, *lines)
    person = Person(answer)
    with pytest.raises(AuthenticationFailed) as caught:
        connect(running.target(), ask=person.ask)
    assert len(person.prompts) == 1
    # Where both ways are open the refused answer is not tried on the other.
    assert attempts_in(running, "Failed ") == Attempts(1, 1, 0)
    if "MaxAuthTries 1" in lines:
        assert "hung up: Too many authentication failures" in caught.value.what


def test_a_prompt_that_nobody_can_answer_is_one_connection_without_a_failure(
    make_sshd: MakeSshd, connect: Connect
) -> None:
    running = make_sshd(*BY_ANSWER, NO_DIALOGUE)
    with pytest.raises(AuthenticationRequired, match="password"):
        connect(running.target())
    assert attempts_in(running, "[preauth]") == Attempts(1, 0, 0)


def test_a_wrong_passphrase_is_no_failure_at_the_host(
    make_sshd: MakeSshd, connect: Connect, tmp_path: Path
) -> None:
    """Nor is the password asked for: what was typed was wrong, and the person may type again."""
    running = make_sshd("PasswordAuthentication yes", NO_DIALOGUE)
    key = make_key(tmp_path / "locked", passphrase="sesame")
    running.authorize(key)
    person = Person("wrong")
    with pytest.raises(AuthenticationFailed, match="wrong passphrase"):
        connect(replace(running.target(), identities=(str(key),)), ask=person.ask)
    assert len(person.prompts) == 1
    assert attempts_in(running, "[preauth]") == Attempts(1, 0, 0)


def test_a_passphrase_that_is_left_out_leaves_the_password(
    make_sshd: MakeSshd, connect: Connect, tmp_path: Path
) -> None:
    running = make_sshd("PasswordAuthentication yes", NO_DIALOGUE)
    key = make_key(tmp_path / "locked", passphrase="sesame")
    running.authorize(key)
    person = Person("")
    with pytest.raises(AuthenticationFailed):
        connect(replace(running.target(), identities=(str(key),)), ask=person.ask)
    assert [prompt.split()[0] for prompt, _ in person.prompts] == [
        "Enter",
        f"{running.user.name}@head's",
    ]


def test_where_nobody_can_unlock_one_key_another_logs_in(
    sshd: Sshd, connect: Connect, locked: Path
) -> None:
    def nobody(_prompt: str, _secret: bool) -> str:
        raise AuthenticationRequired("there is no terminal")

    target = replace(sshd.target(), identities=(str(locked), str(sshd.identity)))
    connection = connect(target, ask=nobody)
    assert connection.login == f"publickey {sshd.identity}"


def test_an_answer_after_the_hosts_grace_time_says_so(
    make_sshd: MakeSshd, connect: Connect, password: str
) -> None:
    running = make_sshd(*BY_ANSWER, DIALOGUE, "LoginGraceTime 1")

    def slow(_prompt: str, _secret: bool) -> str:
        wait_until(lambda: not running.session_pids())  # it says nothing in its log
        return password

    with pytest.raises(AuthenticationFailed, match="hung up") as caught:
        connect(running.target(), ask=slow)
    assert re.search(r"Password:' was answered after \d+ s", caught.value.what)
    assert "LoginGraceTime" in caught.value.advice


def test_a_password_after_the_hosts_grace_time_says_so(
    make_sshd: MakeSshd, connect: Connect, password: str
) -> None:
    running = make_sshd(*BY_ANSWER, NO_DIALOGUE, "LoginGraceTime 1")

    def slow(_prompt: str, _secret: bool) -> str:
        wait_until(lambda: not running.session_pids())  # it says nothing in its log
        return password

    with pytest.raises(AuthenticationFailed, match="hung up") as caught:
        connect(running.target(), ask=slow)
    assert "LoginGraceTime" in caught.value.advice


@pytest.mark.root
def test_a_new_password_that_the_host_wants_is_the_persons_to_type(
    make_sshd: MakeSshd, connect: Connect, expired_user: User
) -> None:
    running = make_sshd(*BY_ANSWER, DIALOGUE, user=expired_user)
    fresh = secrets.token_urlsafe(18)
    old = {"Password": expired_user.password or "", "Current": expired_user.password or ""}
    asked: list[str] = []

    def ask(prompt: str, secret: bool) -> str:
        assert secret
        asked.append(re.split(r"\n|\) ", prompt)[-1].split()[0].rstrip(":"))
        return old.get(asked[-1], fresh)

    with connect(running.target(), ask=ask) as connection:
        assert connection.login == "keyboard-interactive"
    assert asked == ["Password", "Current", "New", "Retype"]
    assert attempts_in(running, "Accepted keyboard") == Attempts(1, 0, 1)
    old["Password"] = fresh
    connect(running.target(), ask=ask)
    assert len(asked) == 5


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
