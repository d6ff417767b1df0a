"""What a starter and its agent say to each other until the agent is ready.

Lines of JSON over a pair of sockets, one object each: the agent has a question for the person
at the starter's terminal, or says that it is ready, or why not.  Its end is the starter's end.
An answer may be a secret: nothing of it is kept or logged.
"""

from __future__ import annotations

import json
import socket
from typing import Any

from ..errors import AgentFailed, AuthenticationRequired, CommandServerError
from ..ssh.ask import Ask

__all__ = ["AgentSide", "StarterSide", "not_started", "parts_of"]

LONGEST_LINE = 64 * 1024
_PARTS = ("what", "host", "step", "advice")
ADVICE = (
    "Run `smartsim-bridge shims start` at a terminal of this host: it asks you, and the shims "
    "need nobody then."
)


def parts_of(fault: CommandServerError) -> dict[str, str | None]:
    """What another process makes `not_started` of."""
    return {name: getattr(fault, name) for name in _PARTS}


def not_started(parts: dict[str, str | None]) -> AgentFailed:
    """The same, from the one who waited for the agent."""
    what, *rest = (parts.get(name) for name in _PARTS)
    return AgentFailed(str(what), **dict(zip(_PARTS[1:], rest)))


class _Lines:
    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._held = b""

    def say(self, **what: Any) -> None:
        self._end.sendall(json.dumps(what).encode() + b"\n")

    def hear(self) -> dict[str, Any]:
        """The next line.  Raises EOFError, or OSError: TimeoutError where it took too long."""
        while b"\n" not in self._held:
            data = self._end.recv(4096)
            if not data or len(self._held) > LONGEST_LINE:
                raise EOFError
            self._held += data
        line, _, self._held = self._held.partition(b"\n")
        heard = json.loads(line)
        if not isinstance(heard, dict):
            raise EOFError
        return heard


class AgentSide:
    """The agent's end; its methods block, and may be called from any thread, one at a time."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._lines = _Lines(end)

    def ask(self, prompt: str, secret: bool) -> str:
        """As `init_command_server` wants it.  Raises AuthenticationRequired."""
        try:
            self._lines.say(ask=prompt, secret=secret)
            heard = self._lines.hear()
        except (OSError, EOFError, ValueError):
            heard = {"refused": "the shim that started the agent has gone"}
        if "answer" in heard:
            return str(heard["answer"])
        why = str(heard.get("refused"))
        raise AuthenticationRequired(
            f"The agent must log in, and {why}", step="agent", advice=ADVICE
        )

    def ready(self) -> None:
        """Shims are served from now on."""
        self._finish(ready=True)

    def failed(self, why: CommandServerError) -> None:
        """There is no agent."""
        self._finish(failed={**parts_of(why), "what": f"No agent: {why.what}"})

    def _finish(self, **what: Any) -> None:
        try:
            self._lines.say(**what)
        except OSError:
            pass  # it has gone: then nobody waits
        self._socket.close()


class StarterSide:
    """The starter's end, in front of a person perhaps."""

    def __init__(self, end: socket.socket, ask: Ask) -> None:
        self._socket = end
        self._lines = _Lines(end)
        self._ask = ask

    def attend(self, seconds: float) -> None:
        """Answers until the agent is ready.  `seconds`: from one word of it to the next.

        Raises AgentFailed, with the agent's own words where it has said why.
        """
        self._socket.settimeout(seconds)
        while True:
            try:
                heard = self._lines.hear()
            except (OSError, EOFError, ValueError) as broken:
                why = "said nothing" if isinstance(broken, socket.timeout) else "ended"
                raise AgentFailed(f"The agent {why} before it was ready", step="agent") from None
            if "ready" in heard:
                return
            if "failed" in heard:
                raise not_started(heard["failed"])
            self._answer(str(heard.get("ask")), bool(heard.get("secret", True)))

    def _answer(self, prompt: str, secret: bool) -> None:
        try:
            self._lines.say(answer=self._ask(prompt, secret))
        except AuthenticationRequired as nobody:
            self._lines.say(refused=nobody.what)
