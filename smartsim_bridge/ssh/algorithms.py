"""What is offered to the host: what paramiko has, less what is weak, as ssh_config restricts it.

A list there takes from ours and orders it; it adds nothing, so that no configuration brings
back what is broken.  Where it leaves nothing, `UnsupportedSshConfig`.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import UnsupportedSshConfig
from .config_line import is_matching_any
from .library import paramiko
from .target import Target

__all__ = ["disabled", "offered", "weak_ones_added"]

# keyword -> paramiko's word for the kind, and for what it offers of it
_OURS = {
    "Ciphers": ("ciphers", "_preferred_ciphers"),
    "HostKeyAlgorithms": ("keys", "_preferred_keys"),
    "KexAlgorithms": ("kex", "_preferred_kex"),
    "MACs": ("macs", "_preferred_macs"),
    "PubkeyAcceptedAlgorithms": ("pubkeys", "_preferred_pubkeys"),
}

# Broken, or with a block of 64 bits, or no longer in ssh's own list.
_WEAK = {
    "Ciphers": ("3des-cbc", "aes128-cbc", "aes192-cbc", "aes256-cbc"),
    "HostKeyAlgorithms": ("ssh-rsa", "ssh-dss"),
    "KexAlgorithms": (
        "diffie-hellman-group1-sha1",
        "diffie-hellman-group14-sha1",
        "diffie-hellman-group-exchange-sha1",
    ),
    "MACs": ("hmac-md5", "hmac-md5-96", "hmac-sha1", "hmac-sha1-96"),
    "PubkeyAcceptedAlgorithms": ("ssh-rsa", "ssh-dss"),
}


def offered(target: Target, keyword: str) -> tuple[str, ...]:
    """The algorithms of one kind, in order.  Raises UnsupportedSshConfig if none is left."""
    ours = getattr(paramiko.Transport, _OURS[keyword][1])
    safe = [name for name in ours if name not in _WEAK[keyword]]
    wanted = dict(target.algorithms).get(keyword, "")
    left = _restricted(safe, wanted)
    if not left:
        raise UnsupportedSshConfig(
            f"{keyword} {wanted} leaves nothing that paramiko speaks and that is safe",
            host=target.destination,
            step="resolve",
        )
    return tuple(left)


def disabled(target: Target) -> dict[str, list[str]]:
    """What paramiko is told not to speak with this host."""
    return {
        name: [one for one in getattr(paramiko.Transport, ours) if one not in left]
        for keyword, (name, ours) in _OURS.items()
        for left in [offered(target, keyword)]
    }


def weak_ones_added(target: Target) -> list[str]:
    """What ssh_config adds by name, `+` or `^`, of what is never offered by us.

    A plain list is none: systems write one for everybody, with weak ones at its end.
    """
    return [
        f"{keyword} {wanted}"
        for keyword, wanted in target.algorithms
        if wanted[:1] in "+^" and not set(_WEAK[keyword]).isdisjoint(wanted[1:].split(","))
    ]


def _restricted(ours: Sequence[str], wanted: str) -> list[str]:
    patterns = wanted.lstrip("+-^").split(",")
    if not wanted or wanted.startswith("+"):
        return list(ours)
    if wanted.startswith("-"):
        return [name for name in ours if not is_matching_any(name, patterns)]
    named = [name for pattern in patterns for name in ours if is_matching_any(name, [pattern])]
    first = list(dict.fromkeys(named))
    if wanted.startswith("^"):
        return first + [name for name in ours if name not in first]
    return first
