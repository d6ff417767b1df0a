"""One command through a ControlMaster: an ssh whose standard input and output are a socket.

Each is a process of its own here, and a session of the shared login there.  Knows nothing
of where the master comes from.
"""

from __future__ import annotations

import contextlib
import re
import select
import socket
import subprocess
import threading
import time

from ..deadline import ONE_DAY, Deadline
from ..errors import SshFailed
from .engine import Completed, Kept
from .openssh_control import Control
from .openssh_errors import last_words

__all__ = ["OPENED", "OpensshPipe", "execute"]

# As for the other engine: see `execution`.
OUTPUT_LIMIT, NOISE_LIMIT = 1 << 20, 16384

# What ssh says after a signal, and for a failure of its own; a command may say it, too.
NO_STATUS = 255

# What ssh -v says when the host has opened a channel.
OPENED = b"master session id"

# What ssh -v says until then; whatever else has come is of the command.
_SSHS_OWN = re.compile(rb"(?:\AOpenSSH_|debug[1-3]: )[^\n]*\n")

# A session slot that was just given up is free again a moment later.
FREE_SLOT_SECONDS, FREE_SLOT_PAUSE = 1.0, 0.02

# Granted to an ssh whose command saw its input end.
END_SECONDS = 1.0

CHUNK = 65536


class _Opening:
    """How the request for a session went, as ssh -v tells it."""

    def __init__(self) -> None:
        self.is_over = threading.Event()
        self.is_open = False
        self.said = b""

    @property
    def reason(self) -> str:
        """Of what was said, what is about the session and not about what ssh tried then."""
        lines = self.said.decode("utf-8", "replace").splitlines()
        about = [line for line in lines if re.search("request failed|Control socket|master", line)]
        return last_words("\n".join((about or lines)[:1])) or "the master does not answer"


class _Refused(Exception):
    """The host gave no session, or nobody was there to ask for one; what ssh said."""


class OpensshPipe:
    """Starts in the constructor; see `engine.Pipe`.  Raises SshFailed.

    `close` may be called from any thread, and more than once.
    """

    def __init__(
        self,
        control: Control,
        command: str,
        host: str,
        deadline: Deadline,
        noise: int = NOISE_LIMIT,
    ) -> None:
        self._host = host
        self._noise_limit = noise
        self._lock = threading.Lock()
        self._is_closed = False
        # Under MaxSessions a slot is free only a moment after we were told of its end.
        patience = deadline.within(FREE_SLOT_SECONDS)
        while True:
            try:
                self._start(control, command, deadline)
                break
            except _Refused as refused:
                if patience.is_over or not control.accepts:
                    advice = _FULL_OF_YOURS if control.is_users else _FULL
                    raise _no_session(str(refused), host, advice) from None
                time.sleep(FREE_SLOT_PAUSE)

    def _start(self, control: Control, command: str, deadline: Deadline) -> None:
        self._noise = Kept(self._noise_limit)
        self._opening = _Opening()
        self.socket, theirs = socket.socketpair()
        # Not a pipe: a master keeps its copy as long as the command lives, and only a socket
        # can be cut from here.
        self._complaints, their_errors = socket.socketpair()
        with theirs, their_errors:
            try:
                self._process = subprocess.Popen(
                    control.command(command, options=("-v",)),
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    stderr=their_errors.fileno(),
                    env=control.environment,
                    start_new_session=True,
                )
            except OSError as error:
                self.socket.close()
                self._complaints.close()
                raise _no_session(f"ssh cannot be run: {error.strerror}", self._host) from error
        self._listener = threading.Thread(target=self._listen, name="ssh-stderr", daemon=True)
        self._listener.start()
        if not self._opening.is_over.wait(deadline.at_most(ONE_DAY)):
            self._undo()
            raise _no_session("no time left", self._host)
        if not self._opening.is_open:
            self._undo()
            raise _Refused(self._opening.reason)

    def _undo(self) -> None:
        self.end()
        self.socket.close()
        self._stop_listening()

    def _stop_listening(self) -> None:
        # Its thread closes it, after what was said already.
        with contextlib.suppress(OSError):
            self._complaints.shutdown(socket.SHUT_RDWR)
        self._listener.join(END_SECONDS)

    def _listen(self) -> None:
        """Takes what ssh says of itself, and then what the command says."""
        said = self._complaints
        with said, said.makefile("rb") as stream, contextlib.suppress(OSError, ValueError):
            for line in stream:
                self._opening.said += line
                if OPENED in line:
                    # The master hands on by itself what the command says, and may be faster.
                    self._noise.add(_SSHS_OWN.sub(b"", self._opening.said))
                    self._opening.is_open = True
                    break
            self._opening.is_over.set()
            while self._opening.is_open and (data := stream.read1(CHUNK)):
                self._noise.add(data)
        self._opening.is_over.set()

    @property
    def noise(self) -> str:
        """What the command said on standard error so far, up to a limit; all of it at its end."""
        return self.complaints.decode("utf-8", "replace")

    @property
    def complaints(self) -> bytes:
        """The same, as it came."""
        if self._has_ended():
            self._listener.join(END_SECONDS)
        return bytes(self._noise)

    @property
    def status(self) -> int | None:
        """The exit status, once the command ended and the host said so."""
        status = self._process.returncode if self._has_ended() else None
        return status if status is not None and 0 <= status != NO_STATUS else None

    def _has_ended(self) -> bool:
        """Whoever saw the end of the output asks why; ssh may be a step behind."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_SECONDS if _is_at_end(self.socket) else 0.0)
            return True
        return False

    def wait(self, deadline: Deadline | None = None) -> None:
        """Until the command ended, or the pipe was closed; then noise and status are complete.

        Raises subprocess.TimeoutExpired.
        """
        limit = float("inf") if deadline is None else deadline.left
        self._process.wait(None if limit == float("inf") else limit)
        self._listener.join(END_SECONDS)

    def end(self) -> None:
        """Ends ssh at once; the host tells the command by a signal at best."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Ends the pipe; the command sees its input end."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        # Others may hold copies: only this reaches ssh whatever they do.
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._stop_listening()

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "open" if self._process.poll() is None else "ended"
        return f"<OpensshPipe to {self._host}, {state}>"


def execute(
    control: Control, command: str, stdin: bytes, host: str, deadline: Deadline
) -> Completed:
    """Runs `command` to its end, feeding and reading at once.  Raises SshFailed."""
    pipe = OpensshPipe(control, command, host, deadline, OUTPUT_LIMIT)
    feeder = threading.Thread(target=_feed, args=(pipe, stdin), name="ssh-stdin", daemon=True)
    out = Kept(OUTPUT_LIMIT)
    try:
        feeder.start()
        _read_to_the_end(pipe, out, deadline)
        status, complaints = pipe.status, pipe.complaints
    except (socket.timeout, subprocess.TimeoutExpired):
        pipe.end()
        raise SshFailed("the command did not end in time", host=host, step="execute") from None
    finally:
        pipe.close()
        feeder.join(END_SECONDS)
    if status is None and not control.accepts:
        raise SshFailed("the connection broke during a command", host=host, step="execute")
    return Completed(status, bytes(out), complaints)


_FULL = "The site bounds sessions per connection (MaxSessions), or forbids them."
_FULL_OF_YOURS = (
    f"{_FULL} This connection is your ControlMaster: end another session of it, or pass "
    'ssh="paramiko" for a login of its own.'
)


def _no_session(why: str, host: str, advice: str = _FULL) -> SshFailed:
    return SshFailed(
        f"no session could be opened: {why}",
        host=host,
        step="execute",
        advice=advice if "refused" in why else None,
    )


def _read_to_the_end(pipe: OpensshPipe, out: Kept, deadline: Deadline) -> None:
    while True:
        if deadline.is_over:
            raise socket.timeout
        pipe.socket.settimeout(deadline.at_most(ONE_DAY))
        try:
            data = pipe.socket.recv(CHUNK)
        except ConnectionError:
            break
        if not data:
            break
        out.add(data)
    pipe.wait(deadline)


def _is_at_end(stream: socket.socket) -> bool:
    """Looks without waiting, and takes nothing away."""
    try:
        look = select.poll()
        look.register(stream, select.POLLIN)
        return bool(look.poll(0)) and not stream.recv(1, socket.MSG_PEEK)
    except (OSError, ValueError):
        return True  # closed


def _feed(pipe: OpensshPipe, stdin: bytes) -> None:
    # A command need not read its input: then this ends with the pipe.
    with contextlib.suppress(OSError):
        pipe.socket.sendall(stdin)
        pipe.socket.shutdown(socket.SHUT_WR)
