"""What ssh says when it gives up, and the error that it becomes; no ssh runs here."""

from __future__ import annotations

import pytest

from smartsim_bridge.errors import AuthenticationFailed, AuthenticationRequired
from smartsim_bridge.ssh.openssh_errors import error_from

REFUSED_CARD = (
    "PKCS#11 login failed: PIN incorrect\r\n"
    "login failed\r\n"
    "pkcs11_get_key failed\r\n"
    'sign_and_send_pubkey: signing failed for ECDSA "one": error in libcrypto\r\n'
    "me@head: Permission denied (publickey).\r\n"
)


def test_a_refused_pin_is_the_reason_where_nothing_was_asked_after_it() -> None:
    error = error_from(REFUSED_CARD, host="me@head:22", can_ask=True)
    assert isinstance(error, AuthenticationFailed)
    assert error.what == "the smart card did not let us in: PIN incorrect"
    assert (error.host, error.step) == ("me@head:22", "authenticate")


@pytest.mark.parametrize(
    ("ways", "kind"),
    [
        ("gssapi-with-mic", AuthenticationFailed),
        ("gssapi-with-mic,password", AuthenticationRequired),
    ],
)
def test_where_the_host_takes_tickets_the_advice_says_how_to_get_one(
    ways: str, kind: type[Exception]
) -> None:
    said = f"me@head: Permission denied ({ways}).\r\n"
    error = error_from(said, host="me@head:22", can_ask=False)
    assert type(error) is kind
    assert "kinit" in error.advice


def test_where_it_takes_none_nothing_is_said_of_tickets() -> None:
    said = "me@head: Permission denied (publickey).\r\n"
    assert "kinit" not in error_from(said, host="me@head:22", can_ask=True).advice
