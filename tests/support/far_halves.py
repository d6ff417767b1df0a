"""Far halves of other versions, and broken ones, for a server to give way to."""

from __future__ import annotations

import zipfile
from pathlib import Path

from smartsim_bridge import __version__
from smartsim_bridge.bootstrap.artifact import ENTRY, far_half

__all__ = ["OTHER_VERSION", "write_far_half"]

OTHER_VERSION = "99.1.0"


def write_far_half(path: Path, version: str = OTHER_VERSION, **changes: str) -> Path:
    """The far half of this source tree, but of that version, where it was not there.

    `changes` are modules of the server, and what is appended to their source.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("__main__.py", ENTRY)
        for name, source in far_half():
            text = source.decode()
            if name == "smartsim_bridge/__init__.py":
                assert __version__ in text
                text = text.replace(__version__, version)
            module = Path(name).stem
            if "/server/" in name and module in changes:
                text += f"\n{changes[module]}\n"
            archive.writestr(name, text)
    path.chmod(0o600)
    return path
