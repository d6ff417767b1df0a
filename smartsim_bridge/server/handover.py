"""What a server writes down for the one that takes its place: the format, and nothing else.

One file without a name, handed on as an open descriptor: keys and output of commands are in
it, so it never lies where anybody could open it.  It is a line that names the format, then
records of JSON; bytes stand behind their record, and the records of the commands are written
one by one, so that what is kept of their output is never in memory a third time.

What a record holds is told by those who know: each has a `hand_over` and a `take_over`.
Times in it are those of the monotonic clock, which goes on.
"""

from __future__ import annotations

import json
import os
import struct
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

__all__ = ["FORMAT", "OLDEST_FORMAT", "Carry", "Past", "read", "written"]

# Raised whenever a record, or an event of the journal, changes so that a server of before or
# after could misread it.  What is only added is found by `get`, and needs no new number.
FORMAT = 2  # 2: commands that share a process
OLDEST_FORMAT = 1  # that this code can read

Record = dict[str, Any]
Carry = Callable[[int], int]  # notes that a descriptor is to survive, and gives its number

_MAGIC = b"smartsim-bridge handover %d\n"
_READABLE = [_MAGIC % number for number in range(OLDEST_FORMAT, FORMAT + 1)]
_LENGTHS = struct.Struct("<QQ")  # of the JSON, and of the bytes behind it
_BLOB = "blob"  # {"blob": [where, how many]}: no other object in a record has this one key


class Past:
    """All that one server left: `server` about itself, `commands` one record each."""

    def __init__(self, records: Iterable[Record]) -> None:
        self.server, *self.commands = records


def written(directory: str, tell: Callable[[Carry], Iterator[Record]]) -> tuple[int, list[int]]:
    """The descriptor of what `tell` gives, and those that must survive with it.

    `directory` is used where the system has no files in memory.  Raises OSError.
    """
    carried: list[int] = []

    def carry(descriptor: int) -> int:
        carried.append(descriptor)
        return descriptor

    descriptor = _nameless(directory)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(_MAGIC % FORMAT)
            for record in tell(carry):
                _write(file, record)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, [descriptor, *carried]


def read(descriptor: int) -> Past:
    """What was written there; closes it.  Raises ValueError where it is nothing of this format."""
    with open(descriptor, "rb") as file:
        file.seek(0)
        if file.readline(64) not in _READABLE:
            raise ValueError("it was written by a server that hands over in another way")
        return Past(_records(file))


def _nameless(directory: str) -> int:
    if hasattr(os, "memfd_create"):
        try:
            return os.memfd_create("smartsim-bridge")
        except OSError:
            pass  # an old kernel, or a sandbox
    with tempfile.TemporaryFile(dir=directory) as file:
        return os.dup(file.fileno())


def _write(file: BinaryIO, record: Record) -> None:
    blobs: list[bytes] = []
    size = 0

    def put_aside(value: object) -> dict[str, list[int]]:
        nonlocal size
        if not isinstance(value, (bytes, bytearray)):
            raise TypeError(f"{type(value).__name__} cannot be handed over")
        blobs.append(bytes(value))
        size += len(value)
        return {_BLOB: [size - len(value), len(value)]}

    text = json.dumps(record, default=put_aside).encode("ascii")
    file.write(_LENGTHS.pack(len(text), size))
    file.write(text)
    file.writelines(blobs)


def _records(file: BinaryIO) -> Iterator[Record]:
    while lengths := file.read(_LENGTHS.size):
        size, behind = _LENGTHS.unpack(lengths)
        text, blobs = file.read(size), memoryview(file.read(behind))
        if len(text) != size or len(blobs) != behind:
            raise ValueError("its end is missing")
        yield json.loads(text, object_hook=_with(blobs))


def _with(blobs: memoryview) -> Callable[[Record], Any]:
    def restored(found: Record) -> Any:
        if found.keys() != {_BLOB}:
            return found
        where, size = found[_BLOB]
        return bytes(blobs[where : where + size])

    return restored
