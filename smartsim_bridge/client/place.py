"""Where a target is, as far as its spelling tells: on this host, or to be reached by SSH.

Decided without a name server and without ssh_config, so that a local or direct link needs
neither.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..settings import Settings
from .beacons import is_this_host

__all__ = ["Place"]


@dataclass(frozen=True)
class Place:
    """`host` without user and port; `is_here`: it is this host; `needs_ssh`: SSH may be used."""

    host: str
    is_here: bool
    needs_ssh: bool

    @classmethod
    def of(cls, settings: Settings) -> Place:
        """A loopback address with any SSH detail is not here: it may be somebody's `ssh -L`."""
        user, host, port = _parts(settings.addr)
        own = (None, "", settings.local_user)
        plain = (
            user in own
            and settings.user in own
            and not port
            and not any((settings.ssh_port, settings.ssh_config, settings.identity, settings.jump))
        )
        is_here = plain and is_this_host(host)
        by_ssh = settings.transport in ("tunnel", "stdio") or not is_here
        return cls(host, is_here, by_ssh and settings.transport != "local")


def _parts(addr: str) -> tuple[str, str, str]:
    """User, host and port as spelled; the strict reading is that of `ssh.target`."""
    rest = addr.partition("://")[2] or addr
    user, _, host = rest.rpartition("@")
    if host.startswith("["):
        name, _, port = host[1:].partition("]")
        return user, name, port.lstrip(":")
    name, _, port = host.partition(":")
    return (user, host, "") if host.count(":") > 1 else (user, name, port)
