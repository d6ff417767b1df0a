"""Daemons that a test starts in a host beside its own: another SSH server, a Kerberos realm.

Each ends with its `with` block.  Ports 2203 to 2209 pass the firewall from the laptop.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tests.support.waiting import wait_until

from .host import Host

__all__ = ["open_dropbear", "open_kdc", "open_sshd"]

REALM = "CLUSTER.TEST"
KDC_PORT = 2209
# There is no DNS to look anything up in.
KRB5_CONF = f"""\
[libdefaults]
    default_realm = {REALM}
    dns_lookup_kdc = false
    dns_lookup_realm = false
    dns_canonicalize_hostname = false
    rdns = false
    udp_preference_limit = 1
[realms]
    {REALM} = {{
        kdc = login1:{KDC_PORT}
    }}
"""
KDC_CONF = f"""\
[kdcdefaults]
    kdc_listen = ""
    kdc_tcp_listen = {KDC_PORT}
[realms]
    {REALM} = {{
        database_name = /run/kdc/principal
        key_stash_file = /run/kdc/stash
    }}
"""


@contextmanager
def open_sshd(host: Host, port: int, *options: str) -> Iterator[None]:
    """OpenSSH's server with options of its own; its log is `host.sshd_log(port)`."""
    log, pid = f"/var/log/sshd-{port}.log", f"/run/sshd-{port}.pid"
    words = [word for option in (f"PidFile={pid}", *options) for word in ("-o", option)]
    host.run("/usr/sbin/sshd", "-E", log, "-p", str(port), *words)
    with _until_killed(host, pid):
        yield


@contextmanager
def open_dropbear(host: Host, port: int) -> Iterator[None]:
    """The SSH server of small machines, with the host key of the host's own sshd."""
    key, pid = "/run/dropbear-key", f"/run/dropbear-{port}.pid"
    host.run("dropbearconvert", "openssh", "dropbear", "/etc/ssh/cluster_host_key", key)
    host.run("dropbear", "-r", key, "-p", str(port), "-P", pid)
    with _until_killed(host, pid):
        yield


@contextmanager
def open_kdc(host: Host, *clients: Host, passwords: Mapping[str, str]) -> Iterator[None]:
    """A realm of `host`, which gets a keytab, and of people with passwords.

    `host` and `clients` stay configured for it: their /etc belongs to no machine.
    """
    for one in (host, *clients):
        one.path("/etc/krb5.conf").write_text(KRB5_CONF, encoding="ascii")
    profile = {"KRB5_KDC_PROFILE": "/run/kdc/kdc.conf"}
    host.run("mkdir", "/run/kdc")
    try:
        host.path("/run/kdc/kdc.conf").write_text(KDC_CONF, encoding="ascii")
        host.run("kdb5_util", "create", "-s", "-W", "-P", "master-pw", env=profile)
        lines = [f"addprinc -pw {password} {name}" for name, password in passwords.items()]
        lines += [f"addprinc -randkey host/{host.name}", f"ktadd host/{host.name}"]
        host.run("kadmin.local", input="\n".join(lines) + "\n", env=profile)
        host.run("krb5kdc", "-P", "/run/kdc/pid", env=profile)
        with _until_killed(host, "/run/kdc/pid"):
            yield
    finally:
        host.run("rm", "-rf", "/run/kdc", "/etc/krb5.keytab")


@contextmanager
def _until_killed(host: Host, pid_file: str) -> Iterator[None]:
    """For a daemon that writes its number down once it listens."""
    file = host.path(pid_file)
    wait_until(lambda: file.exists() and file.read_text("ascii").strip())
    pid = file.read_text("ascii").strip()
    try:
        yield
    finally:
        host.run("kill", pid)
        wait_until(lambda: not host.path(f"/proc/{pid}").exists())
        file.unlink(missing_ok=True)
