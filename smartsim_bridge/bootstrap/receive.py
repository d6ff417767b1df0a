"""The end of the upload that runs on the head: takes the far half from stdin.

Sent as the text of `python -I -S -c`, so it must be whole in itself, standard library
only, and run on Python 3.9.  Arguments: nonce, file name, size, SHA-256, directories.
The content comes in base64, because it travels inside a shell script.  It answers with
one line, `NONCE STORED path` or `NONCE REFUSED why`, and leaves no half-written file.
"""

from __future__ import annotations

import base64
import hashlib
import os
import stat
import sys
from collections.abc import Sequence


def receive(name: str, size: int, digest: str, directories: Sequence[str], encoded: bytes) -> str:
    """Stores the file in the first directory that takes it; its path.

    Raises ValueError where it arrived broken, OSError with the fault of every directory.
    """
    content = base64.b64decode(encoded)
    if len(content) != size or hashlib.sha256(content).hexdigest() != digest:
        raise ValueError(f"{len(content)} bytes arrived, and they are not what was sent")
    faults = []
    for directory in directories:
        try:
            return store(content, far_folder(directory), name)
        except OSError as error:
            faults.append(f"{directory}: {error.strerror or error}")
    raise OSError("; ".join(faults))


def far_folder(directory: str) -> str:
    """`directory`/far; both made where they are missing, and refused where they are not ours."""
    folder = os.path.join(directory, "far")
    for place in (directory, folder):
        os.makedirs(place, 0o700, exist_ok=True)
        found = os.lstat(place)
        # In /tmp somebody may have put a link or a directory of his own in our way.
        if not stat.S_ISDIR(found.st_mode):
            raise OSError(f"{place} is no directory, or a link")
        if found.st_uid != os.geteuid():
            raise OSError(f"{place} belongs to uid {found.st_uid}")
        if stat.S_IMODE(found.st_mode) != 0o700:
            os.chmod(place, 0o700)
    return folder


def store(content: bytes, folder: str, name: str) -> str:
    """All of it under its name, or nothing: written beside it, synced, then renamed."""
    path = os.path.join(folder, name)
    draft = f"{path}.{os.urandom(6).hex()}.part"  # hosts share the folder, so no pid
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            # A crash must not leave the right name and size around the wrong bytes.
            os.fsync(file.fileno())
        os.rename(draft, path)
    except BaseException:
        if os.path.exists(draft):
            os.unlink(draft)
        raise
    return path


def main(nonce: str, name: str, size: str, digest: str, *directories: str) -> int:
    """Exit status 0 if the file is there."""
    try:
        path = receive(name, int(size), digest, directories, sys.stdin.buffer.read())
    except (OSError, ValueError) as error:
        sys.stdout.write(f"\n{nonce} REFUSED {error}\n")
        return 1
    sys.stdout.write(f"\n{nonce} STORED {path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
