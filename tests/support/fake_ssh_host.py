"""An SSH server of paramiko on a socket pair, for what a real sshd cannot be made to do:
questions of all kinds, and silence at the worst moment.  Everything else is tested with sshd.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import paramiko
from paramiko.common import AUTH_FAILED, AUTH_PARTIALLY_SUCCESSFUL, AUTH_SUCCESSFUL
from paramiko.server import InteractiveQuery

from smartsim_bridge.ssh.transport import Transport

__all__ = ["FakeHost", "transport_to"]


@dataclass
class FakeHost(paramiko.ServerInterface):
    """Asks `rounds` of questions, each a title, instructions and prompts with their echo."""

    methods: str = "keyboard-interactive,password"
    rounds: Sequence[tuple[str, str, Sequence[tuple[str, bool]]]] = ()
    password: str = "sesame"
    takes_none: bool = False
    is_silent: bool = False
    wants_more: bool = False
    wants_new_password: bool = False
    is_endless: bool = False
    banner: str = ""
    transport: paramiko.Transport | None = None
    answers: list[list[str]] = field(default_factory=list)
    attempts: list[str] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def get_allowed_auths(self, _user: str) -> str:
        return self.methods

    def get_banner(self) -> tuple[str | None, str | None]:
        return (self.banner, "") if self.banner else (None, None)

    def check_auth_none(self, _user: str) -> int:
        return AUTH_SUCCESSFUL if self.takes_none else AUTH_FAILED

    def check_auth_password(self, _user: str, password: str) -> int:
        self.attempts.append("password")
        if self.wants_new_password:
            self._ask_for_new_password()
        return self._outcome(password == self.password)

    def check_auth_interactive(self, _user: str, _submethods: str) -> int | InteractiveQuery:
        self.attempts.append("keyboard-interactive")
        return self._next_round() if self.rounds else AUTH_FAILED

    def check_auth_interactive_response(self, responses: list[str]) -> int | InteractiveQuery:
        self.answers.append(responses)
        if self.is_endless or len(self.answers) < len(self.rounds):
            return self._next_round()
        said = [answer for answers in self.answers for answer in answers]
        return self._outcome(not said or said[0] == self.password)

    def _next_round(self) -> InteractiveQuery:
        title, instructions, prompts = self.rounds[len(self.answers) % len(self.rounds)]
        return InteractiveQuery(title, instructions, *prompts)

    def _ask_for_new_password(self) -> None:
        """RFC 4252, section 8: SSH_MSG_USERAUTH_PASSWD_CHANGEREQ."""
        message = paramiko.Message()
        message.add_byte(bytes([60]))
        message.add_string("Your password has expired.")
        message.add_string("")
        assert self.transport is not None
        self.transport._send_message(message)  # type: ignore[attr-defined]

    def _outcome(self, is_right: bool) -> int:
        if self.is_silent:
            self.released.wait(60)
        if self.wants_more:
            return AUTH_PARTIALLY_SUCCESSFUL
        return AUTH_SUCCESSFUL if is_right else AUTH_FAILED


@contextlib.contextmanager
def transport_to(host: FakeHost) -> Iterator[paramiko.Transport]:
    """A transport whose keys are exchanged with the host, and no login made."""
    near, far = socket.socketpair()
    server, client = paramiko.Transport(far), Transport(near)
    host.transport = server
    for transport in (server, client):
        transport.set_log_channel("tests.fake_ssh_host")
    server.add_server_key(paramiko.ECDSAKey.generate())
    server.start_server(server=host, event=threading.Event())
    client.start_client(timeout=60)
    try:
        yield client
    finally:
        host.released.set()
        client.close()
        server.close()
