"""Whole transfers between two folders of this host, both ends in memory."""

from __future__ import annotations

import os
import random
import socket
import stat
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smartsim_bridge.files import landing, scan, source
from smartsim_bridge.files.end import Fault
from smartsim_bridge.files.sink import Sink
from smartsim_bridge.files.source import Source
from tests.files.ends import SYNC, WISH, converse, move, tree

LARGE = landing.RESUME_FROM + 300_000

NAMES = (
    st.binary(min_size=1, max_size=12)
    .map(lambda one: one.replace(b"/", b"_").replace(b"\0", b"_"))
    .filter(lambda one: one not in (b".", b".."))
)
FILES = st.tuples(st.binary(max_size=200), st.sampled_from([0o600, 0o644, 0o755, 0o444]))
TREES = st.recursive(FILES, lambda below: st.dictionaries(NAMES, below, max_size=5), max_leaves=20)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    return folder


@pytest.fixture
def there(tmp_path: Path) -> Path:
    return tmp_path / "there"


def plant(place: bytes, what: object, chance: random.Random) -> None:
    if isinstance(what, dict):
        os.mkdir(place)
        for name, below in what.items():
            plant(place + b"/" + name, below, chance)
        return
    assert isinstance(what, tuple)
    content, mode = what
    with open(place, "wb") as file:
        file.write(content)
    os.chmod(place, mode)
    when = chance.randrange(10**18, 2 * 10**18)
    os.utime(place, ns=(when, when))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    what=st.dictionaries(NAMES, TREES, max_size=6),
    chance=st.randoms(use_true_random=False),
    piece=st.sampled_from([1, 7, 100_000]),
)
def test_any_tree_arrives_as_it_is_and_is_then_the_same(
    what: dict[bytes, object], chance: random.Random, piece: int
) -> None:
    with tempfile.TemporaryDirectory() as place:
        here, there = Path(place, "here"), Path(place, "there")
        plant(os.fsencode(here), what, chance)

        move(here, there, SYNC, piece=piece)
        assert tree(there) == tree(here)

        again = move(here, there, SYNC, piece=piece)
        assert (again.tally.counts["files"], again.tally.counts["bytes"]) == (0, 0)
        assert tree(there) == tree(here)


@pytest.mark.parametrize("size", [0, 1, source.SMALL, source.SMALL + 1, LARGE])
def test_a_file_is_called_what_the_target_says(here: Path, there: Path, size: int) -> None:
    (here / "a").write_bytes(os.urandom(size))
    os.utime(here / "a", ns=(5, 1_234_567_890_123_456_789))

    sink = move(here / "a", there / "below" / "b")

    assert (there / "below" / "b").read_bytes() == (here / "a").read_bytes()
    assert (there / "below" / "b").stat().st_mtime_ns == 1_234_567_890_123_456_789
    assert sink.target == str(there / "below" / "b")
    assert os.listdir(there / "below") == ["b"]


def test_with_a_slash_it_goes_into_the_folder(here: Path, there: Path) -> None:
    (here / "a").write_text("x")
    move(here / "a", f"{there}/")
    move(here, f"{there}/")
    assert (there / "a").read_text() == (there / "here" / "a").read_text() == "x"


def test_a_folder_twice_is_one_folder(here: Path, there: Path) -> None:
    (here / "a").write_text("x")
    for _ in range(2):
        move(here, there)
    assert tree(there) == tree(here)


def test_a_file_does_not_replace_a_folder(here: Path, there: Path) -> None:
    (here / "a").write_text("x")
    there.mkdir()
    with pytest.raises(Fault, match="with a / at its end"):
        move(here / "a", there)


def test_what_is_there_and_not_sent_stays(here: Path, there: Path) -> None:
    there.mkdir()
    (there / "mine").write_text("m")
    (here / "a").write_text("x")
    move(here, there)
    assert sorted(os.listdir(there)) == ["a", "mine"]


def test_delete_removes_what_the_source_has_not(here: Path, there: Path) -> None:
    (here / "a").write_text("x")
    for name in ("b", "old/deep/c", "kept.log"):
        (there / name).parent.mkdir(parents=True, exist_ok=True)
        (there / name).write_text("m")
    sink = move(here, there, replace(SYNC, delete=True, exclude=("*.log",)))
    assert sorted(tree(there)) == sorted(["b'a'", "b'kept.log'"])
    assert set(sink.tally.names["deleted"]) == {"b", "old/deep/c", "old/deep", "old"}


def test_only_the_time_is_set_where_the_content_is_the_same(here: Path, there: Path) -> None:
    there.mkdir()
    for name, content in (("small", b"x" * 10), ("large", os.urandom(LARGE))):
        for folder in (here, there):
            (folder / name).write_bytes(content)
        os.utime(there / name, ns=(1, 1))
    before = (there / "large").stat().st_ino

    sink = move(here, there, SYNC)

    assert sink.tally.counts["bytes"] == 0
    assert tree(there) == tree(here)
    assert (there / "large").stat().st_ino == before


def test_of_equal_size_what_differs_is_sent(here: Path, there: Path) -> None:
    there.mkdir()
    for size in (10, LARGE):
        (here / str(size)).write_bytes(b"a" * size)
        (there / str(size)).write_bytes(b"b" * size)
        os.utime(there / str(size), ns=(1, 1))
    assert move(here, there, SYNC).tally.counts["bytes"] == 10 + LARGE
    assert tree(there) == tree(here)


def test_what_is_newer_there_is_a_conflict_where_that_is_asked(here: Path, there: Path) -> None:
    there.mkdir()
    (here / "a").write_text("old")
    os.utime(here / "a", (1, 1))
    (there / "a").write_text("newer")
    sink = move(here, there, replace(SYNC, keep_newer=True))
    assert [one.path for one in sink.tally.lists["conflicts"]] == ["a"]
    assert (there / "a").read_text() == "newer"


def test_links_are_kept_followed_or_skipped(here: Path, there: Path) -> None:
    (here / "folder").mkdir()
    (here / "folder" / "a").write_text("x")
    (here / "link").symlink_to("folder")
    (here / "dangling").symlink_to("/nowhere")
    (here / "folder" / "round").symlink_to("..")

    move(here, there / "keep")
    assert tree(there / "keep") == tree(here)
    move(here, there / "skip", replace(WISH, symlinks="skip"))
    assert sorted(tree(there / "skip")) == ["b'folder'", "b'folder/a'"]
    sink = move(here, there / "follow", replace(WISH, symlinks="follow"))
    assert (there / "follow" / "link" / "a").read_text() == "x"
    assert not (there / "follow" / "link").is_symlink()
    assert any("above" in one.reason for one in sink.tally.lists["skipped"])


def test_special_files_are_told_and_skipped(here: Path, there: Path) -> None:
    os.mkfifo(here / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(here / "socket"))
        (here / "a").write_text("x")
        sink = move(here, there)
    assert {one.path: one.reason for one in sink.tally.lists["skipped"]} == {
        "pipe": "a named pipe cannot be moved",
        "socket": "a socket cannot be moved",
    }
    assert os.listdir(there) == ["a"]


def test_patterns_and_sizes_leave_out(here: Path, there: Path) -> None:
    for name in ("a.py", "b.txt", "data/c.py", "data/deep/d.py", "cache/e.py", "large.py"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text("x" * (100 if name == "large.py" else 1))
    wish = replace(WISH, include=("*.py",), exclude=("cache/",), max_size=10)
    sink = move(here, there, wish)
    files = {str(one.relative_to(there)) for one in there.rglob("*") if one.is_file()}
    assert files == {"a.py", "data/c.py", "data/deep/d.py"}
    assert [one.path for one in sink.tally.lists["skipped"]] == ["large.py"]


def test_narrow_folders_arrive_with_what_is_in_them(here: Path, there: Path) -> None:
    (here / "narrow" / "below").mkdir(parents=True)
    (here / "narrow" / "below" / "a").write_text("x")
    os.chmod(here / "narrow" / "below", 0o500)
    os.chmod(here / "narrow", 0o500)
    move(here, there)
    assert tree(there) == tree(here)
    assert stat.S_IMODE((there / "narrow").stat().st_mode) == 0o500


def test_folders_keep_their_times(here: Path, there: Path) -> None:
    (here / "folder").mkdir()
    (here / "folder" / "a").write_text("x")
    os.utime(here / "folder", ns=(7, 7_000_000_000))
    move(here, there)
    assert (there / "folder").stat().st_mtime_ns == 7_000_000_000


def test_a_large_one_that_broke_off_is_gone_on_with(here: Path, there: Path) -> None:
    (here / "a").write_bytes(os.urandom(3 * LARGE))
    sender, sink = Source(str(here / "a"), WISH), Sink(str(there / "a"), WISH)
    while sender.tally.counts["bytes"] < 2 * LARGE:
        sink.receive(sender.produce())
        sender.receive(sink.produce())
    sender.close()
    sink.close()
    assert not (there / "a").exists()

    again = move(here / "a", there / "a")

    assert again.tally.counts["resumed"] >= LARGE
    assert again.tally.counts["bytes"] + again.tally.counts["resumed"] == 3 * LARGE
    assert (there / "a").read_bytes() == (here / "a").read_bytes()
    assert os.listdir(there) == ["a"]


def test_what_is_left_of_another_content_is_not_gone_on_with(here: Path, there: Path) -> None:
    (here / "a").write_bytes(os.urandom(2 * LARGE))
    sender, sink = Source(str(here / "a"), WISH), Sink(str(there / "a"), WISH)
    while sender.tally.counts["bytes"] < LARGE:
        sink.receive(sender.produce())
        sender.receive(sink.produce())
    sender.close()
    sink.close()
    (here / "a").write_bytes(os.urandom(2 * LARGE))

    assert move(here / "a", there / "a").tally.counts["resumed"] == 0
    assert (there / "a").read_bytes() == (here / "a").read_bytes()


@pytest.mark.parametrize("gives_up", [False, True])
def test_two_that_write_the_same_do_not_mix(here: Path, there: Path, gives_up: bool) -> None:
    for name in ("a", "b"):
        (here / name).write_bytes(name.encode() * 2 * LARGE)
    slow, sink = Source(str(here / "a"), WISH), Sink(str(there / "x"), WISH)
    while slow.tally.counts["bytes"] < LARGE:
        sink.receive(slow.produce())
        slow.receive(sink.produce())

    move(here / "b", there / "x")
    assert (there / "x").read_bytes() == (here / "b").read_bytes()
    if gives_up:  # what it has is of no use to anybody any more
        slow.close()
        sink.close()
        assert os.listdir(there) == ["x"]
        return
    converse(slow, sink)
    assert (there / "x").read_bytes() == (here / "a").read_bytes()
    assert os.listdir(there) == ["x"]


def test_a_file_that_changes_while_it_is_read_is_read_again(here: Path, there: Path) -> None:
    (here / "a").write_bytes(b"1" * LARGE)
    sender, sink = Source(str(here / "a"), WISH), Sink(str(there / "a"), WISH)
    while sender.tally.counts["bytes"] < LARGE // 2:
        sink.receive(sender.produce())
        sender.receive(sink.produce())
    (here / "a").write_bytes(b"2" * (LARGE + 5))
    converse(sender, sink)
    assert (there / "a").read_bytes() == b"2" * (LARGE + 5)


def test_one_that_never_stands_still_is_told_and_the_others_go_on(here: Path, there: Path) -> None:
    (here / "a").write_bytes(b"1" * LARGE)
    (here / "b").write_text("b")
    sender, sink = Source(str(here), WISH), Sink(str(there), WISH)
    for number in range(1000):
        if sender.is_over and sink.is_over:
            break
        os.utime(here / "a", (number, number))
        sink.receive(sender.produce())
        sender.receive(sink.produce())
    sender.close()
    sink.close()
    assert [one.reason for one in sink.tally.lists["failed"]] == ["it changes while it is read"]
    assert os.listdir(there) == ["b"]


def test_progress_counts_up_to_the_totals(here: Path, there: Path) -> None:
    for number in range(700):
        (here / str(number)).write_text(str(number))
    (here / "large").write_bytes(b"1" * LARGE)
    for _ in range(2):
        wish = replace(SYNC, totals=True)
        sender, sink = Source(str(here), wish), Sink(str(there), wish)
        converse(sender, sink)
        for end in (sender, sink):
            assert end.files_total == end.tally.files_done == 701
            assert end.bytes_total == end.tally.bytes_done


def test_a_tree_is_not_put_into_itself_for_ever(here: Path) -> None:
    (here / "a").write_text("x")
    (here / "sub").mkdir()
    sink = move(here, here / "sub" / "copy")
    assert [one.reason for one in sink.tally.lists["failed"]] in ([], ["this is where it is put"])
    assert sorted(tree(here / "sub" / "copy")) == ["b'a'", "b'sub'"]


def test_a_tree_may_be_deeper_than_a_stack(here: Path, there: Path) -> None:
    depth = 700
    for place in (here, there):
        place.mkdir(exist_ok=True)
    folder = os.open(here, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=folder)
        folder, above = os.open("d", os.O_RDONLY, dir_fd=folder), folder
        os.close(above)
    os.close(folder)
    sink = move(here, there)
    assert sink.tally.counts["folders"] == depth
    assert not sink.tally.failures


def test_several_at_once_into_one_folder_do_not_meet(here: Path, there: Path) -> None:
    (here / "a").write_bytes(b"a" * 5000)
    (here / "b").write_bytes(b"b" * 5000)
    pairs = [(Source(str(here / n), WISH), Sink(f"{there}/", WISH)) for n in "ab"]
    while not all(one.is_over and other.is_over for one, other in pairs):
        for one, other in pairs:
            other.receive(one.produce())
            one.receive(other.produce())
    assert tree(there) == tree(here)


def test_a_mode_that_nobody_knows_is_an_ordinary_one(
    here: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As from Windows, where everything would be writable for all."""
    (here / "a").write_text("x")
    os.chmod(here / "a", 0o666)
    with monkeypatch.context() as patch:
        patch.setattr(scan, "KEEPS_MODES", False)
        for _ in range(2):
            move(here, there, SYNC)
    assert stat.S_IMODE((there / "a").stat().st_mode) == 0o644
