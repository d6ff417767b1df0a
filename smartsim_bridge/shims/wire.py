"""SHIM WIRE 1: what a shim and the process that holds the bridge say to each other.

A unix stream socket.  Each frame is one byte that says its kind, the length of what follows
as four bytes with the highest first, and that.  A shim begins with HELLO and has exactly one
command.  The connection's end is part of it: a shim that goes without having been told EXIT
or FAULT was killed, and its command ends with it; a reception that goes is told by the shim,
which then ends as well.  Input travels after READ only, so that `sbatch file` in a loop does
not eat what the loop reads.  What holds either side back is the socket alone.

Pure, and for the reception's side: the shim's is `stand_in`, which imports nothing of ours
and so has these values once more; a test compares them.

    hello = parse_hello(payload)        raises ValueError
    frame(OUTPUT, b"...")               one frame, its payload within PAYLOAD_LIMIT
    exit_frame(0), fault_frame(127, "sbatch: not found")
    for kind, payload in Frames().feed(data)    raises ValueError
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

__all__ = [
    "BRIDGE_FAULT",
    "ERRORS",
    "EXIT",
    "FAULT",
    "HELLO",
    "HELLO_LIMIT",
    "INPUT",
    "INPUT_PIECE",
    "NOT_EXECUTABLE",
    "NOT_FOUND",
    "OUTPUT",
    "PAYLOAD_LIMIT",
    "READ",
    "SIGNAL",
    "SOCKET_VARIABLE",
    "WIRE_VERSION",
    "Frames",
    "Hello",
    "exit_frame",
    "fault_frame",
    "frame",
    "parse_hello",
]

WIRE_VERSION = b"1"

# Names the socket of this session's reception; never reaches the head.
SOCKET_VARIABLE = "SMARTSIM_BRIDGE_SOCKET"

# From the shim.
HELLO = b"H"  # fields between NULs: version, command, folder, cwd, argc, arguments, environment
INPUT = b"I"  # of stdin; empty: its end
SIGNAL = b"S"  # a number of Linux's, in decimal

# To the shim.
READ = b"R"  # read stdin from now on
OUTPUT = b"O"  # to stdout
ERRORS = b"E"  # to stderr
EXIT = b"X"  # status in decimal; negative: the signal that ended it
FAULT = b"F"  # decimal status, NUL, text for stderr: there is no status of the command's own

PAYLOAD_LIMIT = 1024 * 1024
HELLO_LIMIT = 8 * 1024 * 1024  # an argv and an environment may have 6 MB together on Linux
INPUT_PIECE = 64 * 1024

# Statuses of FAULT, as shells use them; 255 as ssh does.
NOT_EXECUTABLE, NOT_FOUND, BRIDGE_FAULT = 126, 127, 255

_HEAD = 5


@dataclass(frozen=True)
class Hello:
    """What a shim was called with.  `arguments` are those after the command's name.

    `directory` is empty where the shim's no longer exists.
    """

    command: str
    folder: bytes
    directory: bytes
    arguments: tuple[bytes, ...]
    environment: dict[bytes, bytes]


def frame(kind: bytes, payload: bytes = b"") -> bytes:
    """One frame."""
    return kind + len(payload).to_bytes(4, "big") + payload


def exit_frame(returncode: int) -> bytes:
    """The command has ended; as subprocess counts, negative for a signal."""
    return frame(EXIT, str(returncode).encode())


def fault_frame(status: int, text: str) -> bytes:
    """The command has no status of its own; the shim says `text` and exits with `status`."""
    return frame(FAULT, b"%d\0" % status + text.encode("utf-8", "replace"))


def parse_hello(payload: bytes) -> Hello:
    """Raises ValueError where it is not a hello of this version."""
    fields = payload.split(b"\0")
    if fields[0] != WIRE_VERSION:
        raise ValueError(f"a shim speaks version {fields[0][:20]!r} of the wire")
    try:
        command, folder, directory, count = fields[1:5]
        end = 5 + int(count)
    except ValueError:
        raise ValueError("a shim's hello is cut short") from None
    if not 5 <= end <= len(fields) or not command or b"/" in command:
        raise ValueError("a shim's hello contradicts itself")
    pairs = (one.partition(b"=") for one in fields[end:])
    return Hello(
        command.decode("ascii", "surrogateescape"),
        folder,
        directory,
        tuple(fields[5:end]),
        {name: value for name, equals, value in pairs if name and equals},
    )


class Frames:
    """Takes bytes as they come and gives the frames that are whole.

    The first is held to HELLO_LIMIT, all others to PAYLOAD_LIMIT.
    """

    def __init__(self) -> None:
        self._held = bytearray()
        self._limit = HELLO_LIMIT

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Pairs of kind and payload.  Raises ValueError at a length beyond the limit."""
        self._held += data
        while len(self._held) >= _HEAD:
            length = int.from_bytes(self._held[1:_HEAD], "big")
            if length > self._limit:
                raise ValueError(f"a shim's frame has {length} bytes, more than {self._limit}")
            if len(self._held) < _HEAD + length:
                return
            kind, payload = bytes(self._held[:1]), bytes(self._held[_HEAD : _HEAD + length])
            del self._held[: _HEAD + length]
            self._limit = PAYLOAD_LIMIT
            yield kind, payload
