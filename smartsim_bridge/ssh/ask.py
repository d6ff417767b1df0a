"""Who answers a prompt: the person at the terminal, or in front of the notebook.

`Ask` is what the user may pass as `ask=`; the two functions here are its defaults.  Both
raise AuthenticationRequired where nobody can answer, and neither keeps an answer.
`Unattended` stands in the place of a person where a login happens unasked.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..errors import AuthenticationRequired
from .console import ask_console

__all__ = [
    "Ask",
    "Unattended",
    "ask_notebook",
    "ask_terminal",
    "default_ask",
    "in_turn",
    "printable",
]

# Takes the prompt and whether the answer is a secret; returns the answer.
Ask = Callable[[str, bool], str]


@dataclass(frozen=True)
class Unattended:
    """Answers nothing: whoever logs in with it must not even begin what a person would finish.

    A question that is put may already have sent a message to somebody's phone, and a login
    that is broken off at a question counts against the account at some sites.
    """

    why: str
    advice: str

    def __call__(self, prompt: str, secret: bool) -> str:
        """Raises AuthenticationRequired."""
        raise AuthenticationRequired(
            f"{self.why}: it asks {prompt.strip()!r}", step="login", advice=self.advice
        )


_IS_WINDOWS = os.name == "nt"

# Two prompts at a time would get each other's answer.
_one_at_a_time = threading.Lock()

# No host waits longer as a rule; and a prompt that somebody ran away from may never end.
TURN_SECONDS = 120.0


def default_ask() -> Ask:
    """The notebook where this runs in one, else the terminal."""
    return ask_notebook if _kernel() is not None else ask_terminal


def in_turn(ask: Ask, prompt: str, secret: bool) -> str:
    """The answer to one prompt, put when no other of this process is open."""
    if not _one_at_a_time.acquire(timeout=TURN_SECONDS):
        raise AuthenticationRequired(
            f"another question has been open for {TURN_SECONDS:.0f} s, so nobody was asked "
            f"{prompt.strip()!r}"
        )
    try:
        return ask(prompt, secret)
    finally:
        _one_at_a_time.release()


def printable(text: str) -> str:
    """Text of the host without what could steer a terminal or forge another line."""
    return "".join(char if char.isprintable() or char in "\n\t" else "?" for char in text)


def ask_notebook(prompt: str, secret: bool) -> str:
    """Asks through the input field of the running cell."""
    kernel = _kernel()
    if kernel is None:
        raise AuthenticationRequired("this is not a notebook")
    try:
        # The kernel's own: `input` and `getpass` are diverted to it only while a cell runs
        # in the main thread, and we may be in another one.
        answer = kernel.getpass(prompt) if secret else kernel.raw_input(prompt)
    # The class lives in ipykernel, which we must not import: StdinNotImplementedError.
    except RuntimeError as error:
        raise AuthenticationRequired(
            f"this notebook cannot ask {prompt.strip()!r}: it runs without an input channel"
        ) from error
    return str(answer)


def _kernel() -> Any:
    """The ipykernel that we run in, without importing IPython for the question."""
    shell = sys.modules.get("IPython")
    if shell is None or "ipykernel" not in sys.modules:
        return None
    return getattr(shell.get_ipython(), "kernel", None)


def ask_terminal(prompt: str, secret: bool) -> str:
    """Asks on the controlling terminal, whatever standard input and output are."""
    if _IS_WINDOWS:
        return _at_the_console(prompt, secret)
    with _terminal(prompt) as descriptor:
        shown = printable(prompt).encode("utf-8", "replace")
        if not secret:
            os.write(descriptor, shown)
            return _read_line(descriptor, prompt)
        # Silent before the prompt is seen, or a quick answer is half shown and half lost.
        with _no_echo(descriptor):
            os.write(descriptor, shown)
            answer = _read_line(descriptor, prompt)
        os.write(descriptor, b"\n")
        return answer


def _at_the_console(prompt: str, secret: bool) -> str:
    try:
        return ask_console(printable(prompt), secret)
    except OSError as error:
        raise AuthenticationRequired(f"there is no terminal to ask {prompt.strip()!r}") from error
    except EOFError as error:
        raise AuthenticationRequired(f"the terminal was closed at {prompt.strip()!r}") from error


@contextmanager
def _terminal(prompt: str) -> Iterator[int]:
    nobody = AuthenticationRequired(f"there is no terminal to ask {prompt.strip()!r}")
    try:
        descriptor = os.open("/dev/tty", os.O_RDWR | getattr(os, "O_NOCTTY", 0))
    except OSError as error:
        raise nobody from error
    try:
        # Reading from the background would stop the whole job without a word.
        if os.tcgetpgrp(descriptor) != os.getpgrp():
            raise nobody
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _no_echo(descriptor: int) -> Iterator[None]:
    import termios

    before = termios.tcgetattr(descriptor)
    silent = termios.tcgetattr(descriptor)
    silent[3] &= ~termios.ECHO
    restore = partial(termios.tcsetattr, descriptor, termios.TCSAFLUSH, before)
    # Who is interrupted while another thread asks may end the program: the shell would be mute.
    atexit.register(restore)
    try:
        with _also_at_sigterm(restore):
            # Flushing drops what was typed ahead: it was not meant for this prompt.
            termios.tcsetattr(descriptor, termios.TCSAFLUSH, silent)
            yield
    finally:
        restore()
        atexit.unregister(restore)


@contextmanager
def _also_at_sigterm(undo: Callable[[], None]) -> Iterator[None]:
    """SIGTERM ends this program as it did, after `undo`; who has a handler for it, keeps that."""
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def end(number: int, frame: object) -> None:
        with suppress(Exception):  # nothing may keep it from ending
            undo()
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _read_line(descriptor: int, prompt: str) -> str:
    line = b""
    while not line.endswith(b"\n"):
        part = os.read(descriptor, 1024)
        if not part:
            raise AuthenticationRequired(f"the terminal was closed at {prompt.strip()!r}")
        line += part
    return line.rstrip(b"\r\n").decode("utf-8", "surrogateescape")
