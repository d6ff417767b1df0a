"""What a process holds is found by looking at it."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from pathlib import Path

import pytest

from smartsim_bridge.demo.traces import held_paths

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
