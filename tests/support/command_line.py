"""`smartsim-bridge` as somebody types it: into a pipe, or at a terminal of its own.

done = typed("run", "--", "echo", "hello")
with Terminal("run", "--", "cat") as terminal:
    terminal.type("hello\\n")
    terminal.expect("hello")
    terminal.press_ctrl_c()
    terminal.wait()
"""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from .waiting import wait_until

__all__ = ["FROM_A_SHELL", "PROGRAM", "Terminal", "typed"]

SECONDS = 60.0
LOOK_SECONDS = 0.05  # between two looks whether the window was closed

PROGRAM = [
    sys.executable,
    "-c",
    "import sys; from smartsim_bridge.cli import main; sys.exit(main())",
]

# A shell gives its foreground the usual signals, whatever whoever started the tests ignores.
_SHELL = """
import fcntl, os, signal, sys, termios
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
    signal.signal(number, signal.SIG_DFL)
if os.isatty(0):
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
_A_SHELL = [sys.executable, "-I", "-S", "-c", _SHELL]
FROM_A_SHELL = [*_A_SHELL, *PROGRAM]


def typed(*words: str, after: str = "", **keywords: Any) -> subprocess.CompletedProcess[bytes]:
    """Runs to its end, `after` a line of Python; stdin is empty unless there is an `input`."""
    keywords.setdefault("timeout", SECONDS)
    if "input" not in keywords:
        keywords.setdefault("stdin", subprocess.DEVNULL)
    program = [*PROGRAM[:2], f"{after}\n{PROGRAM[2]}"]
    return subprocess.run([*program, *words], capture_output=True, check=False, **keywords)


class Terminal:
    """Runs it, or another `program`, with a pseudo-terminal as controlling terminal."""

    def __init__(
        self,
        *words: str,
        program: Sequence[str] = PROGRAM,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._master, slave = pty.openpty()
        attributes = termios.tcgetattr(slave)
        attributes[3] |= termios.NOFLSH  # Ctrl-C leaves what was printed to be read
        termios.tcsetattr(slave, termios.TCSANOW, attributes)
        self.process = subprocess.Popen(
            [*_A_SHELL, *program, *words],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=env,
            start_new_session=True,
        )
        os.close(slave)
        self._is_closed = False
        self._shown = bytearray()
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(SECONDS)
        self.close()

    @property
    def shown(self) -> str:
        """All that stands on the screen, what was typed included."""
        return bytes(self._shown).decode("utf-8", "replace").replace("\r\n", "\n")

    def expect(self, text: str, seconds: float = SECONDS) -> str:
        """Waits for `text`; what stands on the screen then."""
        try:
            wait_until(lambda: text in self.shown, seconds)
        except AssertionError:
            raise AssertionError(f"no {text!r} in {self.shown!r}") from None
        return self.shown

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def press_ctrl_c(self) -> None:
        """As from the keyboard; returns when the kernel has handed the signal over."""
        before = self.shown.count("^C")
        self.type("\x03")
        # The echo follows the signal.
        wait_until(lambda: self.shown.count("^C") > before and not self._is_pending(signal.SIGINT))

    def close(self) -> None:
        """Closes the window: whoever is in it gets SIGHUP."""
        if not self._is_closed:
            self._is_closed = True
            self._reading.join(SECONDS)  # it holds the terminal while it reads
            os.close(self._master)

    def wait(self, seconds: float = SECONDS) -> int:
        """The returncode, negative for a signal; all it wrote is on the screen then."""
        returncode = self.process.wait(seconds)
        self._reading.join(seconds)
        return returncode

    def _is_pending(self, number: int) -> bool:
        """A second signal of a number that is pending is lost, as with every process."""
        try:
            status = Path(f"/proc/{self.process.pid}/status").read_text("ascii", "replace")
        except (FileNotFoundError, ProcessLookupError):
            return False
        masks = [
            line.split()[1] for line in status.splitlines() if line[:6] in ("SigPnd", "ShdPnd")
        ]
        return any(int(mask, 16) & 1 << (number - 1) for mask in masks)

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # EIO: nobody has it open any more
            while not self._is_closed:
                ready, _, _ = select.select([self._master], [], [], LOOK_SECONDS)
                if ready:
                    self._shown += os.read(self._master, 65536)
