"""Which hosts there are, and what each is for."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "HEADS",
    "HOSTS",
    "LOGIN_ADDRESS",
    "LOGIN_ALIAS",
    "LOGIN_TURNS",
    "NODES",
    "Place",
    "hosts_file",
]

# `login` is no host: the router sends each new connection to the next of these.
LOGIN_ALIAS = "login"
LOGIN_ADDRESS = "10.77.70.2"
LOGIN_TURNS = ("login1", "login3")


@dataclass(frozen=True)
class Place:
    """One host's part.  `home`: which home directories it mounts; one name, one file system."""

    name: str
    net: int
    home: str = "cluster"
    python: str = "any"  # "any", "none", "zmq": has pyzmq, "old": has none
    has_sshd: bool = True
    is_head: bool = False
    is_compute: bool = False

    @property
    def address(self) -> str:
        return f"10.77.{self.net}.2"

    @property
    def router(self) -> str:
        return f"10.77.{self.net}.1"

    @property
    def has_slurm(self) -> bool:
        return self.is_head or self.is_compute


HOSTS = {
    place.name: place
    for place in (
        Place("login1", 10, python="zmq", is_head=True),
        Place("login2", 20, python="none", is_head=True),
        Place("login3", 30, python="old", is_head=True),
        Place("compute1", 11, is_compute=True),
        Place("compute2", 12, is_compute=True),
        Place("laptop", 50, home="laptop", has_sshd=False),
        Place("remote", 51, home="remote", has_sshd=False),
        Place("gateway", 60, home="gateway"),
    )
}
HEADS = tuple(name for name, place in HOSTS.items() if place.is_head)
NODES = tuple(name for name, place in HOSTS.items() if place.is_compute)


def hosts_file() -> str:
    """The text of /etc/hosts."""
    lines = ["127.0.0.1 localhost", f"{LOGIN_ADDRESS} {LOGIN_ALIAS}"]
    lines += [f"{place.address} {place.name}" for place in HOSTS.values()]
    return "\n".join(lines) + "\n"
