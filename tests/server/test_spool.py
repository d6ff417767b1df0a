from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from smartsim_bridge.protocol.flow import WINDOW
from smartsim_bridge.server import spool as room_of_spool
from smartsim_bridge.server.spool import (
    OWN_MEMORY,
    SCARCE_MEMORY,
    SEGMENT,
    STREAM_QUOTA,
    Kept,
    Spool,
)

MIB = 1024 * 1024
ID = "0123abcd"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def spool(directory: Path) -> Spool:
    return Spool(str(directory))


def opened() -> list[str]:
    """What this process has open, by name."""
    found = []
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the one that listed them
            found.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    return found


def files(directory: Path) -> list[Path]:
    return sorted(directory.iterdir()) if directory.is_dir() else []


def pattern(size: int, start: int = 0) -> bytes:
    """Bytes that tell where in a stream they belong."""
    first = start // 64
    text = b"".join(b"%063x\n" % number for number in range(first, (start + size) // 64 + 1))
    return text[start - first * 64 :][:size]


def fill(kept: Kept, size: int, piece: int = 256 * 1024) -> None:
    for start in range(kept.end, kept.end + size, piece):
        kept.append(pattern(piece, start))


def whole(kept: Kept, size: int = MIB) -> bytes:
    pieces, offset = [], kept.base
    while offset < kept.end:
        pieces.append(kept.read(offset, size))
        assert 0 < len(pieces[-1]) <= size
        offset += len(pieces[-1])
    return b"".join(pieces)


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


# --- memory


def test_short_output_touches_no_file(spool: Spool, directory: Path) -> None:
    kept = spool.keep(ID, 1)
    assert [kept.append(b"one\n"), kept.append(b""), kept.append(b"two\n")] == [0, 4, 4]
    assert kept.read(0, 100) == b"one\ntwo\n"
    assert (kept.read(2, 3), kept.read(8, 5), kept.read(0, 0)) == (b"e\nt", b"", b"")
    assert (spool.in_memory, spool.on_disk, kept.base, kept.end) == (8, 0, 0, 8)
    kept.close()
    assert spool.in_memory == 0
    assert not directory.exists()


def test_acknowledged_bytes_leave_memory(spool: Spool) -> None:
    kept = spool.keep(ID, 1)
    fill(kept, 512 * 1024)
    kept.drop_below(300 * 1024)
    assert (spool.in_memory, kept.base) == (212 * 1024, 300 * 1024)
    assert kept.read(300 * 1024, 9) == pattern(9, 300 * 1024)
    kept.drop_below(kept.end)
    assert (spool.in_memory, kept.base) == (0, kept.end)


def test_single_bytes_are_not_kept_one_by_one(spool: Spool) -> None:
    kept = spool.keep(ID, 1)
    for number in range(20_000):
        kept.append(bytes([number % 251]))
    assert len(kept._chunks) <= 20_000 // 2048
    assert whole(kept, 777) == bytes(number % 251 for number in range(20_000))


@pytest.mark.parametrize("offset", [-1, 7, 99])
def test_reading_what_is_not_kept_is_refused(spool: Spool, offset: int) -> None:
    kept = spool.keep(ID, 1)
    kept.append(b"123456")
    with pytest.raises(ValueError, match=f"{offset} is not within 0 to 6"):
        kept.read(offset, 1)


def test_client_that_uses_its_credit_to_the_last_byte_costs_no_file(
    spool: Spool, directory: Path
) -> None:
    kept, taken = spool.keep(ID, 1), 0
    for _ in range(100):
        while kept.end < taken + WINDOW:
            kept.append(pattern(min(65_536, taken + WINDOW - kept.end), kept.end))
        assert whole(kept) == pattern(WINDOW, taken)
        taken += 99_991  # never where a chunk ends
        kept.drop_below(taken)
    assert not directory.exists()


# --- files


def test_a_streams_share_goes_to_one_file_at_once(spool: Spool, directory: Path) -> None:
    kept = spool.keep(ID, 2)
    fill(kept, OWN_MEMORY)
    assert files(directory) == []
    kept.append(b"!")
    assert [path.name for path in files(directory)] == [f"{ID}-2-1.spool"]
    assert (spool.in_memory, spool.on_disk) == (0, OWN_MEMORY + 1)
    assert whole(kept) == pattern(OWN_MEMORY) + b"!"


def test_long_output_is_cut_into_segments_that_go_one_by_one(spool: Spool, directory: Path) -> None:
    kept = spool.keep(ID, 1)
    fill(kept, 40 * MIB)
    assert len(files(directory)) == 5
    assert all(path.stat().st_size < SEGMENT + 2 * MIB for path in files(directory))
    kept.drop_below(20 * MIB)
    assert 20 * MIB - SEGMENT - 2 * MIB < kept.base <= 20 * MIB
    assert spool.on_disk == sum(path.stat().st_size for path in files(directory))
    assert spool.on_disk + spool.in_memory == kept.end - kept.base
    assert whole(kept) == pattern(kept.end - kept.base, kept.base)
    kept.drop_below(kept.end)
    assert files(directory) == []
    assert (spool.in_memory, spool.on_disk) == (0, 0)


def test_closing_removes_the_files_and_may_be_repeated(spool: Spool, directory: Path) -> None:
    kept, other = spool.keep(ID, 1), spool.keep(ID, 2)
    fill(kept, 20 * MIB)
    fill(other, 2 * MIB)
    kept.close()
    kept.close()
    assert {path.name.split("-")[1] for path in files(directory)} == {"2"}
    other.close()
    assert files(directory) == []
    assert (spool.in_memory, spool.on_disk) == (0, 0)


def test_no_descriptor_stays_open(spool: Spool, directory: Path) -> None:
    streams = [spool.keep(f"{number:x}", 1) for number in range(20)]
    for kept in streams:
        fill(kept, 2 * MIB)
        kept.read(0, 10)
    # Of ours: what tests before this one have left may close at any moment.
    assert [path for path in opened() if path.startswith(str(directory))] == []
    for kept in streams:
        kept.close()


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077, 0o777])
def test_files_are_private_whatever_the_umask(spool: Spool, directory: Path, mask: int) -> None:
    with umask(mask):
        kept = spool.keep(ID, 1)
        fill(kept, 10 * MIB)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in files(directory)} == {0o600}
    assert whole(kept) == pattern(10 * MIB)


@pytest.mark.parametrize(
    "command", ["../../etc/x", "", "a/b", "ABC", "x" * 300, "a" * 65, "\0", "\ud800", "٣", "a\n"]
)
def test_an_id_that_is_no_plain_name_never_becomes_one(
    spool: Spool, directory: Path, tmp_path: Path, command: str
) -> None:
    kept = spool.keep(command, 1)
    fill(kept, 2 * MIB)
    (found,) = files(directory)
    stem = found.name.split("-")[0]
    assert (len(stem), set(stem) <= set("0123456789abcdef")) == (64, True)
    assert list(tmp_path.iterdir()) == [directory]
    assert whole(kept) == pattern(2 * MIB)
    spool.clear()
    assert files(directory) == []


def test_two_commands_of_one_id_do_not_share_a_file(spool: Spool) -> None:
    one, two = spool.keep(ID, 1), spool.keep(ID, 1)
    fill(one, 2 * MIB)
    two.append(bytes(2 * MIB))
    assert whole(one) == pattern(2 * MIB)
    assert whole(two) == bytes(2 * MIB)


def test_link_planted_at_a_segments_name_is_not_followed(
    spool: Spool, directory: Path, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    directory.mkdir(0o700)
    (directory / f"{ID}-1-1.spool").symlink_to(victim)
    (directory / f"{ID}-1-2.spool").symlink_to(tmp_path / "nothing")
    (directory / f"{ID}-1-3.spool").write_bytes(b"somebody's")
    kept = spool.keep(ID, 1)
    kept.append(pattern(2 * MIB))
    assert (spool.fault, spool.on_disk) == ("", 2 * MIB)
    assert (directory / f"{ID}-1-3.spool").read_bytes() == b"somebody's"
    assert victim.read_bytes() == b"precious"
    assert not (tmp_path / "nothing").exists()
    assert whole(kept) == pattern(2 * MIB)


def test_directory_that_is_a_link_is_not_used(
    spool: Spool, directory: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    left = tmp_path / "elsewhere" / f"{ID}-1-1.spool"
    left.touch()
    directory.symlink_to(tmp_path / "elsewhere")
    kept = spool.keep(ID, 1)
    fill(kept, 2 * MIB)
    spool.clear()
    assert files(tmp_path / "elsewhere") == [left]
    assert whole(kept) == pattern(2 * MIB)
    assert kept.why_full.startswith("the disk fails: ")
    assert "link" in kept.why_full


# --- files that somebody else touched


def test_removed_segment_is_an_error_and_later_ones_can_be_read(
    spool: Spool, directory: Path
) -> None:
    kept = spool.keep(ID, 1)
    fill(kept, 20 * MIB)
    (directory / f"{ID}-1-1.spool").unlink()
    with pytest.raises(OSError, match="removed or changed") as lost:
        kept.read(0, 10)
    assert (lost.value.errno, lost.value.filename) == (
        errno.ESTALE,
        str(directory / f"{ID}-1-1.spool"),
    )
    assert kept.read(15 * MIB, 100) == pattern(100, 15 * MIB)
    kept.close()
    assert spool.on_disk == 0


@pytest.mark.parametrize("damage", ["truncate", "replace", "remove", "link", "directory"])
def test_damage_is_never_read_and_new_output_goes_to_a_new_file(
    spool: Spool, directory: Path, tmp_path: Path, damage: str
) -> None:
    kept = spool.keep(ID, 1)
    kept.append(pattern(2 * MIB))
    (path,) = files(directory)
    if damage == "truncate":
        os.truncate(path, 2 * MIB - 1)
    elif damage == "replace":
        (directory / "new").write_bytes(bytes(3 * MIB))
        os.replace(directory / "new", path)
    elif damage == "remove":
        path.unlink()
    elif damage == "link":
        path.rename(tmp_path / "moved")
        path.symlink_to(tmp_path / "moved")
    else:
        path.unlink()
        directory.rmdir()
    kept.append(pattern(2 * MIB, 2 * MIB))
    assert spool.fault == ""
    with pytest.raises(OSError, match="removed or changed"):
        kept.read(0, 10)
    assert kept.read(2 * MIB, MIB) == pattern(MIB, 2 * MIB)
    kept.drop_below(2 * MIB)
    assert whole(kept) == pattern(2 * MIB, 2 * MIB)


def test_what_lies_behind_the_end_of_a_segment_is_never_read(spool: Spool, directory: Path) -> None:
    """A write that failed in the middle, on a disk that would not even truncate."""
    kept = spool.keep(ID, 1)
    kept.append(pattern(2 * MIB))
    (path,) = files(directory)
    with path.open("ab") as file:
        file.write(b"torn")
    assert kept.read(0, 4 * MIB) == pattern(2 * MIB)
    kept.append(pattern(2 * MIB, 2 * MIB))
    assert len(files(directory)) == 1
    assert whole(kept) == pattern(4 * MIB)


# --- what a dead server left


def test_clearing_removes_what_is_named_as_ours_and_nothing_else(
    spool: Spool, directory: Path
) -> None:
    directory.mkdir(0o700)
    ours = [f"{ID}-1-1.spool", f"{'f' * 64}-2-99.spool"]
    others = ["2024-01-02", "notes.spool", f"{ID}-1-1.spool~", "XYZ-1-1.spool", "-1-1.spool"]
    for name in (*ours, *others):
        (directory / name).touch()
    (directory / "ab-1-7.spool").mkdir()
    spool.clear()
    assert {path.name for path in files(directory)} == {*others, "ab-1-7.spool"}


def test_clearing_what_is_not_there_is_quiet(spool: Spool, directory: Path) -> None:
    spool.clear()
    directory.touch()
    spool.clear()
    assert directory.is_file()


# --- bounds


def test_memory_of_200_streams_stays_within_the_bound(directory: Path) -> None:
    memory = 8 * MIB
    spool = Spool(str(directory), memory=memory)
    streams = [spool.keep(f"{number:x}", 1) for number in range(200)]
    most = 0
    for step in range(0, 512 * 1024, 64 * 1024):
        for kept in streams:
            kept.append(pattern(64 * 1024, step))
            most = max(most, spool.in_memory)
    assert memory / 2 < most <= memory + 200 * SCARCE_MEMORY
    assert all(whole(kept) == pattern(512 * 1024) for kept in streams)
    for kept in streams:
        kept.close()
    assert (spool.in_memory, spool.on_disk, files(directory)) == (0, 0, [])


def test_room_ends_with_the_streams_quota(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = spool.keep(ID, 1)
    assert kept.room == STREAM_QUOTA
    monkeypatch.setattr(room_of_spool, "STREAM_QUOTA", 2 * MIB)
    fill(kept, MIB)
    assert (kept.room, kept.why_full) == (MIB, "")
    fill(kept, MIB)
    assert (kept.room, kept.why_full) == (0, "its spool of 2 MiB is full")
    assert kept.append(b"never refused") == 2 * MIB
    kept.drop_below(kept.end)
    assert (kept.room, kept.why_full) == (2 * MIB, "")


def test_room_ends_with_the_quota_of_all(directory: Path) -> None:
    spool = Spool(str(directory), quota=4 * MIB)
    one, two = spool.keep(ID, 1), spool.keep(ID, 2)
    fill(one, 3 * MIB)
    assert two.room == MIB
    fill(two, MIB)
    assert (one.room, two.room) == (0, 0)
    assert two.why_full == "the server's spool of 4 MiB is full"
    one.close()
    assert (two.room, two.why_full) == (3 * MIB, "")


def test_trimming_drops_the_oldest_that_were_acknowledged(spool: Spool) -> None:
    kept = spool.keep(ID, 1)
    fill(kept, 40 * MIB)
    kept.trim(50 * MIB, kept.end)
    kept.trim(10 * MIB, 0)
    assert kept.base == 0
    kept.trim(10 * MIB, 12 * MIB)
    assert 0 < kept.base <= 12 * MIB
    kept.trim(10 * MIB, kept.end)
    assert 0 < kept.end - kept.base <= 10 * MIB
    assert whole(kept) == pattern(kept.end - kept.base, kept.base)
    fill(kept, 512 * 1024)
    kept.trim(256 * 1024, kept.end)
    assert kept.end - kept.base == 256 * 1024


def test_representations_tell_the_state(spool: Spool) -> None:
    kept = spool.keep(ID, 1)
    fill(kept, 2 * MIB)
    kept.append(b"abc")
    assert repr(kept) == (
        f"<Kept 0 to {2 * MIB + 3} of stream 1: 1 files, {kept.end - kept._fresh} bytes in memory>"
    )
    assert repr(kept._segments[0]) == f"<Segment {ID}-1-1.spool: 0 to {kept._fresh}>"
    assert repr(spool) == f"<Spool: {spool.in_memory} bytes in memory, {kept._fresh} on disk>"
    spool.fault = "the disk fails"
    assert repr(spool).endswith(" on disk, the disk fails>")
