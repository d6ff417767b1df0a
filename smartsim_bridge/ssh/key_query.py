"""Asks the host whether it would take a key, before anybody is asked for its passphrase.

RFC 4252 section 7 has this question, ssh asks it, and paramiko does not: it signs at once.
The class here sends the same request without a signature.  It leans on paramiko's own
handler of logins, whose method names are checked by a test against the real thing.
"""

from __future__ import annotations

import threading
from typing import Any

from ..deadline import Deadline
from .dialogue import ANSWER_SECONDS
from .library import paramiko

__all__ = ["is_acceptable"]

# The same number means either, after what was asked: RFC 4252 section 6.
MSG_USERAUTH_PK_OK = paramiko.common.MSG_USERAUTH_INFO_REQUEST


def is_acceptable(
    transport: paramiko.Transport, user: str, public: bytes, deadline: Deadline
) -> bool:
    """Whether the host would take the key.  Raises paramiko's errors if the connection ends."""
    transport.auth_timeout = max(deadline.left, ANSWER_SECONDS)
    answered = threading.Event()
    query = _Query(transport, public)
    transport.auth_handler = query
    query.auth_publickey(user, paramiko.PKey(), answered)
    try:
        query.wait_for_response(answered)
    except paramiko.AuthenticationException:
        if not transport.is_active():
            raise
    return query.is_accepted


class _Query(paramiko.auth_handler.AuthHandler):
    """Sends the question instead of a signature, and understands the answer."""

    def __init__(self, transport: paramiko.Transport, public: bytes) -> None:
        super().__init__(transport)
        self._public = public
        self.is_accepted = False

    def _parse_service_accept(self, m: paramiko.Message) -> None:
        algorithm = paramiko.Message(self._public).get_text()
        request = paramiko.Message()
        request.add_byte(paramiko.common.cMSG_USERAUTH_REQUEST)
        request.add_string(self.username or "")
        request.add_string("ssh-connection")
        request.add_string("publickey")
        request.add_boolean(False)
        request.add_string(self._finalize_pubkey_algorithm(algorithm))  # type: ignore[attr-defined]
        request.add_string(self._public)
        self.transport._send_message(request)  # type: ignore[attr-defined]

    def _on_accepted(self, m: paramiko.Message) -> None:
        self.is_accepted = True
        if self.auth_event is not None:
            self.auth_event.set()

    @property
    def _client_handler_table(self) -> dict[int, Any]:
        table = dict(super()._client_handler_table)  # type: ignore[misc]
        table[MSG_USERAUTH_PK_OK] = self._on_accepted
        return table
