"""Questions that a real sshd cannot be made to ask, and who is asked, and from where."""

from __future__ import annotations

import gc
import threading
from types import FrameType

import paramiko
import pytest

from smartsim_bridge.deadline import Deadline
from smartsim_bridge.errors import AuthenticationFailed, AuthenticationRequired, SshFailed
from smartsim_bridge.ssh import auth, dialogue
from smartsim_bridge.ssh.ask import Unattended
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


def log_in(host: FakeHost, person: Person | None, seconds: float | None = 60.0) -> str:
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


def test_what_the_host_said_before_stands_above_the_first_prompt_only() -> None:
    rounds = [("", "", [("PIN: ", False)]), ("", "", [("Code: ", True)])]
    person = Person("sesame", "123456")
    log_in(FakeHost(rounds=rounds, banner="Use your \x1b[31mblue token.\n\n"), person)
    assert [prompt for prompt, _ in person.prompts] == [
        "Use your ?[31mblue token.\n(me@head) PIN: ",
        "(me@head) Code: ",
    ]


def test_a_banner_without_end_hides_no_prompt() -> None:
    person = Person("sesame")
    log_in(FakeHost("password", banner="x" * 30000), person)
    assert person.prompts[0][0].endswith("x\nme@head's password: ")
    assert len(person.prompts[0][0]) < 2 * auth.MAX_BANNER


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


@pytest.mark.parametrize("questions", [[], [("Once more: ", False)]])
def test_a_dialogue_that_never_ends_is_left(questions: list[tuple[str, bool]]) -> None:
    host = FakeHost(rounds=[("", "", questions)], is_endless=True)
    person = Person(*["sesame"] * 100)
    with pytest.raises(AuthenticationFailed, match="20 rounds of questions"):
        log_in(host, person)
    assert len(person.prompts) == (dialogue.MAX_ROUNDS if questions else 0)
    assert host.attempts == ["keyboard-interactive"]


def test_a_host_that_wants_a_new_password_gets_no_second_copy_of_the_old_one() -> None:
    host, person = FakeHost("password", wants_new_password=True), Person("sesame", "sesame")
    with pytest.raises(AuthenticationFailed, match="wants another password") as caught:
        log_in(host, person)
    assert "ssh once" in caught.value.advice
    assert len(person.prompts) == len(host.attempts) == 1


def test_an_empty_answer_is_an_answer() -> None:
    host, person = FakeHost(rounds=ONE), Person("", "sesame")
    with pytest.raises(AuthenticationFailed):
        log_in(host, person)
    assert host.answers == [[""]]
    assert len(person.prompts) == 1


@pytest.mark.parametrize("methods", ["password", "keyboard-interactive"])
def test_an_answer_is_kept_nowhere(methods: str) -> None:
    host = FakeHost(methods, rounds=ONE)
    secret = "".join(["ses", "ame"])  # an object of its own, to which all who know it refer
    answers = [secret]
    with transport_to(host) as transport:
        authenticate(transport, TARGET, lambda _prompt, _secret: answers.pop(), Deadline(60))
        assert transport.is_authenticated()
        others = [one for one in gc.get_referrers(secret) if not isinstance(one, FrameType)]
        assert others == []


# --- unasked ------------------------------------------------------------------------------

NOBODY = Unattended("The link was lost", "Call bridge.reconnect().")


@pytest.mark.parametrize("methods", ["keyboard-interactive,password", "password"])
def test_an_unattended_login_begins_nothing_that_needs_a_person(methods: str) -> None:
    """A dialogue that is begun may ring a phone, again with each attempt."""
    host = FakeHost(methods, rounds=[("", "Approve it on your phone.", [])])
    with transport_to(host) as transport, pytest.raises(AuthenticationRequired) as it:
        authenticate(transport, TARGET, NOBODY, Deadline(60))
    assert host.attempts == []
    assert it.value.what == f"The link was lost: the host takes {methods.replace(',', ', ')}"
    assert (it.value.host, it.value.advice) == (TARGET.destination, NOBODY.advice)


def test_an_unattended_question_is_refused() -> None:
    with pytest.raises(AuthenticationRequired, match=r"it asks 'Continue\?'"):
        NOBODY("Continue? ", False)


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
            authenticate(transport, TARGET, ask, Deadline(60))
        transport.join(60)
        assert not transport.is_active()


def test_nobody_there_is_told_with_the_question() -> None:
    with pytest.raises(AuthenticationRequired, match=r"\(me@head\) Password:"):
        log_in(FakeHost(rounds=ONE), None)


def test_a_dialogue_alone_returns_what_is_still_wanted() -> None:
    with transport_to(FakeHost(rounds=ONE)) as transport:
        with pytest.raises(paramiko.BadAuthenticationType):
            transport.auth_none("me")
        talk = Dialogue(transport, "me", lambda _heading, prompts: ["sesame" for _ in prompts])
        assert talk.run(Deadline(60)) == []
        assert transport.is_authenticated()
