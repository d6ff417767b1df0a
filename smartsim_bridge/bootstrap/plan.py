"""Decides what to do on a head: facts and a wish in, a frozen plan out.

Pure: no host is asked, no clock is read, so every branch can be tried in memory.
`ensure` carries the plan out.  A beacon counts only if host, boot, user, process and the
start time of the process all match; every other one is a leftover: passed over, never
trusted, and its process never touched.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Union

from ..errors import NoServer, NoUsablePython
from ..protocol.beacon import Beacon, Credentials
from .facts import BeaconFound, Facts, PythonFound

__all__ = [
    "Launch",
    "LookAgain",
    "Plan",
    "Start",
    "Upload",
    "Use",
    "Wish",
    "listen_addresses",
    "plan",
]

OLDEST_PYTHON = (3, 9)
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
    distrust: int | None = None  # pid of a server that was found and did not answer


@dataclass(frozen=True)
class Use:
    """A server runs; `credentials` is None where its keys are not to be had."""

    beacon: Beacon
    credentials: Credentials | None


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
class Launch:
    """Start the far half at `path` and wait for its ready line.

    An upload may end elsewhere than planned; then `path` and `state_dir` follow it.
    """

    python: str
    path: str
    addresses: tuple[str, ...]
    port: int
    state_dir: str


@dataclass(frozen=True)
class Start:
    """Steps in their order; `upload` is None where this version lies there already."""

    upload: Upload | None
    launch: Launch
    python: PythonFound


Plan = Union[Use, LookAgain, Start]


def plan(facts: Facts, wish: Wish) -> Plan:
    """What to do.  Raises NoServer where none runs and none may be started, NoUsablePython
    where none can be."""
    live, leftovers = _sort(facts, wish)
    if live is not None:
        return live
    if not wish.autostart:
        raise _no_server(wish, leftovers)
    if not facts.searched:
        return LookAgain()
    return _start(facts, wish, _choose_python(facts, wish))


# --- servers that are there ---------------------------------------------------------------


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
        fault = _fault(beacon, found, facts, wish)
        if fault:
            leftovers.append(f"{found.path}: {fault}")
        else:
            live.append(Use(beacon, _credentials(beacon, found)))
    return max(live, key=lambda use: use.beacon.started, default=None), leftovers


def _fault(beacon: Beacon, found: BeaconFound, facts: Facts, wish: Wish) -> str:
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
    if beacon.pid == wish.distrust:
        return f"process {beacon.pid} does not answer"
    return ""


def _credentials(beacon: Beacon, found: BeaconFound) -> Credentials | None:
    """None for keys that are missing, broken or of another server: without them the unix
    socket still serves."""
    try:
        credentials = Credentials.from_json(found.key_text)
    except ValueError:
        return None
    return credentials if credentials.server_key == beacon.server_key else None


def _no_server(wish: Wish, leftovers: list[str]) -> NoServer:
    found = f"; leftovers: {'; '.join(leftovers)}" if leftovers else ""
    return NoServer(f"No command server runs there{found}", host=wish.spelled, step="plan")


# --- starting one -------------------------------------------------------------------------


def _choose_python(facts: Facts, wish: Wish) -> PythonFound:
    """The first that can do everything, else the first that can serve its unix socket."""
    usable = [python for python in facts.pythons if python.version >= OLDEST_PYTHON]
    if not usable:
        raise _no_python(facts, wish)
    return next((python for python in usable if python.zmq), usable[0])


def _no_python(facts: Facts, wish: Wish) -> NoUsablePython:
    if wish.python:
        what = f"python={wish.python!r} is not a Python 3.9 or newer there"
    else:
        what = "No Python 3.9 or newer was found there"
    prelude = ""
    if facts.prelude_status:
        prelude = f"\n  the prelude ended with status {facts.prelude_status}"
    tried = "".join(f"\n  {python}" for python in facts.pythons) or "\n  nothing of that name"
    return NoUsablePython(
        what, host=wish.spelled, step="python", noise=(tried + prelude).lstrip("\n")
    )


def _start(facts: Facts, wish: Wish, python: PythonFound) -> Start:
    directories = _directories(facts)
    path = f"{directories[0]}/far/{wish.artifact}"
    is_there = path in facts.artifacts
    launch = Launch(
        python=python.path,
        path=path,
        addresses=listen_addresses(facts.ssh_connection),
        port=wish.port,
        state_dir=directories[0],
    )
    upload = None if is_there else Upload(python.path, wish.artifact, directories)
    return Start(upload, launch, python)


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
