"""Whether paramiko can reach a target as ssh would: asked where there is a choice of engines.

`ssh_config` refuses keywords; here is refused what shows only in known_hosts and in the
files of keys.  With paramiko chosen by the user, these are passed over: a host certificate
is not asked for, a security key not tried.
"""

from __future__ import annotations

import os

from ..errors import UnsupportedSshConfig
from .algorithms import disabled, weak_ones_added
from .known_hosts import read_known_keys
from .target import SSH_PORT, Target

__all__ = ["refuse_what_paramiko_cannot", "weak_ones_wanted"]


def refuse_what_paramiko_cannot(target: Target) -> None:
    """Raises UnsupportedSshConfig, before anything is sent, where ssh may judge the target or
    one of its jump hosts otherwise than we, or log in otherwise."""
    for host in (*target.hops, target):
        disabled(host)  # raises where no algorithm is left
        _refuse_authorities(host)
        _refuse_security_keys(host)


def weak_ones_wanted(target: Target) -> str:
    """What ssh_config adds that is weak; no reason to refuse, for the host may have better."""
    return ", ".join(one for host in (*target.hops, target) for one in weak_ones_added(host))


def _refuse_authorities(target: Target) -> None:
    names = {target.host_key_name}
    if target.port != SSH_PORT and target.host_key_name.startswith("["):
        names.add(target.hostname)
    for name in sorted(names):
        for line in read_known_keys(name, target.known_hosts):
            # A key may be revoked as that of an authority, and only a certificate names that.
            if line.marker:
                raise _unsupported(target, f"{line.marker} of {line.place}")


def _refuse_security_keys(target: Target) -> None:
    for path in target.identities:
        try:
            with open(f"{path}.pub", "rb") as file:
                is_hardware = file.read(3) == b"sk-"
        except OSError:
            is_hardware = False
        if is_hardware and os.path.exists(path) and "publickey" in target.methods:
            raise _unsupported(target, f"the security key of {path}")


def _unsupported(target: Target, what: str) -> UnsupportedSshConfig:
    return UnsupportedSshConfig(
        f"paramiko cannot honour {what}", host=target.destination, step="resolve"
    )
