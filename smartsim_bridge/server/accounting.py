"""Whether this host's Slurm says what became of jobs, for which it needs slurmdbd.

One small `sacct` tells, at most once an hour however many clients want to know: the site's
database is everybody's.  It is no command: nobody lists it, and no poll joins it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress

__all__ = ["Accounting"]

ANSWER_SECONDS = 10.0  # for sacct; a database that takes longer is of no use to a program
VALID_SECONDS = 3600.0
SAID_BYTES = 4096  # of what it says

_QUESTION = ("sacct", "--noheader", "--jobs=1")


class Accounting:
    """Asks for it when somebody wants to know; `environment` and `directory` as of commands."""

    def __init__(
        self, environment: Mapping[str, str], directory: str, seconds: float = ANSWER_SECONDS
    ) -> None:
        self._environment = environment
        self._directory = directory
        self._seconds = seconds
        self._asked = 0.0
        self._looking: asyncio.Task[str] | None = None

    def ask(self) -> asyncio.Task[str]:
        """Why there is none; "" where there is, or where nothing can be said of it."""
        loop = asyncio.get_running_loop()
        if self._looking is None or loop.time() - self._asked > VALID_SECONDS:
            self._asked = loop.time()
            self._looking = loop.create_task(self._look())
        return self._looking

    async def _look(self) -> str:
        with tempfile.TemporaryFile() as said:
            try:
                process = await asyncio.create_subprocess_exec(
                    *_QUESTION,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=said,
                    cwd=self._directory,
                    env=self._environment,
                    start_new_session=True,
                )
            except OSError:
                return ""
            try:
                status = await asyncio.wait_for(process.wait(), self._seconds)
            except asyncio.TimeoutError:
                return f"no answer in {self._seconds:g} s"
            finally:
                if process.returncode is None:
                    with suppress(ProcessLookupError, PermissionError):
                        os.killpg(process.pid, signal.SIGKILL)
            return _last_line(os.pread(said.fileno(), SAID_BYTES, 0)) if status > 0 else ""


def _last_line(said: bytes) -> str:
    return said.decode("utf-8", "replace").strip().rpartition("\n")[2] or "no word why"
