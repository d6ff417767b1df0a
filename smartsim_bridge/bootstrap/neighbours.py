"""Servers on other hosts that share this one's home, and whether they may stand in for it.

A login alias may lead to another head each time, and the user's server runs on one of them.
Not every host with the same home is one of these heads: on a compute node there may be a server
too, and no scheduler.  Another host cannot be asked for its processes from here: a beacon whose
heartbeat is young is a hint to go there, and no more.  Pure.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

from ..protocol.beacon import Beacon
from .facts import Facts, Neighbour

__all__ = [
    "alias_names",
    "is_known_as",
    "is_same_name",
    "means_this_host",
    "neighbours",
    "seniority",
]

_NAME = re.compile(r"[A-Za-z0-9._-]{1,253}", re.ASCII)


def neighbours(facts: Facts) -> list[tuple[Beacon, Neighbour]]:
    """Those that could be ours, the one with the youngest heartbeat first."""
    found = []
    for one in facts.neighbours:
        try:
            beacon = Beacon.from_json(one.text)
        except ValueError:
            continue
        if beacon.uid == facts.uid and beacon.host != facts.host:
            found.append((beacon, one))
    return found


def means_this_host(names: Iterable[str], facts: Facts) -> bool:
    """Whether the target, known by `names`, is this very host, and no other head will do.

    An alias has a name of its own: it may lead to another host next time.
    """
    arrived = facts.ssh_connection.split()[2:3]
    return any(
        is_same_name(name, facts.host) or (name in arrived and not _is_loopback(name))
        for name in names
    )


def is_known_as(beacon: Beacon, names: Iterable[str]) -> bool:
    """Whether one of `names` has led somebody to this server, and so may lead there again."""
    return any(is_same_name(name, known) for name in names for known in beacon.known_as)


def seniority(beacon: Beacon) -> tuple[float, str]:
    """The older server is less; no two are equal, so everybody puts them in one order.

    Each clock is its own head's.  It does not matter whose is right: all read the same figures.
    """
    return beacon.started, beacon.host


def is_same_name(one: str, other: str) -> bool:
    """Whether two names, short or with a domain, mean one host."""
    one, other = one.lower(), other.lower()
    if one == other:
        return True
    if _address(one) is not None or one.partition(".")[0] != other.partition(".")[0]:
        return False
    # login1.site and login1.other-site are two hosts.
    return "." not in one or "." not in other


def alias_names(names: Iterable[str], host: str) -> tuple[str, ...]:
    """Those of `names` by which another machine could mean `host`, beside its own name."""
    return tuple(
        dict.fromkeys(
            name
            for name in names
            if _NAME.fullmatch(name) and not name.startswith("-") and _is_another_name(name, host)
        )
    )


def _is_another_name(name: str, host: str) -> bool:
    is_own = name == "localhost" or _is_loopback(name)
    return not is_own and not is_same_name(name, host)


def _is_loopback(name: str) -> bool:
    address = _address(name)
    return address is not None and address.is_loopback


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None
