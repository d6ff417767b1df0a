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
        outlets = [_Outlet(command.stdout, 1), _Outlet(command.stderr, 2)]
        # A daemon: it may wait at a terminal for a line that nobody will type any more.
        threading.Thread(target=_feed, args=(command,), name="stdin", daemon=True).start()
        returncode = command.wait()
        for outlet in outlets:
            outlet.join()
    for outlet in outlets:
        outlet.check()
    return exit_status(returncode)


def exit_status(returncode: int) -> int:
    """128+n for signal n, as shells have it."""
    return 128 - returncode if returncode < 0 else returncode


class _Outlet:
    """Copies one stream of the command to one of our descriptors, in a thread of its own.

    Where it cannot write, it closes the stream, and the command gets SIGPIPE, as from a pipe.
    """

    def __init__(self, stream: IO[Any] | None, descriptor: int) -> None:
        self._stream = stream
        self._descriptor = descriptor
        self._fault: OSError | None = None
        self._thread = threading.Thread(target=self._copy, name=f"output {descriptor}", daemon=True)
        self._thread.start()

    def join(self) -> None:
        self._thread.join()

    def check(self) -> None:
        """Raises CommandServerError where output was lost; a reader that left wants none."""
        if self._fault is not None and not isinstance(self._fault, BrokenPipeError):
            raise CommandServerError(
                f"Cannot write what the command printed: {self._fault.strerror}",
                step=f"descriptor {self._descriptor}",
                advice="The command ran, and its output was lost from there on.",
            )

    def _copy(self) -> None:
        # A lost link is told by `wait`, in the main thread, once.
        with suppress(CommandServerError, RuntimeError):
            while self._stream is not None:
                data = self._stream.read1(PIECE)  # type: ignore[attr-defined]
                if not data:
                    return
                try:
                    self._write(data)
                except OSError as fault:
                    self._fault = fault
                    self._stream.close()
                    return

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]


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
