"""What only OpenSSH can log in with: tickets, certificates, smart cards, security keys."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.waiting import wait_until

from .cluster import Cluster
from .doors import open_kdc, open_sshd
from .host import Host
from .near_side import SOON, Outcome

pytestmark = pytest.mark.cluster

PIN = "2468"
CARD_LIBRARY = "/usr/lib/softhsm/libsofthsm2.so"
CARD = {"SOFTHSM2_CONF": "/home/alice/softhsm2.conf"}
SECURITY_KEY_PROVIDER = "/usr/lib/openssh/regress/misc/sk-dummy/sk-dummy.so"
# The keys of an account are not in play.
NO_KEYS = "rm ~/.ssh/id_*"


def details(outcome: Outcome) -> dict[str, str]:
    assert outcome.error is None, outcome.error["text"]
    assert outcome.status is not None
    return {one["name"]: one["detail"] for one in outcome.status["stages"]}


def error(outcome: Outcome) -> dict[str, Any]:
    assert outcome.error is not None, outcome.status
    assert outcome.seconds < SOON
    return outcome.error


def configure(host: Host, user: str, *lines: str) -> None:
    text = "".join(f"{line}\n" for line in lines)
    host.run("sh", "-c", "cat > ~/.ssh/config", user=user, input=text)


# --- Kerberos ---------------------------------------------------------------------------------


@pytest.fixture
def laptop_in_realm(cluster: Cluster) -> Iterator[Host]:
    """bob has no key, and login1's port 2203 takes nothing but tickets."""
    login1, laptop = cluster.host("login1"), cluster.host("laptop")
    only = ("GSSAPIAuthentication=yes", "AuthenticationMethods=gssapi-with-mic")
    laptop.run("sh", "-c", NO_KEYS, user="bob")
    configure(
        laptop,
        "bob",
        "HostKeyAlias login1",
        "GSSAPIAuthentication yes",
        "GSSAPIDelegateCredentials yes",
    )
    with open_kdc(login1, laptop, passwords={"bob": "bob-krb"}), open_sshd(login1, 2203, *only):
        yield laptop


def test_a_ticket_is_all_it_takes_and_is_not_forwarded(
    laptop_in_realm: Host, cluster: Cluster
) -> None:
    near, login1 = cluster.near("laptop", "bob"), cluster.host("login1")
    laptop_in_realm.run("kinit", "-f", "bob", user="bob", input="bob-krb\n")
    outcome = near.connect(
        addr="login1", ssh_port=2203, autostart=True, run=[["hostname"], ["squeue"], ["ls", "/tmp"]]
    )
    assert "Kerberos ticket" in details(outcome)["resolve"]
    assert "gssapi-with-mic by the system's ssh" in details(outcome)["authenticate"]
    assert outcome.transport == "tunnel"
    assert outcome.asked == []
    assert outcome.completed[0]["stdout"] == "login1\n"
    assert outcome.completed[1]["returncode"] == 0
    assert "krb5cc" not in outcome.completed[2]["stdout"]
    assert login1.sshd_log(2203).count("Accepted gssapi-with-mic for bob") == 1

    refused = error(near.connect(addr="login1", ssh_port=2203, ssh="paramiko"))
    assert refused["kind"] == "AuthenticationFailed"
    assert 'ssh="openssh"' in refused["advice"]


def test_without_a_valid_ticket_it_is_said_where_to_get_one(
    laptop_in_realm: Host, cluster: Cluster
) -> None:
    laptop_in_realm.run("kinit", "-l", "1s", "bob", user="bob", input="bob-krb\n")
    wait_until(lambda: laptop_in_realm.run("klist", "-s", user="bob", check=False).returncode)
    expired = cluster.near("laptop", "bob").connect(addr="login1", ssh_port=2203)
    # Hosts are lenient with tickets of a moment ago, and ssh asks them.
    laptop_in_realm.run("kdestroy", user="bob")
    without = cluster.near("laptop", "bob").connect(addr="login1", ssh_port=2203, ssh="openssh")
    for outcome in (expired, without):
        assert error(outcome)["kind"] == "AuthenticationFailed"
        assert "kinit" in error(outcome)["advice"]
        assert outcome.asked == []


# --- certificates -----------------------------------------------------------------------------


@pytest.fixture
def authority(cluster: Cluster) -> Iterator[Host]:
    """login1, with keys of an authority and of a stranger in /run/ca."""
    login1 = cluster.host("login1")
    login1.run(
        "sh",
        "-ec",
        "mkdir /run/ca; cd /run/ca\n"
        "for key in ca stranger host user; do ssh-keygen -q -t ed25519 -N '' -f $key; done\n"
        "ssh-keygen -q -s ca -I login1 -h -n login1 host.pub\n"
        "ssh-keygen -q -s ca -I alice -n alice user.pub\n",
    )
    yield login1
    login1.run("rm", "-r", "/run/ca")


def trust(laptop: Host, host: Host, authority: str) -> None:
    public = host.path(f"/run/ca/{authority}.pub").read_text("ascii")
    laptop.path("/home/alice/.ssh/known_hosts").write_text(f"@cert-authority *login1* {public}")


def test_a_host_is_known_by_its_authority(authority: Host, cluster: Cluster) -> None:
    near, laptop = cluster.near("laptop", "alice"), cluster.host("laptop")
    options = ("HostKey=/run/ca/host", "HostCertificate=/run/ca/host-cert.pub")
    with open_sshd(authority, 2204, *options):
        trust(laptop, authority, "ca")
        outcome = near.connect(addr="login1", ssh_port=2204, autostart=True, run=[["hostname"]])
        assert "@cert-authority" in details(outcome)["resolve"]
        assert (outcome.transport, outcome.asked) == ("tunnel", [])

        refused = error(near.connect(addr="login1", ssh_port=2204, ssh="paramiko"))
        assert refused["kind"] == "HostKeyUnknown"
        assert 'ssh="openssh"' in refused["advice"]

        trust(laptop, authority, "stranger")
        refused = error(near.connect(addr="login1", ssh_port=2204))
        assert (refused["kind"], refused["step"]) == ("HostKeyUnknown", "host key")
        assert authority.sshd_log(2204).count("Accepted publickey for alice") == 1


@pytest.mark.parametrize(
    ("certificate", "engine"), [("~/.ssh/id_ed25519-cert.pub", "paramiko"), ("~/mine", "openssh")]
)
def test_a_user_is_known_by_a_certificate(
    certificate: str, engine: str, authority: Host, cluster: Cluster
) -> None:
    """paramiko takes one that lies beside its key, and leaves the others to ssh."""
    laptop = cluster.host("laptop")
    words = [f"CertificateFile {certificate}"] if engine == "openssh" else []
    configure(laptop, "alice", "HostKeyAlias login1", *words)
    files = {"user": "~/.ssh/id_ed25519", "user.pub": "~/.ssh/id_ed25519.pub"}
    for name, place in {**files, "user-cert.pub": certificate}.items():
        text = authority.path(f"/run/ca/{name}").read_text("ascii")
        laptop.run("sh", "-c", f"cat > {place}", user="alice", input=text)
    with open_sshd(authority, 2205, "TrustedUserCAKeys=/run/ca/ca.pub"):
        outcome = cluster.near("laptop", "alice").connect(
            addr="login1", ssh_port=2205, autostart=True, run=[["hostname"]]
        )
        assert ("system's ssh" in details(outcome)["authenticate"]) == (engine == "openssh")
        assert outcome.asked == []
        log = authority.sshd_log(2205)
        assert re.search(r"^Accepted publickey for alice .* ED25519-CERT ", log, re.MULTILINE)


# --- smart cards ------------------------------------------------------------------------------


@pytest.fixture
def card(cluster: Cluster) -> None:
    """alice has a card with two keys, either of which logs in, and no key in a file."""
    laptop = cluster.host("laptop")
    conf = "directories.tokendir = /home/alice/tokens\n"
    laptop.run("sh", "-c", "cat > softhsm2.conf; mkdir tokens", user="alice", input=conf)
    laptop.run(
        "sh",
        "-ec",
        f"{NO_KEYS}\n"
        f"softhsm2-util --init-token --free --label card --pin {PIN} --so-pin 13579\n"
        "for id in 01 02; do\n"
        "    ssh-keygen -q -t ecdsa -m PKCS8 -N '' -f key-$id\n"
        f"    softhsm2-util --import key-$id --token card --label $id --id $id --pin {PIN}\n"
        "    rm key-$id\n"
        "done\n",
        user="alice",
        env=CARD,
    )
    configure(laptop, "alice", f"PKCS11Provider {CARD_LIBRARY}")
    public = laptop.run("ssh-keygen", "-D", CARD_LIBRARY, user="alice", env=CARD).stdout
    assert len(public.splitlines()) == 2
    cluster.host("login1").path("/home/alice/.ssh/authorized_keys").write_text(public)


@pytest.mark.usefixtures("card")
def test_the_pin_of_a_card_is_asked_once(cluster: Cluster) -> None:
    outcome = cluster.near("laptop", "alice").connect(
        addr="login1", autostart=True, env=CARD, answers=[("PIN", PIN)], run=[["hostname"]]
    )
    assert "PKCS11Provider" in details(outcome)["resolve"]
    assert "publickey" in details(outcome)["authenticate"]
    assert outcome.asked == ["Enter PIN for 'card': "]


@pytest.mark.usefixtures("card")
def test_a_wrong_pin_is_told_to_the_card_once(cluster: Cluster) -> None:
    """Of three wrong ones a card locks itself, and this one has two keys to ask for."""
    outcome = cluster.near("laptop", "alice").connect(
        addr="login1", env=CARD, answers=[("PIN", "0000"), ("assword", "alice-pw")]
    )
    refused = error(outcome)
    assert refused["kind"] == "AuthenticationFailed"
    assert "PIN incorrect" in refused["what"]
    assert "0000" not in refused["text"]
    assert len(outcome.asked) == 1


# --- security keys ----------------------------------------------------------------------------

TOUCHING = """
import pathlib
from smartsim_bridge import init_command_server

def on_stage(stage):
    if stage.name == "touch":
        print(stage.detail)
        pathlib.Path("touched").touch()

with init_command_server(addr="login1", autostart=True, on_stage=on_stage) as bridge:
    print(bridge.run(["hostname"]).stdout)
"""


def test_a_security_key_says_that_it_waits_for_a_touch(cluster: Cluster) -> None:
    """The key is OpenSSH's dummy; it answers when the person of this test has heard of it."""
    laptop, login1 = cluster.host("laptop"), cluster.host("login1")
    configure(laptop, "alice", f"SecurityKeyProvider {SECURITY_KEY_PROVIDER}")
    laptop.run(
        "sh",
        "-ec",
        f"{NO_KEYS}; cd .ssh\n"
        f"ssh-keygen -q -t ed25519-sk -w {SECURITY_KEY_PROVIDER} -N '' -f id_ed25519_sk\n"
        "cat > key-helper; chmod 700 key-helper\n",
        user="alice",
        input="#!/bin/sh\nuntil [ -e ~/touched ]; do sleep 0.02; done\n"
        "exec /usr/lib/openssh/ssh-sk-helper\n",
    )
    public = laptop.path("/home/alice/.ssh/id_ed25519_sk.pub").read_text("ascii")
    login1.path("/home/alice/.ssh/authorized_keys").write_text(public)
    done = cluster.near("laptop", "alice").python(
        TOUCHING, env={"SSH_SK_HELPER": "/home/alice/.ssh/key-helper"}
    )
    assert done.returncode == 0, done.stderr
    assert "Confirm user presence" in done.stdout
    assert "login1\n" in done.stdout
    assert "ED25519-SK" in login1.sshd_log()
