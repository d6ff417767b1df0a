"""The fixtures that need a real SSH server; registered for all tests in tests/conftest.py.

`sshd` is one server for the whole run, for tests that only connect.  `make_sshd` starts one
with its own configuration for one test.  Both log `head_user` in: another user than the one
who runs the tests, where that is root, else the same.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Protocol

import pytest

from smartsim_bridge.deadline import Deadline
from smartsim_bridge.ssh.ask import Ask
from smartsim_bridge.ssh.connection import SshConnection
from smartsim_bridge.ssh.target import Target
from smartsim_bridge.stages import Journey

from .sshd import HOST_KEY_TYPES, SSHD, Sshd
from .users import User, is_root, throwaway_user, us

__all__ = [
    "Connect",
    "MakeSshd",
    "connect",
    "head_user",
    "make_sshd",
    "needs_sshd",
    "other_user",
    "sshd",
]

CONNECT_SECONDS = 60.0


class MakeSshd(Protocol):
    def __call__(
        self,
        *config: str,
        host_key_types: Sequence[str] = HOST_KEY_TYPES,
        environment: Mapping[str, str] | None = None,
        user: User | None = None,
    ) -> Sshd: ...


class Connect(Protocol):
    def __call__(
        self, target: Target, *, ask: Ask | None = None, host_keys: str = "strict"
    ) -> SshConnection: ...


@pytest.fixture(scope="session")
def needs_sshd() -> None:
    """Skips where OpenSSH is not installed; in CI that is a failure."""
    missing = [name for name in ("ssh", "ssh-keygen") if shutil.which(name) is None]
    missing += [] if SSHD else ["sshd"]
    if missing:
        reason = f"OpenSSH is not installed here: {', '.join(missing)} not found"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(scope="session")
def head_user(needs_sshd: None) -> User:
    """Who logs in."""
    return throwaway_user("ssb_alice") if is_root() else us()


@pytest.fixture(scope="session")
def other_user() -> User:
    """A second user of the same machine, who must see nothing of the first."""
    if not is_root():
        pytest.skip("acting as a second user needs root")
    return throwaway_user("ssb_bob")


@pytest.fixture(scope="session")
def sshd(head_user: User) -> Iterator[Sshd]:
    with Sshd(head_user) as running:
        yield running


@pytest.fixture
def make_sshd(head_user: User) -> Iterator[MakeSshd]:
    """Starts servers with lines of sshd_config; they end with the test."""
    with ExitStack() as stack:

        def make(
            *config: str,
            host_key_types: Sequence[str] = HOST_KEY_TYPES,
            environment: Mapping[str, str] | None = None,
            user: User | None = None,
        ) -> Sshd:
            running = Sshd(
                user or head_user, config, host_key_types=host_key_types, environment=environment
            )
            return stack.enter_context(running)

        yield make


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Opens connections that are closed with the test."""
    with ExitStack() as stack:

        def connect(
            target: Target, *, ask: Ask | None = None, host_keys: str = "strict"
        ) -> SshConnection:
            connection = SshConnection.open(
                target,
                ask=ask,
                host_keys=host_keys,
                deadline=Deadline(CONNECT_SECONDS),
                journey=Journey(target.alias),
            )
            return stack.enter_context(connection)

        yield connect
