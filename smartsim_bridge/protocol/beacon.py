"""What a running server leaves so that it can be found: the format, and nothing else.

Two texts carry a `Beacon`: the state file of the server, and the ready line that a
starting server prints through SSH, found among whatever else the host prints by a
nonce.  Credentials travel beside it, never in it: the beacon may be shown to anybody,
credentials only to the user.  Pure: no file is opened here, no clock is read.
"""

from __future__ import annotations

import ipaddress
import json
import re
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

__all__ = [
    "FILE_FORMAT",
    "FRESH_SECONDS",
    "Beacon",
    "Credentials",
    "beacon_name",
    "credentials_name",
    "find_ready_line",
    "found_line",
    "ready_line",
    "says_found",
    "state_and_start",
    "state_directory",
]

FILE_FORMAT = 1  # raised when an old reader could misread a new file
MAX_BEACON_BYTES = 16 * 1024  # a real one has about 700; more is garbage, not a beacon
# A server touches its beacon each minute.  Older than this, it has missed several: another
# host's clock and a cache of attributes may account for some.
FRESH_SECONDS = 300
READY_WORD = "SMARTSIM-BRIDGE-READY"
FOUND_WORD = "SMARTSIM-BRIDGE-FOUND"  # before it where the starter found another's server

_ENDPOINT = re.compile(r"tcp://(?:\[([!-~]*:[!-~]*)\]|([0-9.]+)):([1-9][0-9]{0,4})", re.ASCII)
_Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"

_Known = TypeVar("_Known", "Beacon", "Credentials")


@dataclass(frozen=True)
class Beacon:
    """Where one server is, and how to tell it from the leftovers of another.

    `boot_id`, `pid` and `pid_start` (clock ticks since boot, field 22 of /proc/PID/stat)
    together name one process of one boot of one host; a reused pid differs in `pid_start`.
    """

    host: str
    boot_id: str
    uid: int
    pid: int
    pid_start: int
    version: str
    protocol: int
    socket: str  # unix socket on `host`
    endpoints: tuple[str, ...] = ()  # ZMQ, "tcp://127.0.0.1:41234"; empty without pyzmq
    server_key: str = ""  # CURVE public key, Z85
    python: str = ""
    zmq: str = ""  # pyzmq's version; empty where it could not be imported
    why_no_zmq: str = ""
    state_dir: str = ""
    log: str = ""
    started: float = 0.0  # seconds since the epoch, the head's clock
    known_as: tuple[str, ...] = ()  # other names of `host`: the alias that led its starter there
    apart_from: tuple[str, ...] = ()  # heads with a server like this, out of reach when it started
    instead_of: str = ""  # the state directory that could not be written, where state_dir is not it

    def to_json(self) -> str:
        """One line of JSON, the content of the state file."""
        return json.dumps({"format": FILE_FORMAT, **asdict(self)}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Beacon:
        """Raises ValueError for anything that is not a beacon of a format we read."""
        content = _object(text)
        if content.get("format") != FILE_FORMAT:
            raise ValueError(f"beacon format {content.get('format')!r}, we read {FILE_FORMAT}")
        beacon = _build(cls, content)
        if beacon.pid <= 0:
            raise ValueError("no such process")
        _check_path(beacon.socket)
        for endpoint in beacon.endpoints:
            _check_endpoint(endpoint)
        return beacon

    @property
    def ports(self) -> tuple[int, ...]:
        """TCP ports of the endpoints, in their order, each once."""
        ports = (int(endpoint.rpartition(":")[2]) for endpoint in self.endpoints)
        return tuple(dict.fromkeys(ports))


@dataclass(frozen=True)
class Credentials:
    """CURVE keys (Z85, 40 characters) that make a client one of the server's user."""

    server_key: str
    client_key: str
    client_secret: str = field(repr=False)

    def to_json(self) -> str:
        """One line of JSON, for a 0600 file or an encrypted channel only."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Credentials:
        """Raises ValueError for anything else."""
        credentials = _build(cls, _object(text))
        keys = (credentials.server_key, credentials.client_key, credentials.client_secret)
        if not all(map(_is_key, keys)):
            raise ValueError("a CURVE key has 40 characters of Z85")
        return credentials


def beacon_name(host: str, boot_id: str) -> str:
    """File name: hosts share the directory through the home, boots follow each other."""
    return f"{_safe(host)}-{_safe(boot_id)[:8]}.json"


def credentials_name(host: str, boot_id: str) -> str:
    """File name of the credentials beside `beacon_name`."""
    return f"{_safe(host)}-{_safe(boot_id)[:8]}.key"


def state_and_start(stat: str) -> tuple[str, int]:
    """State letter and start, in clock ticks since boot, in the text of /proc/PID/stat."""
    # The name, in parentheses, may itself contain spaces and parentheses.
    values = stat.rpartition(")")[2].split()
    return values[0], int(values[19])


def state_directory(home: str, chosen: str = "") -> str:
    """Where beacons lie: `chosen`, else one fixed place in the home.

    XDG_STATE_HOME is not consulted on purpose: it differs between a login shell, a batch
    job and a notebook of one user, and then they would not find each other's servers.
    """
    return chosen or home.rstrip("/") + "/.local/state/smartsim-bridge"


def ready_line(nonce: str, beacon: Beacon, credentials: Credentials | None) -> str:
    """The one line that says: the server is up, here it is."""
    keys = credentials.to_json() if credentials else "null"
    return f"{READY_WORD} {nonce} {beacon.to_json()} {keys}"


def found_line(nonce: str) -> str:
    """Says, before the ready line, that its server was started by somebody else."""
    return f"{FOUND_WORD} {nonce}"


def says_found(text: str, nonce: str) -> bool:
    """Whether what a host printed has the `found_line` with our nonce."""
    return any(line.rstrip().endswith(found_line(nonce)) for line in text.splitlines())


def find_ready_line(text: str, nonce: str) -> tuple[Beacon, Credentials | None] | None:
    """The beacon in what a host printed, or None while it is not there.

    The line must carry our nonce: rc files and banners may print anything, even an
    old ready line.  Raises ValueError where our line is there and broken.
    """
    opening = f"{READY_WORD} {nonce} "
    for line in text.splitlines():
        _, found, rest = line.partition(opening)
        if found:
            return _parse_ready(rest)
    return None


def _parse_ready(rest: str) -> tuple[Beacon, Credentials | None]:
    try:
        _, end = json.JSONDecoder().raw_decode(rest)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    beacon, keys = Beacon.from_json(rest[:end]), rest[end:].strip()
    return beacon, None if keys == "null" else Credentials.from_json(keys)


def _object(text: str) -> dict[str, Any]:
    if len(text) > MAX_BEACON_BYTES:
        raise ValueError(f"{len(text)} bytes are no beacon")
    try:
        content = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(content, dict):
        raise ValueError("not a JSON object")
    return content


def _build(cls: type[_Known], content: dict[str, Any]) -> _Known:
    """Known fields only (newer servers may add some), each of its declared type."""
    values: dict[str, Any] = {}
    for declared in fields(cls):
        if declared.name not in content:
            continue
        values[declared.name] = _typed(declared.name, str(declared.type), content[declared.name])
    try:
        return cls(**values)
    except TypeError as missing:
        raise ValueError(str(missing)) from None


def _typed(name: str, kind: str, value: Any) -> Any:
    if kind.startswith("tuple"):
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise ValueError(f"{name}: not a list of strings")
        return tuple(value)
    wanted: tuple[type, ...] = {"int": (int,), "float": (int, float)}.get(kind, (str,))
    if not isinstance(value, wanted) or isinstance(value, bool):
        raise ValueError(f"{name}: {value!r} is not of type {kind}")
    return value


def _check_endpoint(endpoint: str) -> None:
    """Raises ValueError for what is not tcp://ADDRESS:PORT, the address a number."""
    parts = _ENDPOINT.fullmatch(endpoint)
    if parts is None or int(parts[3]) > 65535:
        raise ValueError(f"{endpoint!r} is no endpoint")
    ipaddress.ip_address(parts[1] or parts[2])


def _check_path(path: str) -> None:
    """Raises ValueError for what no file can be called, or no text can carry."""
    path.encode()
    if "\0" in path:
        raise ValueError(f"{path!r} is no path")


def _is_key(key: str) -> bool:
    """Whether it decodes to 32 bytes: five digits stand for four bytes, and may be too large."""
    if len(key) != 40 or not set(key) <= set(_Z85):
        return False
    groups = (key[start : start + 5] for start in range(0, 40, 5))
    return all(_number(group) < 1 << 32 for group in groups)


def _number(digits: str) -> int:
    value = 0
    for digit in digits:
        value = value * 85 + _Z85.index(digit)
    return value


def _safe(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-._" else "_" for c in name)
