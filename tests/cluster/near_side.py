"""This project as a user of a host would use it; `cluster.near(host, user)`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .host import Host
from .session import Session, open_session
from .site import CLONE

__all__ = ["SOON", "NearSide", "Outcome"]

# What a process needs to start Python and end, on a machine that is busy.
PROCESS_SECONDS = 60.0
# For a login, a server that starts and the handshake.  Five seconds on a machine that nobody else
# uses; a test that must not take all of it says SOON.
CONNECT_SECONDS = 60.0
# A rung that used up the time of those behind it would take all of CONNECT_SECONDS.
SOON = CONNECT_SECONDS / 2


@dataclass(frozen=True)
class Outcome:
    """What came of one connect.

    status     the fields of BridgeStatus; None where there was an error
    completed  per command: args, returncode, stdout, stderr
    error      kind, what, host, step, advice, text of a CommandServerError; None without one
    seconds    that init_command_server took
    asked      the prompts, in order
    """

    status: dict[str, Any] | None
    completed: list[dict[str, Any]]
    error: dict[str, Any] | None
    seconds: float
    asked: list[str]

    @property
    def transport(self) -> str:
        """The rung that held; an error fails the test that asks."""
        assert self.status is not None, self.error
        return str(self.status["transport"])


class NearSide:
    """One user of one host."""

    def __init__(self, host: Host, user: str) -> None:
        self.host = host
        self.user = user

    def connect(
        self,
        *,
        run: Sequence[Sequence[str]] = (),
        answers: Sequence[tuple[str, str]] | Sequence[Sequence[str]] = (),
        timeout: float = CONNECT_SECONDS,
        env: Mapping[str, str] | None = None,
        **keywords: Any,
    ) -> Outcome:
        """init_command_server(**keywords) in a fresh process, then the commands, then close.

        `answers`: pairs of a part of the prompt, and the answer.
        """
        request = {
            "run": [list(args) for args in run],
            "answers": [list(pair) for pair in answers],
            "keywords": {"timeout": timeout, **keywords},
        }
        done = self.host.run(
            *[sys.executable, "-m", "tests.cluster.near"],
            user=self.user,
            input=json.dumps(request),
            env={"PYTHONPATH": str(CLONE), **(env or {})},
            timeout=timeout + 60.0 * len(run) + PROCESS_SECONDS,
            check=False,
        )
        lines = done.stdout.splitlines()
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return Outcome(**json.loads(lines[-1]))

    def session(
        self, addr: str = "login1", *, env: Mapping[str, str] | None = None, **keywords: Any
    ) -> AbstractContextManager[Session]:
        """A process that keeps its bridge open, for programs that use its shims."""
        asked = {"addr": addr, "autostart": True, "timeout": CONNECT_SECONDS, **keywords}
        return open_session(self.host, self.user, asked, env or {})

    def cli(
        self,
        *arguments: str,
        input: str = "",
        env: Mapping[str, str] | None = None,
        timeout: float = 120.0,
    ) -> subprocess.CompletedProcess[str]:
        """The smartsim-bridge command; its exit code is the caller's to look at."""
        command = Path(sys.executable).with_name("smartsim-bridge")
        return self.host.run(
            str(command),
            *arguments,
            user=self.user,
            input=input,
            env=env,
            timeout=timeout,
            check=False,
        )

    def python(
        self,
        code: str,
        *arguments: str,
        input: str = "",
        env: Mapping[str, str] | None = None,
        timeout: float = 120.0,
    ) -> subprocess.CompletedProcess[str]:
        """A script that can import this project."""
        return self.host.run(
            *[sys.executable, "-c", code, *arguments],
            user=self.user,
            input=input,
            env=env,
            timeout=timeout,
            check=False,
        )
