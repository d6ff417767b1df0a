"""The receiving end, called as a function; test_upload sends to it through a shell."""

from __future__ import annotations

import base64
import errno
import hashlib
import os
from pathlib import Path

import pytest

from smartsim_bridge.bootstrap.receive import receive, store

CONTENT = b"far half\0\xff" * 100
DIGEST = hashlib.sha256(CONTENT).hexdigest()
ENCODED = base64.b64encode(CONTENT)


def take(*directories: Path) -> str:
    return receive("far.pyz", len(CONTENT), DIGEST, [str(d) for d in directories], ENCODED)


def test_the_file_is_stored_and_nothing_else(tmp_path: Path) -> None:
    path = take(tmp_path / "a" / "state")

    assert path == str(tmp_path / "a" / "state" / "far" / "far.pyz")
    assert Path(path).read_bytes() == CONTENT
    assert os.listdir(tmp_path / "a" / "state" / "far") == ["far.pyz"]


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_file_and_directories_are_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        path = Path(take(tmp_path / "state"))
    finally:
        os.umask(before)

    modes = [place.stat().st_mode & 0o777 for place in (path, path.parent, path.parent.parent)]
    assert modes == [0o600, 0o700, 0o700]


def test_an_open_directory_is_closed(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o755)
    take(tmp_path / "state")

    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


def test_a_file_that_is_there_is_replaced(tmp_path: Path) -> None:
    path = Path(take(tmp_path))
    path.write_bytes(b"broken")
    take(tmp_path)

    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("size", "digest", "encoded"),
    [
        (len(CONTENT), DIGEST, ENCODED[:-8]),
        (len(CONTENT), "0" * 64, ENCODED),
        (len(CONTENT) + 1, DIGEST, ENCODED),
        (len(CONTENT), DIGEST, b""),
        (len(CONTENT), DIGEST, b"!"),
    ],
)
def test_what_arrives_broken_is_not_stored(
    tmp_path: Path, size: int, digest: str, encoded: bytes
) -> None:
    with pytest.raises(ValueError, match=r"not what was sent|padding|base64"):
        receive("far.pyz", size, digest, [str(tmp_path)], encoded)

    assert not (tmp_path / "far").exists()


def test_a_directory_that_cannot_be_made_is_passed_over(tmp_path: Path) -> None:
    assert take(Path("/dev/null/state"), tmp_path).startswith(str(tmp_path))


def test_a_link_is_refused_and_the_next_directory_taken(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "target")

    assert take(tmp_path / "link", tmp_path / "next").startswith(str(tmp_path / "next"))
    assert list((tmp_path / "target").iterdir()) == []


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a directory of somebody else")
def test_a_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "squatted").mkdir()
    os.chown(tmp_path / "squatted", 65534, 65534)

    with pytest.raises(OSError, match="belongs to uid 65534"):
        take(tmp_path / "squatted")


def test_no_directory_at_all_names_each_with_its_fault(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(OSError, match=r"/dev/null/state: Not a directory; .*/file: File exists"):
        take(Path("/dev/null/state"), tmp_path / "file")


def test_a_full_disk_leaves_no_half_written_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        store(CONTENT, str(tmp_path), "far.pyz")

    assert list(tmp_path.iterdir()) == []
