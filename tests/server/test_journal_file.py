from __future__ import annotations

import dataclasses
import json
import logging
import os
import stat
from pathlib import Path

import pytest

from smartsim_bridge.server import journal_file as room
from smartsim_bridge.server.journal import Journal, Record
from smartsim_bridge.server.journal_file import SHAPES, JournalFile
from tests.support.footprint import own_descriptors
from tests.support.users import is_root

needs_root = pytest.mark.skipif(not is_root(), reason="giving files away needs root")

HEADER = b'{"journal":1}\n'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "login1.jsonl"


def sample(path: Path) -> bytes:
    """A journal with all that can be in one; it is closed."""
    journal = Journal(str(path))
    journal.meet("other")
    for number, command in enumerate(("ended", "failed", "runs", "waits"), 1):
        journal.begin(command, "s", number, ("srun", "-n", str(number)), command == "runs")
    journal.started("ended", 41, 4711)
    journal.ended("ended", None, 15, True, b"out\n", b"err\xff\n")
    journal.failed("failed", 2, "No such file or directory", "srun")
    journal.tidy()
    journal.started("runs", 42, 4712)
    journal.forget(["ended", "waits"])
    journal.close()
    return path.read_bytes()


def assert_begun_anew(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """That what lies there is not believed, is out of the way, and does no harm."""
    with caplog.at_level(logging.WARNING):
        journal = Journal(str(path))
    assert (journal.records(), journal.knows("s"), journal.knows("other")) == ([], False, False)
    assert journal.why_not == ""
    assert [str(path) in record.getMessage() for record in caplog.records] == [True]
    journal.begin("new", "s", 9, ("true",), False)
    journal.close()
    assert path.lstat().st_mode == stat.S_IFREG | 0o600
    later = Journal(str(path))
    assert [record.command for record in later.records()] == ["new"]
    later.close()


def test_record_has_the_shape_of_its_line() -> None:
    # What is in no line makes no record another one.
    fields = [one.name for one in dataclasses.fields(Record) if one.compare]
    assert set(SHAPES["record"]) == set(fields)


def test_each_event_is_one_line_of_json_that_is_whole_at_once(path: Path) -> None:
    content = sample(path)
    header, *lines = content.splitlines(keepends=True)
    assert (header, content[-1:]) == (HEADER, b"\n")
    kinds = [json.loads(line)[0] for line in lines]
    assert set(kinds) == set(SHAPES) - {"opened", "record"}


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077, 0o277])
def test_file_is_private_whatever_the_umask(path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        file = JournalFile(str(path))
        file.replace([["session", "s", 1]])
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        file.append(["session", "t", 1])
        file.close()
    finally:
        os.umask(before)
    assert path.read_bytes() == HEADER + b'["session","s",1]\n["session","t",1]\n'


def test_file_that_others_can_read_is_closed_to_them(path: Path) -> None:
    sample(path)
    path.chmod(0o644)
    journal = Journal(str(path))
    assert (journal.knows("s"), stat.S_IMODE(path.stat().st_mode)) == (True, 0o600)
    journal.close()


def test_file_that_others_can_write_is_not_believed(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sample(path)
    path.chmod(0o620)
    assert_begun_anew(path, caplog)


@needs_root
def test_file_of_somebody_else_is_not_believed(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sample(path)
    os.chown(path, 12345, 12345)
    assert_begun_anew(path, caplog)


def test_link_is_not_followed(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    target = path.with_name("target")
    content = sample(target)
    path.symlink_to(target)
    assert_begun_anew(path, caplog)
    assert target.read_bytes() == content


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_file_is_moved_aside(
    path: Path, caplog: pytest.LogCaptureFixture, make: object
) -> None:
    assert callable(make)
    make(path)
    assert_begun_anew(path, caplog)
    assert not stat.S_ISREG(path.with_name(f"{path.name}.broken").stat().st_mode)


RUBBISH = [
    b"rubbish",
    b"",
    b"\xff\xfe",
    b"\x00\x00\x00",
    b"{}",
    b"null",
    b"[]",
    b"[" * 100_000,
    b'["begin"]',
    b'["unheard of"]',
    b'["session","s"]',
    b'["session","s",true]',
    b'["session","s",1.0]',
    b'["session",1,1]',
    b'["session","s",1,1]',
    b'["session","s",1' + b"0" * 5000 + b"]",
    b'["begin","ended","s",1,[],true,1.0]',
    b'["begin","x","s",1,[1],true,1.0]',
    b'["begin","x","s",1,[],true,NaN]',
    b'["begin","x","s",1,[],true,1e999]',
    b'["begin","x","s",1,[],true,1]',
    b'["started","nobody",1,1]',
    b'["started","runs",-1,1]',
    b'["forget",["nobody"]]',
    b'["record","x","s",1,[],true,1.0,0,0,"dancing",0.0,null,null,false,0,"","","","",false]',
    b'["ended","runs",0,null,false,1.0,"?",""]',
    b'["ended","runs",0,null,false,1.0,"AB=C",""]',
    b'["ended","runs","0",null,false,1.0,"",""]',
]


@pytest.mark.parametrize("line", RUBBISH)
@pytest.mark.parametrize("place", ["middle", "end"])
def test_line_that_cannot_be_one_of_ours_makes_all_worthless(
    path: Path, caplog: pytest.LogCaptureFixture, line: bytes, place: str
) -> None:
    lines = sample(path).splitlines(keepends=True)
    if place == "middle":
        # Before the last, which says nothing of the commands that the rubbish names.
        lines.insert(-1, line + b"\n")
    else:
        lines.append(line + b"\n")
    path.write_bytes(b"".join(lines))
    content = path.read_bytes()
    assert_begun_anew(path, caplog)
    assert path.with_name(f"{path.name}.broken").read_bytes() == content


@pytest.mark.parametrize(
    "header", [b'{"journal":2}\n', b'{"journal":1}\r\n', b"", b"\n", b" ", b"[]\n"]
)
def test_other_header_makes_all_worthless(
    path: Path, caplog: pytest.LogCaptureFixture, header: bytes
) -> None:
    content = sample(path)
    path.write_bytes(header + content[len(HEADER) :])
    assert_begun_anew(path, caplog)


@pytest.mark.parametrize("tail", [b"\x00" * 4096, b"rubbish", b'["begin\x00', b'["beg\xff'])
def test_end_that_is_no_part_of_a_line_makes_all_worthless(
    path: Path, caplog: pytest.LogCaptureFixture, tail: bytes
) -> None:
    """A host that crashes may leave zeros where whole lines were."""
    path.write_bytes(sample(path) + tail)
    assert_begun_anew(path, caplog)


def test_file_that_was_never_a_journal_is_kept_for_people(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_bytes(b"rubbish")
    assert_begun_anew(path, caplog)
    assert path.with_name(f"{path.name}.broken").read_bytes() == b"rubbish"


def test_huge_file_is_not_read(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = sample(path)
    monkeypatch.setattr(room, "MAX_READ", len(content) - 1)
    assert_begun_anew(path, caplog)


def test_rubbish_of_a_server_that_was_killed_while_writing_anew_is_removed(path: Path) -> None:
    sample(path)
    path.with_name(f"{path.name}.new").write_bytes(b'{"journal"')
    path.write_bytes(path.read_bytes()[:-1])
    journal = Journal(str(path))
    assert (journal.knows("s"), journal.why_not) == (True, "")
    journal.close()
    assert os.listdir(path.parent) == [path.name]


def test_failed_writing_anew_leaves_what_was_there(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = JournalFile(str(path))
    file.replace([["session", "s", 1]])
    before = path.read_bytes()
    descriptors = own_descriptors()

    def refuse(*_: object) -> None:
        raise OSError(5, "Input/output error")

    for verb in ("write", "fsync", "replace", "fchmod"):
        with monkeypatch.context() as patch:
            patch.setattr(os, verb, refuse)
            with pytest.raises(OSError, match="Input/output"):
                file.replace([["session", "t", 1]])
        assert os.listdir(path.parent) == [path.name]
        assert path.read_bytes() == before
        assert own_descriptors() == descriptors
    file.close()


def test_descriptor_leads_to_the_new_file_and_does_not_reach_commands(path: Path) -> None:
    file = JournalFile(str(path))
    file.replace([])
    descriptor = file.descriptor
    assert descriptor is not None
    file.replace([["session", "s", 1]])
    assert file.descriptor == descriptor
    assert os.path.samestat(os.fstat(descriptor), path.stat())
    assert not os.get_inheritable(descriptor)
    file.discard()
    assert not file.is_on
    os.fsync(descriptor)  # a thread that comes late gets no other file
    file.close()
