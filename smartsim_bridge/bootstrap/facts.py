"""What the probe's answer says: one head, as it was found.

Pure and strict.  The text comes from a host that runs start-up files of people and sites,
so it is searched for our marked lines only; what does not parse is an error that shows
what was said instead.  Used by `probe`; read by `plan`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ..errors import ProbeFailed
from .noise import clean, explain

__all__ = ["BeaconFound", "Build", "Facts", "Neighbour", "PythonFound", "parse_answer"]

_REPORT = re.compile(r"PYTHON\|(\d+\.\d+\.\d+)\|([^|]*)\|([^|]*)(?:\|([^|]*)\|([^|]*)\|)?")
# Of what a broken Python said: its first words and its last ones name the fault.
FAULT_HEAD, FAULT_TAIL = 120, 80


@dataclass(frozen=True)
class Build:
    """What an interpreter was built for, in its own words: extension modules must fit it."""

    soabi: str  # "cpython-39-x86_64-linux-gnu"
    platform: str  # "linux-x86_64"
    machine: str  # of uname
    bits: int
    libc: str  # "glibc 2.31", "macos 14.5"; no version where it is another


@dataclass(frozen=True)
class PythonFound:
    """One interpreter that was tried; `fault` is set where it could not even say its version."""

    path: str
    version: tuple[int, ...] = ()
    zmq: str = ""  # pyzmq's version; empty where it cannot be used
    why_no_zmq: str = ""
    fault: str = ""
    site: str = ""  # the directory beside the far half that lent it this pyzmq
    build: Build | None = None

    def __str__(self) -> str:
        if self.fault:
            return f"{self.path}: {self.fault}"
        said = f"{self.path}: Python {'.'.join(str(part) for part in self.version)}"
        if self.zmq:
            return f"{said}, pyzmq {self.zmq}" + (" beside the far half" if self.site else "")
        return f"{said}, no pyzmq: {self.why_no_zmq}" if self.why_no_zmq else said


@dataclass(frozen=True)
class BeaconFound:
    """One beacon file, unjudged: what is in it, and what of its process is there."""

    path: str
    text: str
    key_text: str = field(default="", repr=False)
    alive: bool = False
    start: int | None = None  # clock ticks since boot, of the process that has the pid now


@dataclass(frozen=True)
class Neighbour:
    """One beacon file of another host in the same directory, with a young heartbeat."""

    path: str
    text: str
    key_text: str = field(default="", repr=False)


@dataclass(frozen=True)
class Facts:
    """A head, as the probe found it."""

    host: str
    boot_id: str
    uid: int
    user: str
    home: str
    state_dir: str
    state_writable: bool
    ssh_connection: str = ""
    system: str = ""
    arch: str = ""
    prelude_status: int | None = None
    artifacts: tuple[str, ...] = ()  # where the far half lies already, in the version we want
    beacons: tuple[BeaconFound, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()  # the youngest heartbeat first
    searched: bool = True  # whether Pythons were looked for
    pythons: tuple[PythonFound, ...] = ()


def parse_answer(text: str, nonce: str, *, host: str = "", errors: str = "") -> Facts:
    """The facts in what a host printed.  Raises ProbeFailed with everything else it printed.

    `errors` is its stderr, for the message.
    """
    before, begun, rest = text.partition(f"{nonce}-BEGIN")
    inside, ended, after = rest.partition(f"{nonce}-END")
    noise = clean("\n".join((before, after, errors)))
    if not begun:
        raise _failed("The shell ended before our script: does the prelude exit?", noise, host)
    if not ended:
        raise _failed("Our script broke off before its end", noise, host)
    try:
        return _build(_pairs(inside, nonce))
    except (KeyError, ValueError) as wrong:
        raise _failed(f"The answer to our script makes no sense: {wrong}", noise, host) from None


def _failed(what: str, noise: str, host: str) -> ProbeFailed:
    return ProbeFailed(what, host=host or None, step="probe", advice=explain(noise), noise=noise)


def _pairs(inside: str, nonce: str) -> list[tuple[str, str]]:
    """Our lines carry the nonce; what a background job prints in between does not."""
    line = re.compile(rf"{re.escape(nonce)} ([a-z_]+)=([^\n]*)")
    return [(key, value.rstrip("\r")) for key, value in line.findall(inside)]


def _build(pairs: list[tuple[str, str]]) -> Facts:
    single = dict(reversed(pairs))  # the first of each counts
    return Facts(
        host=_filled(single, "host"),
        boot_id=single["boot_id"],
        uid=int(single["uid"]),
        user=single["user"],
        home=_filled(single, "home"),
        state_dir=_filled(single, "state_dir"),
        state_writable=_yes(single["state_writable"]),
        ssh_connection=single["ssh_connection"],
        system=single["system"],
        arch=single["arch"],
        prelude_status=_number(single["prelude_status"]),
        artifacts=tuple(value for key, value in pairs if key == "artifact"),
        beacons=tuple(_beacon(record) for record in _records(pairs, "beacon")),
        neighbours=tuple(_neighbour(record) for record in _records(pairs, "neighbour")),
        searched=_yes(single["searched"]),
        pythons=tuple(_python(record) for record in _records(pairs, "python")),
    )


def _records(pairs: list[tuple[str, str]], kind: str) -> list[dict[str, str]]:
    """Each `kind=` line opens a record; the `kind_...=` lines behind it belong to it."""
    records: list[dict[str, str]] = []
    for key, value in pairs:
        if key == kind:
            records.append({key: value})
        elif key.startswith(f"{kind}_"):
            if not records:
                raise ValueError(f"{key} before any {kind}")
            records[-1][key] = value
    return records


def _beacon(record: dict[str, str]) -> BeaconFound:
    return BeaconFound(
        path=record["beacon"],
        text=record["beacon_text"],
        key_text=record.get("beacon_key", ""),
        alive=_yes(record["beacon_alive"]),
        start=_number(record.get("beacon_start", "")),
    )


def _neighbour(record: dict[str, str]) -> Neighbour:
    return Neighbour(
        path=record["neighbour"],
        text=record["neighbour_text"],
        key_text=record.get("neighbour_key", ""),
    )


def _python(record: dict[str, str]) -> PythonFound:
    path, said = record["python"], record["python_said"]
    reports = _REPORT.findall(said)
    if not reports:
        return PythonFound(path, fault=_fault(said, record["python_status"]))
    version, zmq, why, site, build = reports[-1]
    parts = tuple(int(part) for part in version.split("."))
    return PythonFound(
        path, parts, zmq.strip(), why.strip(), site=site.strip(), build=_build_of(build)
    )


def _build_of(said: str) -> Build | None:
    """None where it could not be told: then nothing can be brought that fits."""
    words = said.split(",")
    if len(words) != 5 or words[3] not in ("32", "64"):
        return None
    soabi, where, machine, bits, libc = (word.strip() for word in words)
    return Build(soabi, where, machine, int(bits), libc)


def _fault(said: str, status: str) -> str:
    words = " ".join(said.split())
    if len(words) > FAULT_HEAD + FAULT_TAIL:
        words = f"{words[:FAULT_HEAD]} ... {words[-FAULT_TAIL:]}"
    return words or f"ended with status {status}"


def _filled(single: dict[str, str], key: str) -> str:
    if not single[key]:
        raise ValueError(f"{key} is empty")
    return single[key]


def _yes(value: str) -> bool:
    if value not in ("yes", "no"):
        raise ValueError(f"{value[:60]!r} is neither yes nor no")
    return value == "yes"


def _number(value: str) -> int | None:
    return int(value) if value else None
