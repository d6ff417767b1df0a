from __future__ import annotations

import errno
import logging
import os
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from smartsim_bridge.server import logbook
from smartsim_bridge.server.logbook import RotatedFile, open_logbook


@pytest.fixture(autouse=True)
def own_root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in [one for one in root.handlers if one not in handlers]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)


@pytest.mark.parametrize("mask", [0o000, 0o022])
def test_log_is_private_and_rotated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mask: int
) -> None:
    monkeypatch.setattr(logbook, "MAX_BYTES", 2000)
    before = os.umask(mask)
    try:
        open_logbook(str(tmp_path / "log"))
        for number in range(200):
            logging.getLogger("x").info("line %s", number)
    finally:
        os.umask(before)
    files = sorted(tmp_path.iterdir())
    assert [path.name for path in files] == ["log", "log.1", "log.2", "log.3"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert "line 199" in (tmp_path / "log").read_text()
    assert all(path.stat().st_size <= 2000 for path in files)


def test_what_clients_send_cannot_drive_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nobody else may hear it: test processes cannot tell each other half a character.
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    open_logbook(str(tmp_path / "log"))
    logging.getLogger("x").info("bad: %s", "\x1b]0;title\x07\nforged line\r\u202e\udcff")
    text = (tmp_path / "log").read_text()
    assert len(text.splitlines()) == 1
    assert text.rstrip("\n").isprintable()
    assert "\\x1b" in text


def test_log_that_cannot_be_opened_keeps_nobody_from_serving(tmp_path: Path) -> None:
    open_logbook(str(tmp_path / "missing" / "log"))
    logging.getLogger("x").info("on")


def test_link_in_place_of_the_log_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "log").symlink_to(tmp_path / "target")
    open_logbook(str(tmp_path / "log"))
    logging.getLogger("x").info("on")
    assert not (tmp_path / "target").exists()


def test_record_that_cannot_be_formatted_does_not_hurt_who_logs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    open_logbook(str(tmp_path / "log"))
    ours = logging.getLogger().handlers[-1]  # pytest's own would raise
    ours.handle(logging.LogRecord("x", logging.INFO, "", 1, "%d lines", ("many",), None))
    logging.getLogger("x").info("on")
    assert "many" in capsys.readouterr().err
    assert (tmp_path / "log").read_text().endswith("INFO on\n")


def test_log_goes_on_when_the_disk_has_room_again(tmp_path: Path) -> None:
    open_logbook(str(tmp_path / "log"))
    logging.getLogger("x").info("before")
    with files_of_at_most(10):
        logging.getLogger("x").info("lost")
    logging.getLogger("x").info("after")
    words = [line.split()[-1] for line in (tmp_path / "log").read_text().splitlines()]
    assert words == ["before", "after"]


# --- the file


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A real full disk, as far as a write can tell: it takes a part, and then nothing."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[RotatedFile]:
    opened = RotatedFile(str(tmp_path / "file"), 100, 2)
    yield opened
    opened.close()


def test_full_disk_leaves_no_half_line(tmp_path: Path, file: RotatedFile) -> None:
    file.write(b"first\n")
    with files_of_at_most(10):
        for _ in range(2):
            with pytest.raises(OSError, match=r"No space|too large"):
                file.write(b"second\n")
            assert (tmp_path / "file").read_bytes() == b"first\n"
    file.write(b"third\n")
    assert (tmp_path / "file").read_bytes() == b"first\nthird\n"


def test_file_that_somebody_removed_is_made_anew(tmp_path: Path, file: RotatedFile) -> None:
    file.write(b"first\n")
    (tmp_path / "file").unlink()
    file.write(b"second\n")
    assert (tmp_path / "file").read_bytes() == b"second\n"


def test_line_longer_than_the_bound_has_a_file_of_its_own(
    tmp_path: Path, file: RotatedFile
) -> None:
    for letter in (b"a", b"b"):
        file.write(letter * 200 + b"\n")
    assert (tmp_path / "file").read_bytes() == b"b" * 200 + b"\n"
    assert (tmp_path / "file.1").read_bytes() == b"a" * 200 + b"\n"


def test_file_of_another_run_is_continued_within_the_bound_and_made_private(
    tmp_path: Path, file: RotatedFile
) -> None:
    (tmp_path / "file").write_bytes(b"x" * 90 + b"\n")
    (tmp_path / "file").chmod(0o644)
    file.write(b"12345678\n")
    assert not (tmp_path / "file.1").exists()
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600
    file.write(b"9\n")
    assert (tmp_path / "file").read_bytes() == b"9\n"


def test_rotation_that_fails_fails_the_line_and_heals(tmp_path: Path, file: RotatedFile) -> None:
    file.write(b"a" * 99 + b"\n")
    (tmp_path / "file.1").mkdir()
    (tmp_path / "file.1" / "in the way").touch()
    (tmp_path / "file.2").mkdir()
    (tmp_path / "file.2" / "too").touch()
    for _ in range(2):
        with pytest.raises(OSError, match="file"):
            file.write(b"b\n")
    for name in ("file.1/in the way", "file.2/too"):
        (tmp_path / name).unlink()
        (tmp_path / name).parent.rmdir()
    file.write(b"c\n")
    assert (tmp_path / "file").read_bytes() == b"c\n"
    assert (tmp_path / "file.1").read_bytes() == b"a" * 99 + b"\n"


@pytest.mark.parametrize("kind", ["fifo", "fifo with a reader", "directory", "link"])
def test_what_is_no_file_is_not_written_to(tmp_path: Path, file: RotatedFile, kind: str) -> None:
    path, target = tmp_path / "file", tmp_path / "target"
    if kind == "directory":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(target)
    else:
        os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK) if kind == "fifo with a reader" else -1
    with pytest.raises(OSError, match="file") as refused:
        file.write(b"x\n")
    assert refused.value.errno in (errno.ENXIO, errno.EPERM, errno.EISDIR, errno.ELOOP)
    assert not target.exists()
    if reader >= 0:
        assert os.read(reader, 10) == b""
        os.close(reader)


def test_commands_do_not_inherit_the_file(file: RotatedFile) -> None:
    file.open()
    assert not os.get_inheritable(file._descriptor)
