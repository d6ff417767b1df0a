"""put, get and sync through a bridge, against a server on this host."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from smartsim_bridge import AsyncBridge, Bridge, FilesReport, Progress
from smartsim_bridge.errors import RequestRefused, TransferIncomplete
from smartsim_bridge.files.report import Left, SyncReport
from tests.files.ends import tree
from tests.support.local_server import LocalServer
from tests.support.waiting import wait_until


@pytest.fixture
def here(tmp_path: Path) -> Path:
    folder = tmp_path / "here"
    (folder / "sub").mkdir(parents=True)
    (folder / "a").write_text("a")
    (folder / "sub" / "b").write_text("b")
    return folder


@pytest.fixture
def there(tmp_path: Path) -> Path:
    return tmp_path / "there"


def test_a_tree_goes_up_and_comes_back(bridge: Bridge, here: Path, tmp_path: Path) -> None:
    report = bridge.put(here, tmp_path / "there")
    assert (report.files, report.folders, report.bytes) == (2, 1, 2)
    assert report.target == str(tmp_path / "there")
    assert sorted(report.moved) == ["a", "sub/b"]
    assert bridge.get(tmp_path / "there", tmp_path / "back").source == str(tmp_path / "there")
    assert tree(tmp_path / "back") == tree(here)


def test_relative_is_relative_to_the_home_there(bridge: Bridge, here: Path) -> None:
    home = bridge.run(["sh", "-c", "cd; pwd"]).stdout.strip()
    name = f"put-{os.getpid()}"
    try:
        assert bridge.put(here / "a", name).target == f"{home}/{name}"
        assert bridge.put(here / "a", f"~/{name}").target == f"{home}/{name}"
        assert bridge.get(name, f"{here}/got/").target == f"{here}/got/{name}"
    finally:
        Path(home, name).unlink()


def test_what_is_not_there_is_what_open_would_raise(bridge: Bridge, here: Path) -> None:
    with pytest.raises(FileNotFoundError, match=":/nowhere/x"):
        bridge.get("/nowhere/x", here)
    with pytest.raises(FileNotFoundError):
        bridge.put(here / "missing", "x")
    with pytest.raises((PermissionError, NotADirectoryError, FileNotFoundError, OSError)):
        bridge.put(here / "a", "/proc/nowhere/x")
    assert bridge.run(["true"]).returncode == 0


def test_what_cannot_be_moved_is_told_at_the_end(bridge: Bridge, here: Path, there: Path) -> None:
    (there / "a").mkdir(parents=True)
    with pytest.raises(TransferIncomplete, match=r"Not moved: a .a folder is there") as raised:
        bridge.put(here, there)
    report = raised.value.report
    assert isinstance(report, FilesReport)
    assert [one.path for one in report.failed] == ["a"]
    assert (there / "sub" / "b").read_text() == "b"


def test_words_that_mean_nothing_are_refused(bridge: Bridge, here: Path) -> None:
    with pytest.raises(ValueError, match="symlinks="):
        bridge.put(here, "x", symlinks="hard")
    with pytest.raises(ValueError, match="direction="):
        bridge.sync(here, "x", direction="sideways")
    with pytest.raises(TypeError, match="a list of patterns"):
        bridge.put(here, "x", exclude="*.py")


def test_progress_is_told_in_the_thread_of_the_caller(
    bridge: Bridge, here: Path, there: Path
) -> None:
    told: list[tuple[Progress, threading.Thread]] = []
    bridge.put(here, there, progress=lambda one: told.append((one, threading.current_thread())))
    last, thread = told[-1]
    assert thread is threading.current_thread()
    assert (last.files, last.files_total, last.is_over) == (2, 2, True)
    assert (last.bytes, last.bytes_total) == (2, 2)


def test_a_listener_that_fails_ends_the_transfer(bridge: Bridge, here: Path, there: Path) -> None:
    def fail(progress: Progress) -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        bridge.put(here, there, progress=fail)
    wait_until(lambda: not _far_ends(bridge))


def _far_ends(bridge: Bridge) -> list[str]:
    return [
        one.id for one in bridge.commands() if one.argv[0] == "files" and one.state == "running"
    ]


def test_an_interrupted_call_ends_the_far_end_and_can_be_gone_on_with(
    bridge: Bridge, here: Path, there: Path
) -> None:
    with open(here / "large", "wb") as file:
        file.truncate(300 * 1024 * 1024)

    def interrupt(progress: Progress) -> None:
        if progress.bytes > 20_000_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bridge.put(here / "large", there / "large", progress=interrupt)
    wait_until(lambda: not _far_ends(bridge))
    assert not (there / "large").exists()

    report = bridge.put(here / "large", there / "large")
    assert report.resumed > 0
    assert os.listdir(there) == ["large"]


def test_both_ways_moves_what_changed_on_either_side(
    bridge: Bridge, here: Path, there: Path
) -> None:
    def sync() -> SyncReport:
        return bridge.sync(here, there, direction="both")

    assert sync().up.files == 2
    assert tree(there) == tree(here)
    assert sync().files == 0

    (here / "a").write_text("changed here")
    (there / "sub" / "b").write_text("changed there")
    (there / "new").write_text("n")
    report = sync()
    assert (report.up.moved, set(report.down.moved)) == (("a",), {"sub/b", "new"})
    assert tree(there) == tree(here)

    (here / "a").write_text("one")
    (there / "a").write_text("another")
    for _ in range(2):
        assert sync().conflicts == (Left("a", "changed on both sides"),)
    assert ((here / "a").read_text(), (there / "a").read_text()) == ("one", "another")

    (there / "a").write_text("one")
    assert not sync().conflicts
    assert tree(there) == tree(here)


def test_both_ways_removes_only_where_that_is_asked(
    bridge: Bridge, here: Path, there: Path
) -> None:
    def sync(*, delete: bool) -> SyncReport:
        return bridge.sync(here, there, direction="both", delete=delete)

    sync(delete=True)
    (here / "a").unlink()
    (there / "sub" / "b").unlink()
    (there / "sub").rmdir()
    assert sync(delete=False).files == 0
    assert (there / "a").exists()
    assert (here / "sub" / "b").exists()

    report = sync(delete=True)
    assert (report.up.deleted, report.down.deleted) == (("a",), ("sub/b", "sub"))
    assert tree(here) == tree(there) == {}


def test_a_folder_that_is_gone_is_not_a_folder_that_was_emptied(
    bridge: Bridge, here: Path, there: Path
) -> None:
    bridge.sync(here, there, direction="both", delete=True)
    os.rename(there, f"{there}-away")
    assert bridge.sync(here, there, direction="both", delete=True).up.files == 2
    assert tree(there) == tree(here)


def test_the_async_face_does_the_same(server: LocalServer, here: Path, there: Path) -> None:
    async def do() -> list[Progress]:
        told: list[Progress] = []
        async with await AsyncBridge.connect() as bridge:
            await bridge.put(here, there, progress=told.append)
            assert (await bridge.sync(here, there)).up.unchanged == 2
            await asyncio.gather(*(bridge.get(there, here.parent / str(n)) for n in range(3)))
        return told

    assert asyncio.run(do())[-1].is_over
    assert tree(here.parent / "2") == tree(here)


def test_an_old_server_is_told_to_be_brought_up_to_date(
    bridge: Bridge, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    welcome = bridge.core._session.talk.welcome
    object.__setattr__(welcome, "programs", ())
    try:
        with pytest.raises(RequestRefused, match="replace_server"):
            bridge.put(here, "x")
    finally:
        object.__setattr__(welcome, "programs", ("files",))
