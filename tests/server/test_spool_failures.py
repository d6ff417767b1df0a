"""A disk that fails costs no byte of what was kept, and is tried again."""

from __future__ import annotations

import errno
import logging
import os
import random
from pathlib import Path

import pytest

from smartsim_bridge.server import spool as room_of_spool
from smartsim_bridge.server.segments import Segment
from smartsim_bridge.server.spool import OWN_MEMORY, STREAM_QUOTA, Kept, Spool

MIB = 1024 * 1024
ID = "0123abcd"
SAID = random.Random(1).randbytes(4 * MIB)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def spool(directory: Path) -> Spool:
    return Spool(str(directory))


def fill(kept: Kept, size: int) -> None:
    for _ in range(0, size, 256 * 1024):
        kept.append(SAID[kept.end :][: 256 * 1024])


def whole(kept: Kept) -> bytes:
    pieces, offset = [], kept.base
    while offset < kept.end:
        pieces.append(kept.read(offset, MIB))
        offset += len(pieces[-1])
    return b"".join(pieces)


class FailingDisk:
    """Lets writes fail, as a disk that is full, broken or read-only does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
        self.attempts = 0
        self._number = number
        self._patch = monkeypatch
        monkeypatch.setattr(Segment, "_write", self._fail)

    def _fail(self, *_: object) -> None:
        self.attempts += 1
        raise OSError(self._number, os.strerror(self._number))

    def mend(self) -> None:
        self._patch.undo()


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(room_of_spool, "time", self)

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "the disk is full: No space left on device"),
        (errno.EDQUOT, "the disk is full: Disk quota exceeded"),
        (errno.EIO, "the disk fails: Input/output error"),
        (errno.EROFS, "the disk fails: Read-only file system"),
    ],
)
def test_failing_disk_loses_nothing_and_leaves_no_room(
    spool: Spool,
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    number: int,
    said: str,
) -> None:
    FailingDisk(monkeypatch, number)
    kept, small = spool.keep(ID, 1), spool.keep(ID, 2)
    fill(kept, 4 * MIB)
    small.append(b"few")
    assert (kept.room, kept.why_full) == (0, said)
    assert (spool.in_memory, spool.on_disk) == (4 * MIB + 3, 0)
    assert whole(kept) == SAID
    # What fits into memory needs no disk.
    assert (small.room, small.why_full) == (OWN_MEMORY - 3, "")
    warnings = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert os.strerror(number) in warnings[0].getMessage()
    kept.close()
    assert list(directory.iterdir()) == []


def test_failed_disk_is_tried_again_by_asking_for_room_but_not_often(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    disk = FailingDisk(monkeypatch, errno.ENOSPC)
    clock = Clock(monkeypatch)
    kept = spool.keep(ID, 1)
    fill(kept, 4 * MIB)
    assert (kept.room, disk.attempts) == (0, 1)
    clock.now += 4.9
    assert (kept.room, disk.attempts) == (0, 1)
    clock.now += 0.2
    assert (kept.room, disk.attempts) == (0, 2)
    assert len(caplog.records) == 1
    disk.mend()
    clock = Clock(monkeypatch)
    clock.now += 100
    assert kept.room == STREAM_QUOTA - 4 * MIB
    assert (spool.in_memory, spool.fault) == (0, "")
    assert whole(kept) == SAID


def test_stream_that_filled_its_share_while_the_disk_failed_goes_on_afterwards(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds exactly what it may and is not appended to: only asking can set it free."""
    disk = FailingDisk(monkeypatch, errno.ENOSPC)
    fill(spool.keep(ID, 2), 2 * MIB)
    kept = spool.keep(ID, 1)
    while kept.room:
        kept.append(bytes(min(kept.room, 256 * 1024)))
    assert kept.why_full.startswith("the disk is full")
    disk.mend()
    clock = Clock(monkeypatch)
    clock.now += 1e9
    assert kept.room > OWN_MEMORY


def test_removed_file_lets_a_full_disk_be_tried_at_once(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    other, kept = spool.keep(ID, 2), spool.keep(ID, 1)
    fill(other, 2 * MIB)
    with monkeypatch.context() as patch:
        FailingDisk(patch, errno.ENOSPC)
        fill(kept, 2 * MIB)
        assert kept.room == 0
    assert kept.room == 0
    other.close()
    assert kept.room > 0
    assert whole(kept) == SAID[: 2 * MIB]


def test_error_at_close_counts_as_not_written(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network file system tells there that the quota is used up."""
    kept = spool.keep(ID, 1)
    fill(kept, 512 * 1024)
    close = os.close
    closed = []

    def close_and_fail(descriptor: int) -> None:
        close(descriptor)
        closed.append(descriptor)
        if len(closed) == 2:  # the first was that of the new, empty file
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    with monkeypatch.context() as patch:
        patch.setattr(os, "close", close_and_fail)
        kept.append(SAID[512 * 1024 :][:MIB])
    assert (spool.on_disk, kept.room) == (0, 0)
    assert whole(kept) == SAID[: MIB + 512 * 1024]
