"""One command on the head with this process's own stdin, stdout, stderr and signals.

What `smartsim-bridge run` does.  Two threads copy what the command prints, one what it
reads; the main thread waits, so that signals reach it and go on to the command.  Blocking;
knows bridges and descriptors, not the command line.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any

from .client.blocking import Bridge, Command
from .errors import CommandServerError

__all__ = ["exit_status", "pass_through"]

PIECE = 64 * 1024
PASSED_ON = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")


def pass_through(bridge: Bridge, args: Sequence[str], *, cwd: str | None = None) -> int:
    """Runs `args` to its end; the exit status as a shell would have it.

    Raises FileNotFoundError, PermissionError, LinkLost.
    """
    command = bridge.popen(args, cwd=cwd, text=False)
    # Before its first line can be seen: whoever sees it may send a signal.
    with _signals_to(command):
        copies = [_copy_out(command, command.stdout, 1), _copy_out(command, command.stderr, 2)]
        # A daemon: it may wait at a terminal for a line that nobody will type any more.
        threading.Thread(target=_feed, args=(command,), name="stdin", daemon=True).start()
        returncode = command.wait()
        for copy in copies:
            copy.join()
    return exit_status(returncode)


def exit_status(returncode: int) -> int:
    """128+n for signal n, as shells have it."""
    return 128 - returncode if returncode < 0 else returncode


def _copy_out(command: Command, stream: IO[Any] | None, descriptor: int) -> threading.Thread:
    def copy() -> None:
        while stream is not None:
            data = stream.read1(PIECE)  # type: ignore[attr-defined]
            if not data:
                return
            if not _written(descriptor, data):
                # Our reader is gone: the command gets what it would have got from a pipe.
                with suppress(CommandServerError):
                    command.send_signal(signal.SIGPIPE)
                return

    thread = threading.Thread(target=_quietly(copy), name=f"output {descriptor}", daemon=True)
    thread.start()
    return thread


def _quietly(work: Any) -> Any:
    """A lost link is told by `wait`, in the main thread, once."""

    def run() -> None:
        with suppress(CommandServerError, RuntimeError):
            work()

    return run


def _written(descriptor: int, data: bytes) -> bool:
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
    except OSError:
        return False
    return True


def _feed(command: Command) -> None:
    stdin = command.stdin
    if stdin is None:
        return
    # BrokenPipeError and ValueError: the command reads no more, or is over.
    with suppress(OSError, ValueError, CommandServerError, RuntimeError):
        while data := os.read(0, PIECE):
            stdin.write(data)
            stdin.flush()
    with suppress(OSError, ValueError, CommandServerError, RuntimeError):
        stdin.close()


@contextmanager
def _signals_to(command: Command) -> Iterator[None]:
    def pass_on(number: int, frame: object) -> None:
        with suppress(CommandServerError):
            command.send_signal(number)

    numbers = [getattr(signal, name) for name in PASSED_ON if hasattr(signal, name)]
    before = {number: signal.signal(number, pass_on) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
