"""A process that holds a bridge with its shims, and programs that are run as its children are.

with cluster.near("compute1", "alice").session() as session:
    session.run("sbatch", "--parsable", "job.sh")
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from .host import Host

__all__ = ["Session", "open_session"]

END_SECONDS = 60.0

# Tells what its children would find, and holds the bridge until its input ends.
_HOLD = """
import json, os, sys
from smartsim_bridge import init_command_server
with init_command_server(**json.loads(sys.argv[1])):
    names = ("PATH", "SMARTSIM_BRIDGE_SOCKET")
    print(json.dumps({name: os.environ[name] for name in names}), flush=True)
    sys.stdin.read()
"""


class Session:
    """Runs programs of a host with the shims first on PATH."""

    def __init__(self, host: Host, user: str, found: Mapping[str, str]) -> None:
        self.host = host
        self.user = user
        self.env = dict(found)

    @property
    def folder(self) -> str:
        """Where the shims are."""
        return self.env["PATH"].partition(":")[0]

    def run(
        self,
        *command: str,
        input: str = "",
        env: Mapping[str, str] | None = None,
        timeout: float = 120.0,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        environment = {**(env or {}), **self.env}
        return self.host.run(
            *command, user=self.user, input=input, env=environment, timeout=timeout, check=check
        )

    @contextmanager
    def popen(
        self, *command: str, stdin: int = subprocess.DEVNULL
    ) -> Iterator[subprocess.Popen[str]]:
        """A child that does not outlive the block."""
        with self.host.popen(*command, user=self.user, env=self.env, stdin=stdin) as child:
            try:
                yield child
            finally:
                child.kill()


@contextmanager
def open_session(
    host: Host, user: str, keywords: Mapping[str, Any], env: Mapping[str, str]
) -> Iterator[Session]:
    with host.popen(
        *(sys.executable, "-c", _HOLD, json.dumps(keywords)),
        user=user,
        env=env,
        stdin=subprocess.PIPE,
        stderr=None,
    ) as holder:
        assert holder.stdout is not None
        line = holder.stdout.readline()
        assert line, "no session: see standard error"
        try:
            yield Session(host, user, json.loads(line))
            holder.communicate(timeout=END_SECONDS)
        finally:
            holder.kill()
