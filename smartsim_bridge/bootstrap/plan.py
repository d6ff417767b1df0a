"""Decides what to do on a head: facts and a wish in, a frozen plan out.

Pure: no host is asked, no clock is read, so every branch can be tried in memory.
`ensure` carries the plan out.  A beacon counts only if host, boot, user, process and the
start time of the process all match; every other one is a leftover: passed over, never
trusted, and its process never touched.  Where the target is an alias of several heads, a
server on another of them counts after one that is here.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, replace
from typing import Union

from ..errors import NoServer, NoUsablePython
from ..protocol.beacon import Beacon, Credentials
from .facts import BeaconFound, Facts, PythonFound
from .neighbours import alias_names, is_known_as, means_this_host, neighbours
from .wheel_tags import tags_for

__all__ = [
    "Elsewhere",
    "Launch",
    "LookAgain",
    "Plan",
    "Provide",
    "Start",
    "Upload",
    "Use",
    "Wish",
    "in_next_directory",
    "listen_addresses",
    "plan",
    "sent_again",
    "stored_at",
]

OLDEST_PYTHON = (3, 9)
NO_ANSWER = "did not answer within"  # as probe.sh says of one that hangs
# Private directories of ours are made in these, as probe.sh expects them.
ELSEWHERE = ("/var/tmp", "/tmp")  # noqa: S108 - made private below them, or refused
# The server binds this one always; another host can use it through a tunnel only.
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Wish:
    """What is wanted of the head named `spelled`."""

    spelled: str
    artifact: str  # file name of the far half
    autostart: bool = True
    python: str = ""
    port: int = 0  # 0: any free one
    provision: bool = False  # whether a Python without pyzmq is to get one
    names: tuple[str, ...] = ()  # of the target; none: it can be no other host than this one
    sought: tuple[str, int] | None = None  # host and pid of the server that a session is with
    alone: bool = False  # no other head can be reached from this one


@dataclass(frozen=True)
class Use:
    """A server runs; `credentials` is None where its keys are not to be had."""

    beacon: Beacon
    credentials: Credentials | None


@dataclass(frozen=True)
class Elsewhere:
    """Servers run on other heads that the target may mean as well, the best first."""

    servers: tuple[Use, ...]


@dataclass(frozen=True)
class LookAgain:
    """A server has to be started, and the probe skipped the Pythons because one seemed to run."""


@dataclass(frozen=True)
class Upload:
    """Put the far half into the first of `directories` that takes it, run by `python`."""

    python: str
    artifact: str
    directories: tuple[str, ...]


@dataclass(frozen=True)
class Provide:
    """Put a pyzmq for `python` into the first of `directories` where it works."""

    python: PythonFound
    directories: tuple[str, ...]


@dataclass(frozen=True)
class Launch:
    """Start the far half at `path` and wait for its ready line.

    An upload may end elsewhere than planned; then `path` and `state_dir` follow it.  `site` is
    where pyzmq lies, if the Python has none of its own.
    """

    python: str
    path: str
    addresses: tuple[str, ...]
    port: int
    state_dir: str
    instead_of: str = ""  # the state directory that could not be written
    known_as: tuple[str, ...] = ()  # further names of this host
    site: str = ""


@dataclass(frozen=True)
class Start:
    """Steps in their order; `upload` is None where this version lies there already, `provide`
    where pyzmq does, or is not wanted."""

    upload: Upload | None
    launch: Launch
    python: PythonFound
    provide: Provide | None = None


Plan = Union[Use, Elsewhere, LookAgain, Start]


def plan(facts: Facts, wish: Wish) -> Plan:
    """What to do.  Raises NoServer where none runs and none may be started, NoUsablePython
    where none can be."""
    live, leftovers = _sort(facts, wish)
    others = _others(facts, wish)
    # Commands belong to one server: another one knows nothing of them.
    mine = [use for use in others if (use.beacon.host, use.beacon.pid) == wish.sought]
    if not mine and live is not None:
        return live
    choice = mine or [use for use in others if is_known_as(use.beacon, wish.names)]
    if choice:
        return Elsewhere(tuple(choice))
    if not wish.autostart:
        raise _no_server(facts, wish, leftovers)
    if not facts.searched:
        return LookAgain()
    return _start(facts, wish, _choose_python(facts, wish))


# --- servers that are there ---------------------------------------------------------------


def _others(facts: Facts, wish: Wish) -> list[Use]:
    """On other hosts, where the user did not name this one."""
    if wish.alone or not wish.names or means_this_host(wish.names, facts):
        return []
    return [
        Use(beacon, _credentials(beacon, found.key_text))
        for beacon, found in neighbours(facts)
        if not wish.port or wish.port in beacon.ports
    ]


def _sort(facts: Facts, wish: Wish) -> tuple[Use | None, list[str]]:
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


def _no_server(facts: Facts, wish: Wish, leftovers: list[str]) -> NoServer:
    found = f"; leftovers: {'; '.join(leftovers)}" if leftovers else ""
    others = [f"{beacon.host} (pid {beacon.pid})" for beacon, _ in neighbours(facts)]
    advice = None
    if others:
        found = f"; servers of yours run on {', '.join(others)}{found}"
        advice = "Name the head that you mean, or pass autostart=True for one there."
    what = f"No command server runs there{found}"
    return NoServer(what, host=wish.spelled, step="plan", advice=advice)


# --- starting one -------------------------------------------------------------------------


def _choose_python(facts: Facts, wish: Wish) -> PythonFound:
    """The first that can do everything, else the first that can serve its unix socket.

    Among those, where pyzmq is to be brought, the first that a wheel can fit.
    """
    usable = [python for python in facts.pythons if python.version >= OLDEST_PYTHON]
    if not usable:
        raise _no_python(facts, wish)
    able = [python for python in usable if python.zmq]
    if not able and wish.provision:
        able = [python for python in usable if _fits_a_wheel(python)]
    return (able or usable)[0]


def _fits_a_wheel(python: PythonFound) -> bool:
    try:
        tags_for(python.build)
    except ValueError:
        return False
    return True


def _no_python(facts: Facts, wish: Wish) -> NoUsablePython:
    if wish.python:
        what = f"python={wish.python!r} is not a Python 3.9 or newer there"
    else:
        what = "No Python 3.9 or newer was found there"
    prelude = ""
    if facts.prelude_status:
        prelude = f"\n  the prelude ended with status {facts.prelude_status}"
    missing = "no such program" if wish.python else "none by the usual names, in the usual places"
    tried = "".join(f"\n  {python}" for python in facts.pythons) or f"\n  {missing}"
    advice = None
    if any(NO_ANSWER in python.fault for python in facts.pythons):
        advice = f"One did not answer: raise timeout=. {NoUsablePython.general_advice()}"
    return NoUsablePython(
        what,
        host=wish.spelled,
        step="python",
        advice=advice,
        noise=(tried + prelude).lstrip("\n"),
    )


def _start(facts: Facts, wish: Wish, python: PythonFound) -> Start:
    places = _directories(facts)
    path = f"{places[0]}/far/{wish.artifact}"
    is_there = path in facts.artifacts
    launch = Launch(
        python=python.path,
        path=path,
        addresses=listen_addresses(facts.ssh_connection),
        port=wish.port,
        state_dir=places[0],
        instead_of=_instead_of(places[0], facts),
        known_as=alias_names(wish.names, facts.host),
        site=python.site,
    )
    upload = None if is_there else Upload(python.path, wish.artifact, places)
    provide = Provide(python, places) if wish.provision and not python.zmq else None
    return Start(upload, launch, python, provide)


def in_next_directory(start: Start, facts: Facts) -> Start | None:
    """The same, with the state where it goes when its directory takes nothing; None: nowhere."""
    places = _directories(facts)
    try:
        rest = places[places.index(start.launch.state_dir) + 1 :]
    except ValueError:
        rest = ()
    if not rest:
        return None
    artifact = start.launch.path.rpartition("/")[2]
    launch = replace(
        start.launch,
        path=f"{rest[0]}/far/{artifact}",
        state_dir=rest[0],
        instead_of=_instead_of(rest[0], facts),
    )
    return Start(Upload(launch.python, artifact, rest), launch, start.python)


def sent_again(start: Start) -> Start:
    """The same, with the far half sent to where it lies already."""
    launch = start.launch
    artifact = launch.path.rpartition("/")[2]
    return replace(start, upload=Upload(launch.python, artifact, (launch.state_dir,)))


def stored_at(start: Start, path: str, facts: Facts) -> Start:
    """The same, once the far half lies at `path`: where it fits, the server's state does too."""
    state_dir = path.rsplit("/", 2)[0]
    instead_of = _instead_of(state_dir, facts)
    launch = replace(start.launch, path=path, state_dir=state_dir, instead_of=instead_of)
    return replace(start, upload=None, launch=launch)


def _instead_of(state_dir: str, facts: Facts) -> str:
    return "" if state_dir == facts.state_dir else facts.state_dir


def _directories(facts: Facts) -> tuple[str, ...]:
    """Where state may lie, best first: a home can be full, read-only or not there."""
    elsewhere = tuple(f"{place}/smartsim-bridge-{facts.uid}" for place in ELSEWHERE)
    return (facts.state_dir, *elsewhere) if facts.state_writable else elsewhere


def listen_addresses(ssh_connection: str) -> tuple[str, ...]:
    """Loopback, and the address that we came in on where only the site can reach that one.

    A public address is left out: nobody asked for a port that faces the internet.
    """
    parts = ssh_connection.split()
    ours = _private(parts[2]) if len(parts) == 4 else ""
    return (LOOPBACK, ours) if ours else (LOOPBACK,)


def _private(text: str) -> str:
    """`text` as a private IPv4 address, or nothing.

    IPv6 is left to the tunnel: link-local scopes and ULA routing differ from site to site.
    """
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return ""
        address = address.ipv4_mapped
    return str(address) if any(address in network for network in _SITE_NETWORKS) else ""


# RFC 1918, and RFC 6598 where sites run out of it.  `is_private` would also say yes to
# loopback, link-local, documentation and reserved ranges.
_SITE_NETWORKS = tuple(
    ipaddress.ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")
)
