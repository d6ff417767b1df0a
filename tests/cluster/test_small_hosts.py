"""Heads that are no GNU system with OpenSSH: dropbear as the server, busybox for all programs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .cluster import Cluster
from .doors import open_dropbear, open_sshd

pytestmark = pytest.mark.cluster


def assert_reached(cluster: Cluster, port: int, engine: str, transport: str) -> None:
    laptop, near = cluster.host("laptop"), cluster.near("laptop", "alice")
    laptop.run("sh", "-c", "echo HostKeyAlias login1 > ~/.ssh/config", user="alice")
    outcome = near.connect(
        addr="login1",
        ssh_port=port,
        ssh=engine,
        transport=transport,
        autostart=True,
        run=[["hostname"]],
    )
    assert outcome.transport == transport
    assert outcome.completed[0]["stdout"] == "login1\n"


def test_a_dropbear_is_as_good_as_an_sshd(cluster: Cluster) -> None:
    with open_dropbear(cluster.host("login1"), 2206):
        for engine in ("paramiko", "openssh"):
            for transport in ("tunnel", "stdio"):
                assert_reached(cluster, 2206, engine, transport)


@pytest.fixture
def busybox(cluster: Cluster) -> Iterator[None]:
    """login1's /bin/sh and alice's login shell are busybox's, and so is all she finds on PATH."""
    login1 = cluster.host("login1")
    login1.run(
        "sh",
        "-ec",
        "mkdir /run/busybox; cd /run/busybox; program=$(command -v busybox)\n"
        'for name in $(busybox --list); do ln -s "$program" "$name"; done\n'
        "mv /bin/sh /bin/sh.former; ln -s /run/busybox/sh /bin/sh\n"
        "sed -i.former 's#^\\(alice:.*:\\)/bin/bash#\\1/run/busybox/ash#' /etc/passwd\n",
    )
    try:
        with open_sshd(login1, 2208, "SetEnv=PATH=/run/busybox:/usr/local/bin"):
            yield
    finally:
        login1.run("mv", "/bin/sh.former", "/bin/sh")
        login1.run("mv", "/etc/passwd.former", "/etc/passwd")
        login1.run("rm", "-r", "/run/busybox")


@pytest.mark.usefixtures("busybox")
def test_busybox_is_enough_of_a_system(cluster: Cluster) -> None:
    assert_reached(cluster, 2208, "openssh", "tunnel")
    assert_reached(cluster, 2208, "paramiko", "stdio")
    done = cluster.near("laptop", "alice").cli("stop", "--addr", "login1", "--ssh-port", "2208")
    assert "stopped" in done.stdout
