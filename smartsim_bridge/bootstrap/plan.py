"""Decides what to do on a head: facts and a wish in, a frozen plan out.

Pure: no host is asked, no clock is read, so every branch can be tried in memory.
`ensure` carries the plan out.  Which of several servers is meant is told by `servers`.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, replace
from typing import Union

from ..errors import NoServer, NoUsablePython
from .facts import Facts, PythonFound
from .neighbours import alias_names, neighbours
from .servers import Elsewhere, Use, choose, live_here, out_of_reach, servers_elsewhere
from .wheel_tags import tags_for

__all__ = [
    "Launch",
    "LookAgain",
    "Plan",
    "Provide",
    "Start",
    "Upload",
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
    poll_cache: float = 0.0  # seconds


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
    apart_from: tuple[str, ...] = ()  # heads that would have had one, but were out of reach
    site: str = ""
    poll_cache: float = 0.0  # seconds


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
    live, leftovers = live_here(facts)
    others = [] if wish.alone else servers_elsewhere(facts, wish.names, wish.port)
    chosen = choose(live, others, wish.names, wish.sought)
    if chosen is not None:
        return chosen
    if not wish.autostart:
        raise _no_server(facts, wish, leftovers)
    if not facts.searched:
        return LookAgain()
    return _start(facts, wish, _choose_python(facts, wish))


def _no_server(facts: Facts, wish: Wish, leftovers: list[str]) -> NoServer:
    found = f"; leftovers: {'; '.join(leftovers)}" if leftovers else ""
    others = [f"{beacon.host} (pid {beacon.pid})" for beacon, _ in neighbours(facts)]
    advice = None
    if others:
        found = f"; servers of yours run on {', '.join(others)}{found}"
        advice = (
            "Name the head that you mean, or start one there with autostart=True or "
            "`smartsim-bridge start`."
        )
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
        apart_from=out_of_reach(facts, wish.names) if wish.alone else (),
        site=python.site,
        poll_cache=wish.poll_cache,
    )
    provide = Provide(python, places) if wish.provision and not python.zmq else None
    # What lies there is known by name and size only.  A launch shows whether it is whole; what
    # takes pyzmq there comes before that.
    upload = None if is_there and not provide else Upload(python.path, wish.artifact, places)
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
