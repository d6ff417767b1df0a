"""Which of the user's servers is meant: those that live here, and those on other heads.

A beacon of this host counts only if host, boot, user, process and the start time of the
process all match; every other one is a leftover: passed over, never trusted, and its process
never touched.  Where the target is an alias of several heads, servers on other heads count as
well.  Pure; `plan` asks, and knows what to do where there is none.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..protocol.beacon import Beacon, Credentials
from .facts import BeaconFound, Facts
from .neighbours import is_known_as, means_this_host, neighbours, seniority

__all__ = [
    "Elsewhere",
    "Use",
    "choose",
    "live_here",
    "of_session",
    "out_of_reach",
    "servers_anywhere",
    "servers_elsewhere",
]


@dataclass(frozen=True)
class Use:
    """A server runs; `credentials` is None where its keys are not to be had."""

    beacon: Beacon
    credentials: Credentials | None


@dataclass(frozen=True)
class Elsewhere:
    """Servers run on other heads that the target may mean as well, the best first."""

    servers: tuple[Use, ...]


def choose(
    live: Use | None, others: list[Use], names: tuple[str, ...], sought: tuple[str, int] | None
) -> Use | Elsewhere | None:
    """The server to go to: `live` is here, `others` are on other heads.

    Commands belong to one server, so the one that a session is with (`sought`) comes before
    all.  Else the one here, unless both it and an older one were started as the alias: wherever
    logins end, all of them then choose the same.
    """
    mine = of_session(others, sought)
    if mine:
        return Elsewhere(mine)
    known = [use for use in others if is_known_as(use.beacon, names)]
    known.sort(key=lambda use: seniority(use.beacon))
    if live is not None:
        known = [] if _is(live, sought) else _before(live.beacon, known, names)
    return Elsewhere(tuple(known)) if known else live


def of_session(servers: Iterable[Use], sought: tuple[str, int] | None) -> tuple[Use, ...]:
    """Of `servers` the one that a session is with; none where it is not among them."""
    return tuple(use for use in servers if _is(use, sought))


def _is(use: Use, sought: tuple[str, int] | None) -> bool:
    return (use.beacon.host, use.beacon.pid) == sought


def _before(live: Beacon, known: list[Use], names: tuple[str, ...]) -> list[Use]:
    """Those that come before `live`; none that was out of reach when it was started."""
    if not is_known_as(live, names):
        return []  # this very head was named, and the login has led here again
    return [
        use
        for use in known
        if seniority(use.beacon) < seniority(live) and use.beacon.host not in live.apart_from
    ]


def servers_anywhere(facts: Facts) -> list[Beacon]:
    """Those that seem to run, on whatever host with this home."""
    live, _ = live_here(facts)
    here = [] if live is None else [live.beacon]
    return here + [beacon for beacon, _ in neighbours(facts)]


# --- on other heads -----------------------------------------------------------------------


def servers_elsewhere(facts: Facts, names: tuple[str, ...], port: int) -> list[Use]:
    """On other hosts, where the user did not name this one."""
    if not names or means_this_host(names, facts):
        return []
    return [
        Use(beacon, _credentials(beacon, found.key_text))
        for beacon, found in neighbours(facts)
        if not port or port in beacon.ports
    ]


def out_of_reach(facts: Facts, names: tuple[str, ...]) -> tuple[str, ...]:
    """The heads whose servers would have done, for a server that is started all the same."""
    hosts = (beacon.host for beacon, _ in neighbours(facts) if is_known_as(beacon, names))
    return tuple(sorted(set(hosts)))


# --- here ---------------------------------------------------------------------------------


def live_here(facts: Facts) -> tuple[Use | None, list[str]]:
    """The newest live server, and why each other beacon is none."""
    live: list[Use] = []
    leftovers: list[str] = []
    for found in facts.beacons:
        try:
            beacon = Beacon.from_json(found.text)
        except ValueError as wrong:
            leftovers.append(f"{found.path}: not a beacon ({wrong})")
            continue
        fault = _fault(beacon, found, facts)
        if fault:
            leftovers.append(f"{found.path}: {fault}")
        else:
            live.append(Use(beacon, _credentials(beacon, found.key_text)))
    return max(live, key=lambda use: use.beacon.started, default=None), leftovers


def _fault(beacon: Beacon, found: BeaconFound, facts: Facts) -> str:
    """Why this beacon leads to no server of ours; empty where it does."""
    if beacon.host != facts.host:
        return f"of another host, {beacon.host}"
    if beacon.uid != facts.uid:
        return f"of another user, uid {beacon.uid}"
    if beacon.boot_id != facts.boot_id:
        return "from before the last reboot"
    if not found.alive:
        return f"process {beacon.pid} has ended"
    # Without /proc nobody knows a start time; then neither did the server.
    if beacon.pid_start != (found.start or 0):
        return f"pid {beacon.pid} belongs to another process now"
    is_in_place = found.path.startswith(f"{facts.state_dir}/") or not facts.state_writable
    if not is_in_place and beacon.instead_of != facts.state_dir:
        return "serves another state directory"
    return ""


def _credentials(beacon: Beacon, key_text: str) -> Credentials | None:
    """None for keys that are missing, broken or of another server: without them the unix
    socket still serves."""
    try:
        credentials = Credentials.from_json(key_text)
    except ValueError:
        return None
    return credentials if credentials.server_key == beacon.server_key else None
