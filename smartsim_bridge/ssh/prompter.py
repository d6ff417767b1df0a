"""Answers the prompts of an ssh that runs as our child, in the thread that waits for it.

ssh calls askpass, askpass connects to a unix socket in a directory that only this user can
enter, and whoever waits for the login takes the prompt from there: a notebook answers only
its own thread.  Knows what prompts look like, and nothing else of ssh.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path

from ..errors import AuthenticationFailed, AuthenticationRequired, CommandServerError
from . import askpass
from .ask import Ask, printable

__all__ = ["Prompter"]

# A prompt is a few lines; a host key's is the longest.
PROMPT_LIMIT = 65536

# askpass has written its prompt before we hear of it.
PROMPT_SECONDS = 5.0

# A host that asks for ever would have a person type every password they know.
MAX_PROMPTS = 10

# What a host asks, and not ssh itself; it stands at the beginning, whatever follows.
_OF_THE_HOST = re.compile(r"\(\S+@\S+\) |\S+@\S+'s password: $")


class Prompter:
    """Listens in `directory`; `fileno` is readable when a prompt waits, for `take` to answer.

    `wants_more` tells whether a host took what it was given and wants another method besides;
    `refusal` is why nothing more should be asked; `give_up` ends ssh before it says another
    word.
    """

    def __init__(
        self,
        directory: str,
        ask: Ask | None,
        wants_more: Callable[[], bool],
        refusal: Callable[[], CommandServerError | None],
        announce: Callable[[str], None],
        give_up: Callable[[], None],
    ) -> None:
        self._ask = ask
        self._give_up = give_up
        self._wants_more = wants_more
        self._refusal = refusal
        self._announce = announce
        self._prompts = 0
        self._dialogues: set[str] = set()
        #: The last of what ssh itself wanted a yes to: a host key, with its fingerprint.
        self.question = ""
        #: Why a prompt had no answer, where that is the reason of what ssh says then.
        self.fault: CommandServerError | None = None
        self.program = f"{directory}/askpass"
        path = f"{directory}/a"
        _write_program(self.program, path)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._listener.bind(path)
            self._listener.listen(8)
            self._listener.setblocking(False)
        except BaseException:
            self._listener.close()
            raise

    def fileno(self) -> int:
        """For a selector."""
        return self._listener.fileno()

    @property
    def environment(self) -> dict[str, str]:
        """What makes ssh call us, and never look for a terminal."""
        return {
            "SSH_ASKPASS": self.program,
            "SSH_ASKPASS_REQUIRE": "force",
            # Before 8.4 this asked for askpass, together with there being no terminal.
            "DISPLAY": os.environ.get("DISPLAY") or "none:0",
        }

    def take(self) -> None:
        """Answers the prompt that waits."""
        try:
            client, _ = self._listener.accept()
        except OSError:
            return  # who asked has gone
        with client:
            client.settimeout(PROMPT_SECONDS)
            said = _read(client) if _is_ours(client) else None
            if said is None:
                return
            kind, _, prompt = said.partition("\0")
            try:
                answer = self._answer(kind, prompt)
            except BaseException:
                self._give_up()
                raise
            if answer is not None:
                with contextlib.suppress(OSError):  # ssh need not wait for the answer
                    client.sendall(askpass.ANSWERED + os.fsencode(answer))
            elif self.fault is not None and _OF_THE_HOST.match(prompt):
                # ssh would send an empty answer, and the host count one failure more.
                self._give_up()

    def close(self) -> None:
        """Whoever still asks hears nothing."""
        self._listener.close()

    def _answer(self, kind: str, prompt: str) -> str | None:
        if kind == "none":
            self._announce(printable(prompt))  # "Confirm user presence for key ..."
            return ""
        if self._ask is None or self.fault is not None:
            return None
        self.fault = self._refusal()
        if self.fault is not None:
            return None
        if self._is_repeated(prompt):
            self.fault = AuthenticationFailed("the host refused the answer, and asks once more")
            return None
        is_question = kind == "confirm" or _is_question(prompt)
        self.question = prompt if is_question else self.question
        try:
            answer = self._ask(printable(prompt), not is_question)
        except CommandServerError as fault:
            self.fault = fault
            return None
        except EOFError:
            self.fault = AuthenticationRequired(f"nobody answered {prompt.strip()!r}")
            return None
        # ssh asks until the answer is one of these; only these mean yes.
        if is_question and not answer.strip().startswith(("yes", "SHA256:")):
            return "no"
        return answer

    def _is_repeated(self, prompt: str) -> bool:
        """Whether the host refused the answer already, or asks without end.

        After a dialogue that failed ssh goes on to the method "password": the same secret
        once more, behind the user's back.
        """
        self._prompts += 1
        if dialogue := re.match(r"\((\S+@\S+)\) ", prompt):
            self._dialogues.add(dialogue.group(1))
        password = re.match(r"(\S+@\S+)'s password: $", prompt)
        is_second = password is not None and password.group(1) in self._dialogues
        return self._prompts > MAX_PROMPTS or (is_second and not self._wants_more())


def _is_question(prompt: str) -> bool:
    """Whether ssh itself wants a yes; what the host asks is a secret, however it words it."""
    if _OF_THE_HOST.match(prompt):
        return False
    return "(yes/no" in prompt or "type 'yes'" in prompt


def _write_program(path: str, listener: str) -> None:
    """A script, because ssh hands its askpass nothing but the prompt."""
    if not sys.executable:
        raise AuthenticationRequired("this Python does not know its own program", step="login")
    command = shlex.join([sys.executable, "-I", "-S", str(Path(askpass.__file__)), listener])
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o700), "w") as script:
        script.write(f'#!/bin/sh\nexec {command} "$@"\n')


def _is_ours(client: socket.socket) -> bool:
    """Whether the peer runs as we do; the directory alone would keep others out as well."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    raw = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return bool(struct.unpack("3i", raw)[1] == os.getuid())


def _read(client: socket.socket) -> str | None:
    """The prompt; None where whoever asks has gone, or says nothing."""
    said = b""
    try:
        while len(said) < PROMPT_LIMIT and (part := client.recv(PROMPT_LIMIT)):
            said += part
    except OSError:
        return None
    return said.decode("utf-8", "replace") or None
