"""The far half as one file: a zipapp, built in memory, the same bytes each time.

It holds the modules that the server needs and nothing else, so it runs on a head with a
bare Python 3.9.  Its name carries version and digest: versions lie beside each other, and
a file of the right name and size need not be sent again.  Used by `ensure`; run as a
program it prints what the file weighs.
"""

from __future__ import annotations

import functools
import hashlib
import io
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING

from .. import __version__

if TYPE_CHECKING:
    from importlib.abc import Traversable

__all__ = ["Artifact", "build", "far_half", "weights"]

PACKAGE = "smartsim_bridge"
SINGLE_FILES = ("__init__.py", "errors.py")
ROOMS = ("protocol", "links", "server", "files")
ENTRY = """import sys

from smartsim_bridge.server.__main__ import main

sys.exit(main())
"""
# The earliest date that a zip file can carry; a real one would change the digest.
TIMESTAMP = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Artifact:
    """One file to be sent."""

    name: str
    digest: str  # SHA-256, hexadecimal
    content: bytes = field(repr=False)

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.content)


@functools.lru_cache(maxsize=1)
def build() -> Artifact:
    """The far half of this installation; built once per process, about 10 ms."""
    content = _zip({"__main__.py": ENTRY.encode(), **dict(far_half())})
    digest = hashlib.sha256(content).hexdigest()
    return Artifact(f"smartsim-bridge-{__version__}-{digest[:12]}.pyz", digest, content)


def far_half() -> Iterator[tuple[str, bytes]]:
    """Name in the archive, and source, of each module that travels."""
    root = files(PACKAGE)
    for name in SINGLE_FILES:
        yield f"{PACKAGE}/{name}", root.joinpath(name).read_bytes()
    for room in ROOMS:
        yield from _modules(root.joinpath(room), f"{PACKAGE}/{room}")


def _modules(folder: Traversable, prefix: str) -> Iterator[tuple[str, bytes]]:
    for entry in folder.iterdir():
        if entry.is_file() and entry.name.endswith(".py"):
            yield f"{prefix}/{entry.name}", entry.read_bytes()


def _zip(members: dict[str, bytes]) -> bytes:
    """Sorted, with one date and mode for all: equal sources give equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(members):
            info = zipfile.ZipInfo(name, TIMESTAMP)
            info.create_system = 3  # Unix, wherever we are
            info.external_attr = 0o600 << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, members[name], compresslevel=9)
    return buffer.getvalue()


def weights() -> str:
    """A table: bytes of source and bytes on the wire, per module, the heaviest first."""
    with zipfile.ZipFile(io.BytesIO(build().content)) as archive:
        members = sorted(archive.infolist(), key=lambda info: -info.compress_size)
    rows = [f"{info.file_size:8} {info.compress_size:8}  {info.filename}" for info in members]
    total = sum(len(source) for _, source in far_half())
    return "\n".join(["  source     sent  module", *rows, f"{total:8} {build().size:8}  in all"])


if __name__ == "__main__":
    sys.stdout.write(f"{weights()}\n{build().name}\n")
