"""The question that paramiko does not ask, put to a real sshd."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest

from smartsim_bridge.deadline import Deadline
from smartsim_bridge.ssh.key_query import is_acceptable
from smartsim_bridge.ssh.keys import public_blob
from tests.support.fixtures import MakeSshd
from tests.support.sshd import Sshd, make_key


@pytest.fixture
def transport(sshd: Sshd) -> Iterator[paramiko.Transport]:
    made = paramiko.Transport((sshd.host, sshd.port))
    made.start_client(timeout=60)
    yield made
    made.close()


def blob(key: Path) -> bytes:
    public = public_blob(str(key))
    assert public is not None
    return public


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_a_key_is_wanted_once_it_is_authorised(
    kind: str, sshd: Sshd, transport: paramiko.Transport, tmp_path: Path
) -> None:
    key = make_key(tmp_path / "key", kind)
    assert not is_acceptable(transport, sshd.user.name, blob(key), Deadline(60))
    sshd.authorize(key)
    assert is_acceptable(transport, sshd.user.name, blob(key), Deadline(60))
    assert not transport.is_authenticated()


def test_after_the_question_the_key_logs_in(sshd: Sshd, transport: paramiko.Transport) -> None:
    assert is_acceptable(transport, sshd.user.name, blob(sshd.identity), Deadline(60))
    key = paramiko.Ed25519Key.from_private_key_file(str(sshd.identity))
    assert transport.auth_publickey(sshd.user.name, key) == []


def test_a_connection_that_ends_at_the_question_raises(make_sshd: MakeSshd, tmp_path: Path) -> None:
    running = make_sshd("MaxAuthTries 1")
    transport = paramiko.Transport((running.host, running.port))
    transport.start_client(timeout=60)
    with pytest.raises(paramiko.SSHException):
        is_acceptable(transport, running.user.name, blob(make_key(tmp_path / "k")), Deadline(60))
    transport.close()
