from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading
from types import ModuleType, SimpleNamespace

import pytest

from smartsim_bridge.errors import AuthenticationRequired
from smartsim_bridge.ssh import ask
from smartsim_bridge.ssh.ask import (
    ask_notebook,
    ask_terminal,
    default_ask,
    in_turn,
    printable,
)

PROGRAM = """
from smartsim_bridge.ssh.ask import ask_terminal
from smartsim_bridge.errors import AuthenticationRequired
try:
    print("answer", repr(ask_terminal({prompt!r}, {secret!r})))
except AuthenticationRequired as error:
    print("nobody", error.what)
"""


def at_a_terminal(prompt: str, secret: bool, typed: bytes) -> str:
    """All that a terminal shows when a program asks and a person types."""
    child, terminal = pty.fork()
    if child == 0:
        program = f"import signal; signal.alarm(30)\n{PROGRAM.format(prompt=prompt, secret=secret)}"
        os.execv(sys.executable, [sys.executable, "-c", program])
    shown = b""
    try:
        while prompt.rstrip().encode()[-3:] not in shown:
            shown += os.read(terminal, 1000)
        os.write(terminal, typed)
        while part := os.read(terminal, 1000):
            shown += part
    except OSError:
        pass  # Linux tells the end of a terminal so
    finally:
        os.close(terminal)
        os.waitpid(child, 0)
    return shown.decode()


def test_a_secret_is_read_and_not_shown() -> None:
    shown = at_a_terminal("Password: ", True, b"sesame\n")
    assert shown.startswith("Password: ")
    assert "answer 'sesame'" in shown
    assert shown.count("sesame") == 1


def test_an_open_answer_is_shown_while_it_is_typed() -> None:
    shown = at_a_terminal("Continue? ", False, b"yes\n")
    assert "answer 'yes'" in shown
    assert shown.count("yes") == 2


def test_the_end_of_input_means_nobody_is_there() -> None:
    assert "nobody the terminal was closed" in at_a_terminal("Password: ", True, b"\x04")


def test_what_the_host_wants_shown_cannot_steer_the_terminal() -> None:
    assert "\x1b" not in at_a_terminal("\x1b[2Jowned: ", False, b"x\n")


def test_no_terminal_means_nobody_is_there() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(prompt="Password: ", secret=True)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        start_new_session=True,
        check=True,
    )
    assert done.stdout == "nobody there is no terminal to ask 'Password:'\n"


def test_a_background_job_does_not_stop_at_a_prompt() -> None:
    program = (
        "import os, signal, subprocess, sys\n"
        "done = subprocess.run([sys.executable, '-c', sys.argv[1]], capture_output=True,"
        " text=True, preexec_fn=os.setpgrp, timeout=60)\n"
        "print(done.stdout, end='')\n"
    )
    child, terminal = pty.fork()
    if child == 0:
        inner = PROGRAM.format(prompt="Password: ", secret=True)
        os.execv(sys.executable, [sys.executable, "-c", program, inner])
    shown = b""
    try:
        while part := os.read(terminal, 1000):
            shown += part
    except OSError:
        pass
    finally:
        os.close(terminal)
        os.waitpid(child, 0)
    assert b"nobody there is no terminal" in shown


class StdinNotImplementedError(RuntimeError):
    """As ipykernel names it."""


class Kernel:
    """What of an ipykernel is used here."""

    def getpass(self, prompt: str) -> str:
        return f"secret for {prompt}"

    def raw_input(self, prompt: str) -> str:
        if prompt == "closed":
            raise StdinNotImplementedError
        return f"open for {prompt}"


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    ipython = ModuleType("IPython")
    ipython.get_ipython = lambda: SimpleNamespace(kernel=Kernel())  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))


def test_a_notebook_asks_in_its_cell(notebook: None) -> None:
    assert default_ask() is ask_notebook
    assert ask_notebook("x", True) == "secret for x"
    assert ask_notebook("x", False) == "open for x"


def test_a_notebook_asks_from_another_thread_too(notebook: None) -> None:
    answers: list[str] = []
    thread = threading.Thread(target=lambda: answers.append(ask_notebook("x", True)))
    thread.start()
    thread.join()
    assert answers == ["secret for x"]


def test_a_notebook_without_input_channel_has_nobody(notebook: None) -> None:
    with pytest.raises(AuthenticationRequired, match="without an input channel"):
        ask_notebook("closed", False)


def test_ipython_in_a_terminal_is_no_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    ipython = ModuleType("IPython")
    ipython.get_ipython = SimpleNamespace  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    assert default_ask() is ask_terminal


def test_a_plain_script_asks_the_terminal_and_loads_no_ipython(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert default_ask() is ask_terminal
    assert "IPython" not in sys.modules
    with pytest.raises(AuthenticationRequired, match="not a notebook"):
        ask_notebook("x", False)


def test_a_second_question_waits_for_its_turn_but_not_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ask, "TURN_SECONDS", 0.05)
    begun, ended = threading.Event(), threading.Event()

    def slow(_prompt: str, _secret: bool) -> str:
        begun.set()
        ended.wait(60)
        return "late"

    first = threading.Thread(target=lambda: in_turn(slow, "first", True))
    first.start()
    try:
        begun.wait(60)
        with pytest.raises(AuthenticationRequired, match="nobody was asked 'second'"):
            in_turn(lambda _prompt, _secret: "soon", "second", True)
    finally:
        ended.set()
        first.join(60)
    assert in_turn(lambda _prompt, _secret: "soon", "third", True) == "soon"


def test_printable_keeps_words_and_drops_control() -> None:
    assert printable("Pa\x1b[31mss\x07wörd:\t\n\x85\u202e") == "Pa?[31mss?wörd:\t\n??"
