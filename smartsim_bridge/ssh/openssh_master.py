"""A ControlMaster of our own: the one ssh that is logged in, as a child that ends when we do.

Knows nothing of what ssh is told and asks; see `openssh_login`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
from typing import IO

from .openssh_control import Control
from .openssh_target import OpensshTarget, client_environment

__all__ = ["Master", "Noise"]

# What ssh says of its login; later complaints need no more room than the last of them.
NOISE_LIMIT = 65536

# An ssh that was told to end says goodbye to the host, which may be gone.
END_SECONDS = 2.0

# Waits for the end of its input, which comes with our own end, and ends ssh then.  Nothing
# of it but ssh holds the output, whose end tells that ssh has ended.
_SUPERVISOR = """
directory=$1; shift
exec 3<&0 </dev/null
"$@" 3<&- &
ssh=$!
{ read -r _ <&3; kill "$ssh"; } >/dev/null 2>&1 &
watcher=$!
exec 3<&- >/dev/null 2>&1
wait "$ssh"
status=$?
kill "$watcher"
rm -rf "$directory"
exit "$status"
"""


class Noise:
    """The last of what a process says on standard error, and how much of it there was."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._grew = threading.Condition()
        self.total = 0

    def add(self, data: bytes) -> None:
        """What was just read."""
        with self._grew:
            self._data += data
            del self._data[:-NOISE_LIMIT]
            self.total += len(data)
            self._grew.notify_all()

    def since(self, total: int) -> str:
        """What came after there was that much."""
        with self._grew:
            skipped = max(0, len(self._data) - (self.total - total))
            return bytes(self._data[skipped:]).decode("utf-8", "replace")

    def wait_for(self, text: str, *, since: int, seconds: float) -> str:
        """The same, once `text` is in it, or after so many seconds."""
        with self._grew:
            self._grew.wait_for(lambda: text in self.since(since), seconds)
            return self.since(since)


class Master:
    """Our own: ssh below a shell that ends it when we are gone."""

    def __init__(
        self, target: OpensshTarget, arguments: list[str], directory: str, extra: dict[str, str]
    ) -> None:
        self.directory = directory
        self.noise = Noise()
        self._lock = threading.Lock()
        self.control = Control(target, f"{directory}/m")
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", _SUPERVISOR, "sh", directory, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**client_environment(), **extra},
            # No terminal to ask on, and no Ctrl-C that was meant for the program around us.
            start_new_session=True,
        )
        assert self._process.stderr is not None
        self._listener = threading.Thread(
            target=_drain, args=(self._process.stderr, self.noise), name="ssh-stderr", daemon=True
        )
        self._listener.start()

    @property
    def output(self) -> IO[bytes]:
        """Says READY once it is logged in, and ends with ssh."""
        assert self._process.stdout is not None
        return self._process.stdout

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def last_words(self) -> str:
        """What it said on standard error, once its output has ended."""
        self._listener.join(END_SECONDS)
        return self.noise.since(0)

    def give_up(self) -> None:
        """Ends it in the middle of a login, before it says another word to the host."""
        # Its supervisor, which would clear up if we ended now, is killed with it.
        shutil.rmtree(self.directory, ignore_errors=True)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Ends it and waits for it; the directory goes with it."""
        with self._lock:
            assert self._process.stdin is not None
            with contextlib.suppress(OSError):
                self._process.stdin.close()
            try:
                self._process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                self.give_up()
                self._process.wait()
            self.output.close()
            self._listener.join(END_SECONDS)
            shutil.rmtree(self.directory, ignore_errors=True)


def _drain(stream: IO[bytes], kept: Noise) -> None:
    with contextlib.suppress(OSError, ValueError), stream:
        while data := os.read(stream.fileno(), 32768):
            kept.add(data)
