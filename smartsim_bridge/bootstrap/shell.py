"""One /bin/sh on a host, asked one thing after the other.

One, because a login shell with a long start-up file is paid at each exec: asking thrice
through three of them made a cold start three times as slow.  Each question is one compound
command, so a shell that gets only a part of it does nothing; each answer ends with a line
that carries our nonce.  Before the first one the shell says that it is ours; one that ends
without having said so was refused to us.  Knows how to ask, not what.
"""

from __future__ import annotations

import secrets
import socket
from contextlib import suppress
from dataclasses import dataclass, replace
from types import TracebackType

from ..deadline import ONE_DAY, Deadline
from ..errors import BootstrapFailed, ProbeFailed
from .host import Host, Pipe
from .noise import NOISE_KEPT, NOISE_LIMIT, clean, explain
from .refusal import refusal
from .script import COMMAND, greeting, subshell

__all__ = ["Answer", "Shell"]

# Real answers have a few kilobytes.
ANSWER_LIMIT = 1 << 20
# Seconds granted to a shell to end by itself.
GOODBYE = 1.0
# Seconds after which a session that has not become our shell sees its input end.  A forced
# command that reads all of it, instead of being a shell, then ends and says why; a shell with
# a slow start-up file answers all the same, and the next one is waited for.
PATIENCE = 5.0
CHUNK = 65536


@dataclass(frozen=True)
class Answer:
    """What came of one question; `status` is None where the shell ended before it did.

    Standard error is in `text` too, in its place; `noise` is what was said before we had
    the word.
    """

    status: int | None
    text: str
    noise: str = ""


class Shell:
    """Opened with the first question; leaving the context ends it.

    `prelude` runs before that question, in this shell, so that what it loads stays.
    """

    def __init__(
        self, host: Host, *, prelude: str = "", deadline: Deadline, nonce: str = ""
    ) -> None:
        self.host = host.target.spelled
        self.nonce = nonce or secrets.token_hex(12)
        self.deadline = deadline
        self._connection = host
        self._prelude = prelude
        self._pipe: Pipe | None = None
        self._noise = ""  # what was said on stdout before the shell was ours
        self._gives_shells = False  # whether this host is known to give us a shell
        self._is_last = False  # whether the shell was told that no question follows

    def ask(self, body: str, function: str, *, step: str, failure: type[BootstrapFailed]) -> Answer:
        """Runs `function` of `body` in a subshell.

        Raises `failure` when the deadline passes, or when there is no end to the answer;
        ProbeFailed, NoLoginShell or CommandsForbidden where the login gives us no shell, and
        what opening raises.
        """
        question = subshell(body, function) + f"printf '\\n%s-DONE %s.\\n' {self.nonce} $?\n"
        is_new = self._pipe is None or self._is_last
        if is_new:
            question = greeting(question, nonce=self.nonce, prelude=self._prelude)
            self._open()
        else:
            question = f"{{\n{question}}}\n"
        assert self._pipe is not None
        heard = bytearray()
        try:
            self._send(self._pipe.socket, question)
            if is_new:
                self._wait_until_ours(self._pipe, heard, step)
            answer = self._listen(self._pipe.socket, heard)
        except socket.timeout:
            raise self._fault("did not answer in time", step, failure, heard) from None
        except _TooMuch:
            raise self._fault("talks without end", step, failure, heard) from None
        return replace(answer, noise=self._said_before())

    def _open(self) -> None:
        self.close()
        self._pipe = self._connection.open_stdio(COMMAND, deadline=self.deadline)
        self._noise = ""
        self._is_last = False

    def _send(self, stream: socket.socket, question: str) -> None:
        self._set_limit(stream)
        # A shell that has ended takes nothing; what it said is still to be read.
        with suppress(BrokenPipeError, ConnectionResetError):
            stream.sendall(question.encode("utf-8", "surrogateescape"))

    def _wait_until_ours(self, pipe: Pipe, heard: bytearray, step: str) -> None:
        """Takes what start-up files say out of `heard`, until the shell says that it is ours."""
        here, eaten = (f"{self.nonce}-{word}.".encode() for word in ("HERE", "EATEN"))
        skipped = 0
        while here not in heard:
            if len(heard) > 2 * NOISE_KEPT:
                skipped += len(heard) - NOISE_KEPT
                del heard[:-NOISE_KEPT]
            if skipped > NOISE_LIMIT:
                raise _TooMuch
            piece = b"" if eaten in heard else self._receive(pipe.socket)
            if not piece:
                raise self._refusal(pipe, heard.partition(eaten), step)
            heard += piece
        before, _, after = heard.partition(here)
        self._noise, heard[:] = _decode(bytes(before)).strip("\r\n"), after
        self._gives_shells = True

    def _listen(self, stream: socket.socket, heard: bytearray) -> Answer:
        end = f"{self.nonce}-DONE ".encode()
        while True:
            before, found, after = bytes(heard).partition(end)
            status, is_whole, _ = after.partition(b".")
            if found and is_whole:
                return Answer(int(status), _decode(before))
            if len(heard) > ANSWER_LIMIT:
                raise _TooMuch
            piece = self._receive(stream)
            if not piece:
                self._is_last = True
                return Answer(None, _decode(bytes(heard)))
            heard += piece

    def _receive(self, stream: socket.socket) -> bytes:
        """The next bytes, none at the end."""
        if not (self._is_last or self._gives_shells):
            self._set_limit(stream, PATIENCE)
            with suppress(socket.timeout):
                return _receive(stream)
            with suppress(OSError):
                stream.shutdown(socket.SHUT_WR)
            self._is_last = True
        self._set_limit(stream)
        return _receive(stream)

    def _set_limit(self, stream: socket.socket, seconds: float = ONE_DAY) -> None:
        if self.deadline.is_over:
            raise socket.timeout
        stream.settimeout(self.deadline.at_most(seconds))

    def _refusal(
        self, pipe: Pipe, said: tuple[bytearray, bytearray, bytearray], step: str
    ) -> ProbeFailed:
        """Asks for the noise first: it is complete when the end of the output was seen."""
        self._is_last = True
        before, eaten, _ = said
        self._noise = _decode(bytes(before))
        noise = clean(self._said_before())
        return refusal(noise, pipe.status, host=self.host, step=step, eaten=bool(eaten))

    def _fault(
        self, what: str, step: str, failure: type[BootstrapFailed], heard: bytearray
    ) -> BootstrapFailed:
        noise = clean(self._said_before() + _decode(bytes(heard)).partition(self.nonce)[0])
        return failure(
            f"The shell {what}",
            host=self.host,
            step=step,
            advice=explain(noise) or "A start-up file or the prelude may hang; raise timeout=.",
            noise=noise,
        )

    def _said_before(self) -> str:
        """On either stream, before the shell was ours."""
        complaints = self._pipe.noise if self._pipe is not None else ""
        return "\n".join(part for part in (self._noise, complaints) if part)

    def close(self) -> None:
        """Ends the shell; what it started in the background stays.  Repeating does no harm."""
        if self._pipe is not None:
            self._pipe.close()

    def __enter__(self) -> Shell:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._pipe is not None and kind is None:
            with suppress(OSError):
                _see_out(self._pipe.socket)
        self.close()


class _TooMuch(Exception):
    """More than any answer of ours can be."""


def _see_out(stream: socket.socket) -> None:
    """Waits for the end: a site may allow one session at a time, and the next one is waiting."""
    stream.settimeout(GOODBYE)
    stream.shutdown(socket.SHUT_WR)
    for _ in range(ANSWER_LIMIT // CHUNK):
        if not stream.recv(CHUNK):
            return


def _receive(stream: socket.socket) -> bytes:
    try:
        return stream.recv(CHUNK)
    except ConnectionResetError:
        return b""


def _decode(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
