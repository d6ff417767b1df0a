"""One port of the host, reachable here through a ControlMaster: a unix socket of ssh's.

ssh calls a forward up whatever the host thinks of it; so a channel to the port is opened
first.  Why that failed is told by the master alone: ours says it to us, the user's to the
terminal it was started on.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import threading

from ..deadline import Deadline
from ..errors import CommandServerError, ForwardingRefused, NobodyListening, SshFailed
from .openssh_control import CONTROL_SECONDS, Control
from .openssh_errors import last_words
from .openssh_master import Noise
from .openssh_pipe import OPENED
from .socket_directory import socket_directory

__all__ = ["OpensshForward"]

# The master said why before it told us that; who reads it may be a step behind.
NOISE_SECONDS = 1.0

# Long enough for a busy host; a firewall that swallows packets takes minutes.
PROOF_SECONDS = 15.0


class OpensshForward:
    """Starts in the constructor; see `engine.Forward`.

    `noise` is what the master says, where that can be heard.
    Connections that pass already are cut by whoever holds them, or with the master.
    """

    def __init__(
        self,
        control: Control,
        host: str,
        port: int,
        *,
        directory: str,
        via: str,
        noise: Noise | None,
        deadline: Deadline,
    ) -> None:
        self._control = control
        self._via = via
        self._remote = f"{host}:{port}"
        self._lock = threading.Lock()
        self._is_closed = False
        place = f"[{host}]:{port}" if ":" in host else self._remote
        before = noise.total if noise is not None else 0
        refused = _refusal(control, place, deadline.within(PROOF_SECONDS))
        if refused is not None:
            raise self._fault(refused, noise, before)
        self._directory = socket_directory(directory)
        path = f"{self._directory}/t"
        self._spec = f"{path}:{place}"
        done = control.ask("forward", "-L", self._spec, deadline=deadline)
        if done is None or done.returncode != 0:
            shutil.rmtree(self._directory, ignore_errors=True)
            why = "it does not answer" if done is None else last_words(done.stderr)
            raise SshFailed(f"the master set up no tunnel: {why}", host=via, step="tunnel")
        self.endpoint = f"ipc://{path}"

    @property
    def is_alive(self) -> bool:
        """Whether new connections can pass."""
        return not self._is_closed and self._control.accepts

    def close(self) -> None:
        """Takes no more connections, and removes the socket."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        if self._control.accepts:
            self._control.ask("cancel", "-L", self._spec, deadline=Deadline(CONTROL_SECONDS))
        shutil.rmtree(self._directory, ignore_errors=True)

    def _fault(self, said: str, noise: Noise | None, before: int) -> CommandServerError:
        complaint = ""
        if noise is not None and "refused" in said:
            complaint = noise.wait_for("open failed", since=before, seconds=NOISE_SECONDS)
        if "connect failed" in complaint:
            why = re.sub(r".*connect failed: ?", "", last_words(complaint))
            return NobodyListening(
                f"nobody listens on {self._remote} of the host: {why}",
                host=self._via,
                step="tunnel",
            )
        if "open failed" in complaint:
            return ForwardingRefused(
                f"the host refuses to forward {self._remote}: "
                + re.sub(r".*?open failed: ?", "", last_words(complaint), count=1),
                host=self._via,
                step="tunnel",
            )
        if "refused" in said:
            return ForwardingRefused(
                f"the host refuses to forward {self._remote}, or nobody listens there: only "
                "the terminal of the master was told which",
                host=self._via,
                step="tunnel",
            )
        return SshFailed(f"no channel to {self._remote}: {said}", host=self._via, step="tunnel")

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "open" if self.is_alive else "broken"
        return f"<OpensshForward {self._remote} via {self._via}, {state}>"


def _refusal(control: Control, place: str, deadline: Deadline) -> str | None:
    """Opens one channel to the port and closes it; what ssh said, where none was opened."""
    with subprocess.Popen(
        control.command(options=("-v", "-W", place)),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=control.environment,
        start_new_session=True,
    ) as proof:
        timer = threading.Timer(deadline.left, proof.kill)
        timer.daemon = True
        timer.start()
        try:
            assert proof.stderr is not None
            said = b""
            for line in proof.stderr:
                if OPENED in line:
                    return None
                said += line
            proof.wait()
        finally:
            timer.cancel()
            with contextlib.suppress(ProcessLookupError):
                proof.kill()
    if deadline.is_over:
        return "the host does not answer in time"
    lines = said.decode("utf-8", "replace").splitlines()
    mux = [line for line in lines if "forwarding request failed" in line]
    return last_words(mux[0] if mux else "\n".join(lines)) or "ssh ended without a word"
