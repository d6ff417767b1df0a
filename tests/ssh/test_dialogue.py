"""Questions that a real sshd cannot be made to ask, and who is asked, and from where."""

from __future__ import annotations

import threading

import paramiko
import pytest

from smartsim_bridge.deadline import Deadline
from smartsim_bridge.errors import AuthenticationFailed, AuthenticationRequired, SshFailed
from smartsim_bridge.ssh import auth, dialogue
from smartsim_bridge.ssh.auth import authenticate
from smartsim_bridge.ssh.dialogue import Dialogue
from smartsim_bridge.ssh.target import Target
from tests.support.fake_ssh_host import FakeHost, transport_to

TARGET = Target("head", "head", "head.site", 22, "me", identity_agent="none")

ONE = [("", "", [("Password: ", False)])]


class Person:
    """Answers in turn, and remembers what was asked from which thread."""

    def __init__(self, *answers: str) -> None:
        self._answers = list(answers)
        self.prompts: list[tuple[str, bool]] = []
        self.threads: set[threading.Thread] = set()

    def ask(self, prompt: str, secret: bool) -> str:
        self.prompts.append((prompt, secret))
        self.threads.add(threading.current_thread())
        return self._answers.pop(0)


def log_in(host: FakeHost, person: Person | None, seconds: float | None = 10.0) -> str:
    with transport_to(host) as transport:
        ask = person.ask if person else None
        how = authenticate(transport, TARGET, ask, Deadline(seconds))
        assert transport.is_authenticated()
        return how


def test_every_prompt_of_every_round_is_asked_and_named() -> None:
    host = FakeHost(
        rounds=[
            ("Welcome", "Two factors.", [("Password: ", False), ("Shown: ", True)]),
            ("", "", [("Code: ", True)]),
        ]
    )
    person = Person("sesame", "open", "123456")
    assert log_in(host, person) == "keyboard-interactive"
    assert host.answers == [["sesame", "open"], ["123456"]]
    assert person.prompts == [
        ("Welcome\nTwo factors.\n(me@head) Password: ", True),
        ("(me@head) Shown: ", False),
        ("(me@head) Code: ", False),
    ]


def test_questions_are_asked_from_the_callers_thread() -> None:
    person = Person("sesame")
    log_in(FakeHost(rounds=ONE), person)
    assert person.threads == {threading.current_thread()}


def test_what_the_host_says_cannot_steer_the_terminal() -> None:
    person = Person("sesame")
    log_in(FakeHost(rounds=[("\x1b[2J", "", [("Pass\x1b]0;x\x07word: ", False)])]), person)
    assert "\x1b" not in person.prompts[0][0]


def test_a_dialogue_without_questions_needs_nobody() -> None:
    """As with a push message to a phone."""
    assert log_in(FakeHost(rounds=[("", "Approve it.", [])]), None) == "keyboard-interactive"


def test_a_dialogue_that_asks_nothing_and_fails_leaves_the_password() -> None:
    host, person = FakeHost(rounds=()), Person("sesame")
    assert log_in(host, person) == "password"
    assert host.attempts == ["keyboard-interactive", "password"]


def test_a_refused_answer_is_not_tried_as_the_password_too() -> None:
    host, person = FakeHost(rounds=ONE), Person("wrong", "sesame")
    with pytest.raises(AuthenticationFailed, match="keyboard-interactive"):
        log_in(host, person)
    assert host.attempts == ["keyboard-interactive"]


def test_a_person_may_take_longer_than_the_deadline() -> None:
    """A code that was fetched slowly is still of use."""
    assert log_in(FakeHost(rounds=ONE), Person("sesame"), seconds=0.0) == "keyboard-interactive"


def test_a_host_that_swallows_the_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialogue, "ANSWER_SECONDS", 0.2)
    with pytest.raises(SshFailed, match="does not react"):
        log_in(FakeHost(rounds=ONE, is_silent=True), Person("sesame"), seconds=0.0)


def test_a_host_that_swallows_the_password_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "ANSWER_SECONDS", 0.2)
    with pytest.raises(SshFailed, match="does not answer"):
        log_in(FakeHost("password", is_silent=True), Person("sesame"), seconds=0.0)


def test_a_host_that_wants_one_step_more_for_ever_is_left() -> None:
    person = Person(*["sesame"] * 100)
    with pytest.raises(AuthenticationFailed):
        log_in(FakeHost("password", wants_more=True), person)
    assert len(person.prompts) == auth.MAX_STEPS


def test_a_host_that_wants_nothing_lets_in() -> None:
    assert log_in(FakeHost(takes_none=True), None) == "none"


def test_a_host_that_takes_nothing_that_we_have_says_what_it_takes() -> None:
    with pytest.raises(AuthenticationFailed, match="takes gssapi-with-mic"):
        log_in(FakeHost("gssapi-with-mic"), None)


def test_an_ask_that_breaks_is_raised_as_it_is_and_ends_the_connection() -> None:
    def ask(_prompt: str, _secret: bool) -> str:
        raise ZeroDivisionError

    with transport_to(FakeHost(rounds=ONE)) as transport:
        with pytest.raises(ZeroDivisionError):
            authenticate(transport, TARGET, ask, Deadline(10))
        transport.join(5)
        assert not transport.is_active()


def test_nobody_there_is_told_with_the_question() -> None:
    with pytest.raises(AuthenticationRequired, match=r"\(me@head\) Password:"):
        log_in(FakeHost(rounds=ONE), None)


def test_a_dialogue_alone_returns_what_is_still_wanted() -> None:
    with transport_to(FakeHost(rounds=ONE)) as transport:
        with pytest.raises(paramiko.BadAuthenticationType):
            transport.auth_none("me")
        talk = Dialogue(transport, "me", lambda _heading, prompts: ["sesame" for _ in prompts])
        assert talk.run(Deadline(10)) == []
        assert transport.is_authenticated()
