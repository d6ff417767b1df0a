"""What a broken or hostile other end says must not lead out of the folder, nor go unnoticed."""

from __future__ import annotations

import errno
import json
import os
import random
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartsim_bridge.files import entries, frames, ground, landing
from smartsim_bridge.files.end import FULL, Fault, Wish
from smartsim_bridge.files.entries import Malformed
from smartsim_bridge.files.sink import Sink
from smartsim_bridge.files.source import Source
from tests.files.ends import WISH, move, tree

FILE_OF_TWO = ["f", 2, 0, 0o644, ""]
OPENED = frames.said(frames.OPEN, [0, 0, ["a", *FILE_OF_TWO]])


@pytest.fixture
def there(tmp_path: Path) -> Path:
    return tmp_path / "there"


@pytest.fixture
def sink(there: Path) -> Sink:
    """One that has heard the root of a folder."""
    made = Sink(str(there), WISH)
    made.receive(frames.said(frames.ROOT, {"kind": "d", "name": "x", "path": "/x"}))
    return made


def tell(sink: Sink, *listed: list[Any]) -> None:
    sink.receive(frames.said(frames.ENTRIES, list(listed)))


@pytest.mark.parametrize(
    "path", ["../x", "/etc/x", "a/../../x", "a//x", "./x", "a/.", "..", "a\0b", "a/../x"]
)
def test_a_path_that_leads_elsewhere_ends_it(sink: Sink, there: Path, path: str) -> None:
    with pytest.raises(Malformed, match="leads elsewhere"):
        tell(sink, [path, *FILE_OF_TWO])
    assert list(there.iterdir()) == []


def test_the_name_of_the_root_is_checked_too(there: Path) -> None:
    sink = Sink(f"{there}/", WISH)
    with pytest.raises(Malformed, match="leads elsewhere"):
        sink.receive(frames.said(frames.ROOT, {"kind": "d", "name": "../up", "path": "/x"}))


def test_no_link_that_was_sent_before_is_followed(sink: Sink, there: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    tell(sink, ["way", "l", 0, 0, 0o777, str(outside)], ["way/x", *FILE_OF_TWO])
    assert (there / "way").is_symlink()
    assert [one.path for one in sink.tally.lists["failed"]] == ["way/x"]
    assert list(outside.iterdir()) == []


def test_no_link_that_is_there_is_followed_either(there: Path, tmp_path: Path) -> None:
    outside, here = tmp_path / "outside", tmp_path / "here"
    for folder in (outside, there, here / "way"):
        folder.mkdir(parents=True)
    (there / "way").symlink_to(outside)
    (there / "file").symlink_to(outside / "x")
    (here / "way" / "x").write_text("x")
    (here / "file").write_text("y")
    sink = move(here, there)
    assert [one.path for one in sink.tally.lists["failed"]] == ["way", "way/x"]
    assert list(outside.iterdir()) == []
    assert (there / "file").read_text() == "y"  # in place of the link, not through it
    assert not (there / "file").is_symlink()


def test_a_folder_that_becomes_a_link_meanwhile_is_not_followed(
    sink: Sink, there: Path, tmp_path: Path
) -> None:
    tell(sink, ["a", "d", 0, 0, 0o755, ""], ["a/b", "d", 0, 0, 0o755, ""], ["a/b/x", *FILE_OF_TWO])
    os.rename(there / "a", there / "away")
    os.symlink(tmp_path, there / "a")
    sink._grounded.forget()
    sink.receive(frames.whole(2, b"xy"))
    assert [one.path for one in sink.tally.lists["failed"]] == ["a/b/x"]


def test_deleting_does_not_go_through_links(there: Path, tmp_path: Path) -> None:
    outside, here = tmp_path / "outside", tmp_path / "here"
    for folder in (outside, there, here):
        folder.mkdir()
    (outside / "precious").write_text("p")
    (there / "way").symlink_to(outside)
    move(here, there, Wish("", False, delete=True, is_folder=True))
    assert list(there.iterdir()) == []
    assert (outside / "precious").exists()


def test_a_link_outside_is_told_as_a_link_and_not_read(tmp_path: Path, there: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "link").symlink_to("/etc/passwd")
    move(here, there)
    assert os.readlink(there / "link") == "/etc/passwd"


def test_a_file_that_becomes_a_link_before_it_is_read_is_not_read(
    tmp_path: Path, there: Path
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "a").write_text("a")
    (tmp_path / "secret").write_text("s")
    sender, sink = Source(str(here), WISH), Sink(str(there), WISH)
    for _ in range(2):
        sink.receive(sender.produce())
        sender.receive(sink.produce())
    (here / "a").unlink()
    (here / "a").symlink_to(tmp_path / "secret")
    sink.receive(sender.produce())
    assert list(there.iterdir()) == []
    assert [one.path for one in sender.tally.lists["failed"]] == ["a"]


@pytest.mark.parametrize(
    "said",
    [
        frames.whole(7, b"x"),
        frames.whole(0, b"longer than was told"),
        frames.said(frames.OPEN, [0, 0, ["other", *FILE_OF_TWO]]),
        frames.said(frames.OPEN, [0, 5]),
        frames.said(frames.OPEN, [0, 1, ["a", *FILE_OF_TWO]]),
        frames.said(frames.OPEN, [0, 0, ["a", *FILE_OF_TWO]])
        + frames.said(frames.END, [0, "", ""]),
        frames.frame(frames.DATA, b"x"),
        frames.said(frames.END, [9, "", ""]),
        frames.said(frames.END, "no list"),
        frames.said(frames.MISSING, [0]),
        frames.said(frames.MISSING, ["x"]),
        frames.said(frames.ENTRIES, [["a"]]),
        frames.said(frames.ENTRIES, [["a", "f", -1, 0, 0, ""]]),
        frames.said(frames.ENTRIES, [["a", "l", 0, 0, 0, ""]]),
        frames.said(frames.ENTRIES, [["a", "p", 0, 0, 0, ""]]),
        frames.said(frames.ENTRIES, {"a": 1}),
        frames.frame(frames.ENTRIES, b"[" * 100_000),
        frames.frame(frames.ENTRIES, b"\xff"),
        frames.said(frames.ANSWERS, []),
        frames.said(frames.TALLY, {"files": "many"}),
        frames.said(frames.FAULT, []),
        b"GET / HTTP/1.1\r\n\r\n",
        b"E\xff\xff\xff\xff",
    ],
)
def test_what_makes_no_sense_ends_it(sink: Sink, there: Path, said: bytes) -> None:
    tell(sink, ["a", *FILE_OF_TWO])
    with pytest.raises(Malformed):
        sink.receive(said)
    sink.close()
    assert list(there.iterdir()) == []


@given(st.lists(st.tuples(st.sampled_from(sorted(frames.KINDS)), st.binary(max_size=40))))
def test_no_bytes_do_more_than_end_it(said: list[tuple[bytes, bytes]]) -> None:
    end = Source(os.path.dirname(__file__), WISH)
    try:
        for kind, body in said:
            end.receive(frames.frame(kind, body))
            end.produce()
    except (Malformed, Fault):
        pass
    finally:
        end.close()


def test_more_than_was_offered_is_not_sent(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    for number in (0, 2, -1):
        sender = Source(str(tmp_path), WISH)
        sender.receive(frames.said(frames.TARGET, ["/there", 0]))
        sender.produce()
        with pytest.raises(Malformed, match="not offered"):
            sender.receive(frames.said(frames.ANSWERS, [[number, 0, ""]]))


def test_a_sink_learns_nothing_of_what_is_elsewhere(tmp_path: Path) -> None:
    asked = frames.said(frames.HAVE_YOU, ["../../etc/passwd"])
    with pytest.raises(Malformed, match="nobody asked"):
        Source(str(tmp_path), WISH).receive(asked)
    with pytest.raises(Malformed, match="leads elsewhere"):
        Source(str(tmp_path), replace(WISH, delete=True)).receive(asked)


def test_set_uid_bits_are_dropped(tmp_path: Path, there: Path) -> None:
    sink = Sink(str(there), WISH)
    sink.receive(frames.said(frames.ROOT, {"kind": "d", "name": "x", "path": "/x"}))
    tell(sink, ["a", "f", 2, 0, 0o6755, ""])
    sink.receive(frames.whole(0, b"xy"))
    assert stat.S_IMODE((there / "a").stat().st_mode) == 0o755


def test_a_partial_file_of_somebody_else_is_not_gone_on_with(tmp_path: Path, there: Path) -> None:
    """Whoever can write into the folder could plant one, by another name of a file of ours."""
    (tmp_path / "a").write_bytes(b"a" * landing.RESUME_FROM)
    (tmp_path / "precious").write_bytes(b"a" * 1000)
    there.mkdir()
    part = there / landing._part_name(ground.Place(None, str(there / "a")))
    os.link(tmp_path / "precious", part)
    move(tmp_path / "a", there / "a")
    assert (tmp_path / "precious").read_bytes() == b"a" * 1000
    assert (there / "a").read_bytes() == (tmp_path / "a").read_bytes()


# --- disks that are full, and systems that can do less ------------------------------------------


@pytest.mark.parametrize("size", [100, landing.RESUME_FROM + 1])
@pytest.mark.parametrize("number", FULL)
def test_a_full_disk_ends_it_and_leaves_nothing(
    tmp_path: Path, there: Path, monkeypatch: pytest.MonkeyPatch, size: int, number: int
) -> None:
    (tmp_path / "a").write_bytes(b"a" * size)

    def write(descriptor: int, data: bytes) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(Fault) as raised:
        move(tmp_path / "a", there / "a")
    assert raised.value.number == number
    assert raised.value.path == str(there / "a")
    assert list(there.iterdir()) == []


def test_what_is_not_to_be_written_does_not_keep_the_others(
    tmp_path: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    for name in "abc":
        (here / name).write_text(name)
    real = os.replace

    def replace(old: str, new: str, **words: Any) -> None:
        if new.endswith("b"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        real(old, new, **words)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        sink = move(here, there)
    failed = [[one.path, one.reason] for one in sink.tally.lists["failed"]]
    assert failed == [["b", "Permission denied"]]
    assert sorted(os.listdir(there)) == ["a", "c"]


@pytest.fixture
def poor_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Windows has it: nothing below a descriptor, no locks, no fchmod."""
    monkeypatch.setattr(ground, "_CAN_OPEN_BELOW", False)
    monkeypatch.setattr(landing, "fcntl", None)
    monkeypatch.delattr(os, "fchmod")
    monkeypatch.setattr(os, "supports_fd", set())
    monkeypatch.setattr(os, "supports_follow_symlinks", set())


@pytest.mark.usefixtures("poor_system")
def test_a_system_that_can_do_less_gets_the_same_content(tmp_path: Path, there: Path) -> None:
    here = tmp_path / "here"
    chance = random.Random(1)
    for name, size in (("a", 10), ("deep/er/b", landing.RESUME_FROM + 5), ("deep/c", 0)):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_bytes(chance.randbytes(size))
    for _ in range(2):
        move(here, there)
        wanted, found = tree(here), tree(there)
        assert {key: one[-1] for key, one in found.items() if one[0] == "file"} == {
            key: one[-1] for key, one in wanted.items() if one[0] == "file"
        }
        assert (there / "a").stat().st_mtime_ns == (here / "a").stat().st_mtime_ns


@pytest.mark.usefixtures("poor_system")
def test_it_does_not_follow_links_either(tmp_path: Path, there: Path) -> None:
    test_no_link_that_is_there_is_followed_either(there, tmp_path)


def test_names_are_the_same_bytes_whatever_the_encoding_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = os.fsdecode(b"caf\xe9")
    assert json.loads(json.dumps(entries.on_wire(name))) == name
    monkeypatch.setattr(entries, "_IS_UTF8", False)
    assert entries.on_wire(name) == "caf\udce9"
    assert entries.from_wire(entries.on_wire(name)) == name
