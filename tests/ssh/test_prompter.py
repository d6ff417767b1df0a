"""Who is asked what, and what ssh gets for it: with the askpass program, and without ssh."""

from __future__ import annotations

import os
import select
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from smartsim_bridge.errors import (
    AuthenticationFailed,
    AuthenticationRequired,
    CommandServerError,
)
from smartsim_bridge.ssh import prompter as room
from smartsim_bridge.ssh.ask import Ask
from smartsim_bridge.ssh.prompter import Prompter

pytestmark = pytest.mark.skipif(os.name == "nt", reason="ssh asks this way on Unix only")

QUESTION = "The authenticity ... Are you sure you want to continue connecting (yes/no)? "


class Login:
    """What a login sees of its prompter."""

    def __init__(self, directory: Path, ask: Ask | None) -> None:
        self.given_up = 0
        self.announced: list[str] = []
        self.refusal: CommandServerError | None = None
        self.prompter = Prompter(
            str(directory),
            ask,
            wants_more=lambda: False,
            refusal=lambda: self.refusal,
            announce=self.announced.append,
            give_up=self._give_up,
        )

    def _give_up(self) -> None:
        self.given_up += 1

    def take(self, prompt: str, kind: str = "") -> tuple[int, bytes]:
        """The status and the output of the program that ssh calls."""
        environment = {**os.environ, "SSH_ASKPASS_PROMPT": kind}
        with subprocess.Popen(
            [self.prompter.program, prompt], stdout=subprocess.PIPE, env=environment
        ) as asking:
            try:
                assert select.select([self.prompter], [], [], 60)[0]
                self.prompter.take()
                return asking.wait(60), asking.stdout.read() if asking.stdout else b""
            finally:
                asking.kill()


@pytest.fixture
def login(tmp_path: Path) -> Iterator[Callable[[Ask | None], Login]]:
    made: list[Login] = []

    def begin(ask: Ask | None) -> Login:
        directory = tmp_path / str(len(made))
        directory.mkdir()
        made.append(Login(directory, ask))
        return made[-1]

    yield begin
    for one in made:
        one.prompter.close()


Begin = Callable[["Ask | None"], Login]


def saying(answer: str) -> tuple[Ask, list[tuple[str, bool]]]:
    asked: list[tuple[str, bool]] = []

    def ask(prompt: str, secret: bool) -> str:
        asked.append((prompt, secret))
        return answer

    return ask, asked


def test_an_answer_goes_to_ssh_alone(login: Begin) -> None:
    ask, asked = saying("pass wörd")
    one = login(ask)
    assert one.take("Enter passphrase for key 'k': ") == (0, "pass wörd\n".encode())
    assert asked == [("Enter passphrase for key 'k': ", True)]
    assert one.given_up == 0


@pytest.mark.parametrize(("said", "given"), [("yes", "yes"), ("", "no"), ("maybe", "no")])
def test_a_question_of_ssh_takes_only_a_yes(said: str, given: str, login: Begin) -> None:
    ask, asked = saying(said)
    assert login(ask).take(QUESTION)[1].decode().strip() == given
    assert [secret for _, secret in asked] == [False]


def test_a_host_cannot_word_a_secret_as_a_question(login: Begin) -> None:
    ask, asked = saying("hunter2")
    assert login(ask).take("(me@host) Password (yes/no)? ") == (0, b"hunter2\n")
    assert [secret for _, secret in asked] == [True]


@pytest.mark.parametrize("fault", [KeyboardInterrupt, OSError, ValueError])
def test_ssh_is_ended_before_it_hears_that_nobody_answers(
    fault: type[BaseException], login: Begin
) -> None:
    def ask(prompt: str, secret: bool) -> str:
        raise fault

    one = login(ask)
    with pytest.raises(fault):
        one.take("me@host's password: ")
    assert one.given_up == 1


@pytest.mark.parametrize(
    ("prompt", "given_up"), [("me@host's password: ", 1), ("Enter passphrase for key 'k': ", 0)]
)
def test_who_cannot_answer_ends_what_a_host_would_count(
    prompt: str, given_up: int, login: Begin
) -> None:
    def ask(prompt: str, secret: bool) -> str:
        raise AuthenticationRequired("nobody")

    one = login(ask)
    assert one.take(prompt)[0] == 1
    assert isinstance(one.prompter.fault, CommandServerError)
    assert one.given_up == given_up


def test_a_touch_is_announced_and_asked_of_nobody(login: Begin) -> None:
    one = login(None)
    assert one.take("Confirm user presence for key ...", kind="none")[0] == 0
    assert one.announced == ["Confirm user presence for key ..."]


def test_whoever_asks_and_goes_is_passed_over(
    login: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask, asked = saying("secret")
    one = login(ask)
    with socket.socket(socket.AF_UNIX) as gone:
        gone.connect(str(tmp_path / "0" / "a"))
    one.prompter.take()
    one.prompter.take()  # there is nobody, and nothing to wait for
    monkeypatch.setattr(room, "PROMPT_SECONDS", 0.01)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(tmp_path / "0" / "a"))
        one.prompter.take()
    assert asked == []


def test_somebody_else_hears_nothing(
    login: Begin, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ask, asked = saying("secret")
    one = login(ask)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    if not hasattr(socket, "SO_PEERCRED"):
        pytest.skip("this kernel does not tell who connects")
    assert one.take("me@host's password: ") == (1, b"")
    assert asked == []


def test_nothing_is_asked_after_a_card_refused_a_pin(login: Begin) -> None:
    one = login(lambda _prompt, _secret: "2468")
    assert one.take("Enter PIN for 'card': ")[1] == b"2468\n"
    one.refusal = AuthenticationFailed("PIN incorrect")
    assert one.take("Enter PIN for 'card': ") == (1, b"")
    assert one.prompter.fault is one.refusal
    assert one.given_up == 0
    one.take("me@host's password: ")
    assert one.given_up == 1
