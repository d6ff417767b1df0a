"""One exec request: a command under /bin/sh, its three streams on one channel.

Keeps the order in which sshd says things: the output to its end, then exit-status or
exit-signal, then the channel closes.  A client that goes away closes the command's stdin
and breaks its output, and nothing more: without a terminal, sshd hangs up on nobody either.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

import paramiko
from paramiko.common import cMSG_CHANNEL_REQUEST

from .children import Child, Children
from .pump import pump, start_thread

__all__ = ["Session"]

CANNOT_EXECUTE = 126  # what shells say, and the nearest to what sshd would


class Session:
    """Runs `command` on `channel`; `run` returns when the channel is closed."""

    def __init__(self, channel: paramiko.Channel, command: str) -> None:
        self._channel = channel
        self._command = command

    def run(self, children: Children, *, home: Path, env: Mapping[str, str]) -> None:
        """Blocking: in a thread of its own."""
        try:
            child = children.start(["/bin/sh", "-c", self._command], cwd=home, env=env)
        except OSError as error:
            self._refuse(f"{error}\n".encode())
            return
        returncode = self._carry(child)
        try:
            self._say_end(returncode)
        except (OSError, EOFError, paramiko.SSHException):
            pass  # the client has gone, and cannot be told
        finally:
            self._channel.close()

    def _refuse(self, reason: bytes) -> None:
        try:
            self._channel.sendall_stderr(reason)
            self._channel.send_exit_status(CANNOT_EXECUTE)
        except (OSError, paramiko.SSHException):
            pass  # as above
        finally:
            self._channel.close()

    def _carry(self, child: Child) -> int:
        process, channel = child.process, self._channel
        assert process.stdin and process.stdout and process.stderr
        stdin, stdout, stderr = process.stdin, process.stdout, process.stderr
        start_thread("stdin", lambda: _fill(stdin, channel))
        outputs = [
            start_thread("stdout", lambda: _drain(stdout, channel.sendall)),
            start_thread("stderr", lambda: _drain(stderr, channel.sendall_stderr)),
        ]
        returncode = child.wait()
        for thread in outputs:
            thread.join()
        return returncode

    def _say_end(self, returncode: int) -> None:
        self._channel.shutdown_write()
        if returncode >= 0:
            self._channel.send_exit_status(returncode)
        else:
            _send_exit_signal(self._channel, signal.Signals(-returncode))


def _fill(stdin: IO[bytes], channel: paramiko.Channel) -> None:
    with stdin:
        pump(channel.recv, lambda chunk: _write_all(stdin.fileno(), chunk))


def _drain(output: IO[bytes], send: Callable[[bytes], None]) -> None:
    # Closing it is how the command learns, by SIGPIPE, that nobody reads any more.
    with output:
        pump(lambda size: os.read(output.fileno(), size), send)


def _write_all(fd: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(fd, view) :]


def _send_exit_signal(channel: paramiko.Channel, number: signal.Signals) -> None:
    """RFC 4254, 6.10; paramiko has a method for the exit status only."""
    message = paramiko.Message()
    message.add_byte(cMSG_CHANNEL_REQUEST)
    message.add_int(channel.remote_chanid)
    message.add_string("exit-signal")
    message.add_boolean(False)  # no reply wanted
    message.add_string(number.name[len("SIG") :])
    message.add_boolean(False)  # no core dumped
    message.add_string("")
    message.add_string("")
    channel.get_transport()._send_user_message(message)  # type: ignore[attr-defined]
