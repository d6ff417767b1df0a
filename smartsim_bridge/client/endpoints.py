"""What an endpoint of a beacon means from here, and what it means on the head.

A server may listen on loopback, on a private address, or on all addresses; only some of
these lead to it from another host.  Pure, but for the name of this host.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from ..protocol.beacon import Beacon
from .beacons import is_this_host

__all__ = ["bracketed", "forwarded", "reachable"]


def reachable(beacon: Beacon, host: str) -> Iterator[str]:
    """Endpoints of the beacon that mean its server when used from here; `host` as spelled."""
    here = is_this_host(beacon.host)
    for endpoint in beacon.endpoints:
        address, port = _split(endpoint)
        if address.is_unspecified:
            yield f"tcp://{bracketed(host)}:{port}"
        elif here or not address.is_loopback:
            yield endpoint


def forwarded(beacon: Beacon, *, elsewhere: bool) -> tuple[str, int] | None:
    """Address and port for a connection that begins on the head where an SSH login ended.

    `elsewhere`: the server runs on another head; None where no address leads from here to there.
    """
    for endpoint in beacon.endpoints:
        address, port = _split(endpoint)
        if not elsewhere:
            return ("127.0.0.1" if address.is_unspecified else str(address)), port
        if address.is_unspecified:
            return beacon.host, port
        if not address.is_loopback:
            return str(address), port
    return None


def bracketed(host: str) -> str:
    """An IPv6 address in brackets, as endpoints have it; anything else as it is."""
    return f"[{host}]" if ":" in host else host


def _split(endpoint: str) -> tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]:
    host, _, port = endpoint.partition("://")[2].rpartition(":")
    return ipaddress.ip_address(host.strip("[]")), int(port)
