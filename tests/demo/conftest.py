"""One embedded head node for all tests that only use it, and a client that reaches it."""

from __future__ import annotations

from collections.abc import Iterator

import paramiko
import pytest

from smartsim_bridge.demo.embedded import EmbeddedHeadNode


@pytest.fixture(scope="session")
def head() -> Iterator[EmbeddedHeadNode]:
    with EmbeddedHeadNode() as node:
        yield node


@pytest.fixture
def client(head: EmbeddedHeadNode) -> Iterator[paramiko.SSHClient]:
    with paramiko.SSHClient() as connected:
        connected.load_host_keys(str(head.known_hosts))
        connected.connect(
            "127.0.0.1",
            head.ssh_port,
            username=head.user,
            key_filename=str(head.identity),
            allow_agent=False,
            look_for_keys=False,
            timeout=60,
        )
        yield connected
