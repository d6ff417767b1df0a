"""One command on the host, over a channel of the shared connection.

For the few commands of a bootstrap, and for the one stream of the stdio rung; not one per
user command, since sshd bounds the sessions of a connection (MaxSessions, 10 as a rule) and
a login shell with a long start-up file is paid each time.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

from ..deadline import Deadline
from ..errors import SshFailed
from .engine import Completed, Kept
from .library import paramiko
from .pump import Pump
from .transport import BROKEN

__all__ = ["Completed", "StdioPipe", "answers", "execute", "open_session"]

# Answers of the bootstrap are a few kilobytes; a start-up file that prints for ever must not
# fill the memory.  What is beyond is read and dropped, so that the command can end.
OUTPUT_LIMIT = 1 << 20

# Kept of what the far side of a pipe complains: enough for a traceback.
NOISE_LIMIT = 16384

# Where the caller sets no limit, paramiko would wait an hour for a channel.
OPEN_SECONDS = 60.0

# What came before the end of a channel only has to be taken from a buffer of ours, and its
# status comes next.
LISTENER_SECONDS = 1.0

# A session slot that was just given up is free again a moment later; see _open_channel.
FREE_SLOT_SECONDS, FREE_SLOT_PAUSE = 1.0, 0.02

CHUNK = 32768


def open_session(
    transport: paramiko.Transport, command: str, host: str, deadline: Deadline
) -> paramiko.Channel:
    """A channel on which `command` was started.  Raises SshFailed."""
    channel = _open_channel(transport, host, deadline)
    with _closed_when_over(channel, deadline) as is_over:
        try:
            channel.exec_command(command)
        except BROKEN as error:
            channel.close()
            why = "no time left" if is_over.is_set() else f"{str(error) or 'the connection ended'}"
            raise SshFailed(
                f"the host would not run a command: {why}", host=host, step="execute"
            ) from error
    return channel


def answers(transport: paramiko.Transport, deadline: Deadline) -> bool:
    """Whether anybody answers; that another session is refused is an answer as well."""
    try:
        transport.open_session(timeout=deadline.at_most(OPEN_SECONDS)).close()
    except paramiko.ChannelException:
        return True
    except BROKEN:
        return False
    return True


def execute(
    transport: paramiko.Transport, command: str, stdin: bytes, host: str, deadline: Deadline
) -> Completed:
    """Runs `command` to its end, feeding and reading at once.

    Raises SshFailed when the deadline passes (the channel is closed; the host tells the
    command by SIGPIPE at best) or the connection breaks.
    """
    channel = open_session(transport, command, host, deadline)
    out, err = Kept(OUTPUT_LIMIT), Kept(OUTPUT_LIMIT)
    threads = [
        threading.Thread(target=_feed, args=(channel, stdin), name="ssh-stdin", daemon=True),
        threading.Thread(target=_drain_noise, args=(channel, err), name="ssh-stderr", daemon=True),
    ]
    with _closing(channel), _closed_when_over(channel, deadline) as is_over:
        for thread in threads:
            thread.start()
        with contextlib.suppress(*BROKEN):
            while data := channel.recv(CHUNK):
                out.add(data)
        threads[1].join()
        # A command may close its output and go on; the status ends it, or the close.
        channel.status_event.wait()
    # It must not speak on: the number of this channel may soon be that of another one.
    threads[0].join(LISTENER_SECONDS)
    if is_over.is_set():
        raise SshFailed("the command did not end in time", host=host, step="execute")
    status = channel.exit_status
    if status < 0 and not transport.is_active():
        raise SshFailed("the connection broke during a command", host=host, step="execute")
    return Completed(status if status >= 0 else None, bytes(out), bytes(err))


def _open_channel(transport: paramiko.Transport, host: str, deadline: Deadline) -> paramiko.Channel:
    """Under MaxSessions a slot is free only when sshd has reaped the process that had it, a
    moment after we were told of its end: so a refusal is taken as final after some time."""
    patience = deadline.within(FREE_SLOT_SECONDS)
    while True:
        try:
            return transport.open_session(timeout=deadline.at_most(OPEN_SECONDS))
        except paramiko.ChannelException as error:
            if patience.is_over:
                raise _no_session(error, host) from error
            time.sleep(FREE_SLOT_PAUSE)
        except BROKEN as error:
            raise _no_session(error, host) from error


class StdioPipe:
    """A running command whose standard input and output are the local socket `socket`.

    Two threads carry the bytes.  `close` may be called from any thread, and more than once;
    afterwards the socket belongs to whoever took it and is at its end.
    """

    def __init__(
        self, transport: paramiko.Transport, command: str, host: str, deadline: Deadline
    ) -> None:
        self._host = host
        self._channel = open_session(transport, command, host, deadline)
        self.socket, far_end = socket.socketpair()
        self._noise = Kept(NOISE_LIMIT)
        self._pump = Pump(far_end, self._channel)
        self._listener = threading.Thread(
            target=_drain_noise, args=(self._channel, self._noise), name="ssh-stderr", daemon=True
        )
        self._pump.start()
        self._listener.start()

    @property
    def noise(self) -> str:
        """What the command said on standard error so far, up to a limit; all of it at its end."""
        if self._channel.eof_received:
            # Whoever saw the end of the output asks why; the other thread may be a step behind.
            self._listener.join(LISTENER_SECONDS)
        return bytes(self._noise).decode("utf-8", "replace")

    @property
    def status(self) -> int | None:
        """The exit status, once the command ended and the host said so."""
        if self._channel.eof_received:
            # The end of the output and the status are two messages.
            self._channel.status_event.wait(LISTENER_SECONDS)
        return self._channel.exit_status if self._channel.exit_status >= 0 else None

    def wait(self) -> None:
        """Until the command ended, or the pipe was closed; then noise and status are complete."""
        self._listener.join()
        self._channel.status_event.wait()

    def close(self) -> None:
        """Ends the pipe; the command sees its input end."""
        self._pump.close()
        self.socket.close()

    def __repr__(self) -> str:
        state = "closed" if self._channel.closed else "open"
        return f"<StdioPipe to {self._host}, {state}>"


def _feed(channel: paramiko.Channel, stdin: bytes) -> None:
    # A command need not read its input: then this ends with the channel.
    with contextlib.suppress(*BROKEN):
        channel.sendall(stdin)
        channel.shutdown_write()


def _drain_noise(channel: paramiko.Channel, kept: Kept) -> None:
    with contextlib.suppress(*BROKEN):
        while data := channel.recv_stderr(CHUNK):
            kept.add(data)


@contextlib.contextmanager
def _closing(channel: paramiko.Channel) -> Iterator[None]:
    try:
        yield
    finally:
        # A connection that broke has closed it already.
        with contextlib.suppress(*BROKEN):
            channel.close()


@contextlib.contextmanager
def _closed_when_over(channel: paramiko.Channel, deadline: Deadline) -> Iterator[threading.Event]:
    """Closes the channel at the deadline, which ends every wait on it; says so in the event.

    paramiko waits for the answer to a request without any limit.
    """
    is_over = threading.Event()

    def end() -> None:
        is_over.set()
        # Whoever waits goes on at once, and may close the connection before this has left.
        with contextlib.suppress(*BROKEN):
            channel.close()

    seconds = deadline.left
    if seconds == float("inf"):
        yield is_over
        return
    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield is_over
    finally:
        timer.cancel()


def _no_session(error: Exception, host: str) -> SshFailed:
    if isinstance(error, paramiko.ChannelException):
        return SshFailed(
            f"the host refused to open a session: {error.text}",
            host=host,
            step="execute",
            advice="The site bounds sessions per connection (MaxSessions), or forbids them.",
        )
    return SshFailed(
        f"no session could be opened: {str(error) or 'the connection ended'}",
        host=host,
        step="execute",
    )
