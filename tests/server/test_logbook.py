from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from smartsim_bridge.server import logbook
from smartsim_bridge.server.logbook import open_logbook


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


def test_what_clients_send_cannot_drive_a_terminal(tmp_path: Path) -> None:
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
