"""What a process holds is found by looking at it."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from pathlib import Path

import pytest

from smartsim_bridge.demo.traces import Footprint, held_paths

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


def test_open_files_and_bound_sockets_are_found(tmp_path: Path) -> None:
    file = tmp_path / "open file"
    # The name of a unix socket is limited to about 100 bytes, and tmp_path is long.
    with tempfile.TemporaryDirectory() as short, socket.socket(socket.AF_UNIX) as listener:
        bound = Path(short) / "s"
        listener.bind(str(bound))
        with file.open("w"):
            held = held_paths(os.getpid())
    assert {file, bound} <= held


def test_closed_and_deleted_files_and_devices_are_not(tmp_path: Path) -> None:
    closed, deleted = tmp_path / "closed", tmp_path / "deleted"
    closed.touch()
    with deleted.open("w"), open(os.devnull):
        deleted.unlink()
        held = held_paths(os.getpid())
    assert not held & {closed, deleted, Path(os.devnull)}


def test_process_that_is_gone_holds_nothing() -> None:
    assert held_paths(2**31 - 1) == set()


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_footprint_tells_what_was_held_and_stays(temporary: Path) -> None:
    footprint = Footprint()
    new = temporary / "run"
    new.mkdir()
    with (new / "state").open("w"), (new / "log").open("w"):
        footprint.note(os.getpid())
    (new / "log").unlink()
    assert footprint.left() == [str(new / "state")]


def test_footprint_sweeps_the_empty_lock_and_the_directories_made_for_it(temporary: Path) -> None:
    footprint = Footprint()
    (temporary / "run" / "deep").mkdir(parents=True)
    with (temporary / "run" / "deep" / "server.lock").open("w"):
        footprint.note(os.getpid())
    assert footprint.left() == []
    assert list(temporary.iterdir()) == []


def test_footprint_spares_what_was_there_before(temporary: Path) -> None:
    (temporary / "shared").mkdir()
    with (temporary / "before").open("w"):
        footprint = Footprint()
        with (temporary / "shared" / "server.lock").open("w"):
            footprint.note(os.getpid())
    assert footprint.left() == []
    assert {path.name for path in temporary.iterdir()} == {"shared", "before"}


def test_footprint_spares_a_new_directory_that_others_use(temporary: Path) -> None:
    footprint = Footprint()
    (temporary / "run").mkdir()
    with (temporary / "run" / "server.lock").open("w"):
        footprint.note(os.getpid())
    (temporary / "run" / "of another").touch()
    assert footprint.left() == []
    assert [path.name for path in (temporary / "run").iterdir()] == ["of another"]
