from __future__ import annotations

import errno
import json
import logging
import os
import re
import stat
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from smartsim_bridge.protocol.messages import Start
from smartsim_bridge.server import audit
from smartsim_bridge.server.audit import MAX_ARGV, Audit, Caller

CALLER = Caller("0123456789abcdef", "unix socket", "0.1.0")
REQUEST = Start("c1", ("sbatch", "job.sh"), cwd="/home/me", env={"TOKEN": "canary"})


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()]


def begin(record: Audit, pid: int, request: Start = REQUEST) -> None:
    record.asked(CALLER, request)
    record.began(request.command, pid)


def test_command_is_told_at_its_start_and_at_its_end(tmp_path: Path) -> None:
    record = Audit(str(tmp_path / "audit"))
    record.asked(CALLER, REQUEST)
    assert not (tmp_path / "audit").exists()
    record.began("c1", pid=42)
    record.ended("c1", code=3, signal=None)
    began, ended = lines(tmp_path / "audit")
    for line in (began, ended):
        assert datetime.fromisoformat(line.pop("time")).tzinfo is not None
    assert began.pop("user")
    assert began == {
        "event": "start",
        "uid": os.getuid(),
        "session": "01234567",
        "peer": "unix socket",
        "client": "0.1.0",
        "command": "c1",
        "argv": ["sbatch", "job.sh"],
        "cwd": "/home/me",
        "pid": 42,
    }
    assert 0 <= ended.pop("seconds") < 60
    assert ended == {"event": "end", "command": "c1", "session": "01234567", "code": 3}


def test_seconds_are_those_of_the_run(tmp_path: Path) -> None:
    now = [100.0]
    record = Audit(str(tmp_path / "audit"), clock=lambda: now[0])
    record.asked(CALLER, REQUEST)
    now[0] += 5  # it waits for its turn
    record.began("c1", 42)
    now[0] += 1.23456
    record.ended("c1", 0, None)
    assert lines(tmp_path / "audit")[1]["seconds"] == 1.235


def test_end_by_a_signal_is_told_as_one(tmp_path: Path) -> None:
    record = Audit(str(tmp_path / "audit"))
    begin(record, 1)
    record.ended("c1", None, 9)
    ended = lines(tmp_path / "audit")[1]
    assert (ended["signal"], "code" in ended) == (9, False)


def test_what_does_not_run_is_told_with_its_reason(tmp_path: Path) -> None:
    record = Audit(str(tmp_path / "audit"))
    record.asked(CALLER, Start("c1", ("rm -rf /",), shell=True))
    record.failed("c1", errno.EPERM, "a shell line may run anything")
    (failed,) = lines(tmp_path / "audit")
    assert failed["event"] == "failed"
    assert (failed["errno"], failed["why"]) == (errno.EPERM, "a shell line may run anything")
    assert (failed["argv"], failed["shell"]) == (["rm -rf /"], True)
    assert "pid" not in failed


def test_nothing_is_told_twice_and_nothing_is_kept_of_what_is_over(tmp_path: Path) -> None:
    record = Audit(str(tmp_path / "audit"))
    for number in range(3):
        begin(record, number)
        record.ended("c1", 0, None)
        record.ended("c1", 0, None)
        record.failed("c1", errno.EPERM, "no")
    record.began("never asked", 7)
    assert [line["event"] for line in lines(tmp_path / "audit")] == ["start", "end"] * 3
    assert not record._callers
    assert not record._began


def test_without_a_path_nothing_is_kept_or_written(tmp_path: Path) -> None:
    record = Audit(None)
    begin(record, 1)
    record.ended("c1", 0, None)
    record.asked(CALLER, REQUEST)
    record.failed("c1", errno.EPERM, "no")
    record.close()
    assert not record._callers
    assert list(tmp_path.iterdir()) == []


def test_environment_and_whole_session_are_never_recorded(tmp_path: Path) -> None:
    record = Audit(str(tmp_path / "audit"))
    begin(record, 42)
    record.ended("c1", 0, None)
    record.asked(CALLER, REQUEST)
    record.failed("c1", errno.EPERM, "no")
    text = (tmp_path / "audit").read_text()
    assert "canary" not in text
    assert "TOKEN" not in text
    assert CALLER.session not in text


def test_what_clients_send_cannot_forge_a_line_or_drive_a_terminal(tmp_path: Path) -> None:
    bad = '\x1b]0;title\x07\n{"event": "end"}\r\x7f\u2028\u202e\x9b\udcff"'
    record = Audit(str(tmp_path / "audit"))
    record.asked(Caller(bad, bad, bad), Start(bad, (bad, bad), cwd=bad))
    record.began(bad, 1)
    text = (tmp_path / "audit").read_text(encoding="ascii")
    assert len(text.splitlines()) == 1
    assert text.rstrip("\n").isprintable()
    assert json.loads(text)["argv"] == [bad, bad]


def test_endless_arguments_are_cut_and_counted(tmp_path: Path) -> None:
    record = Audit(str(tmp_path / "audit"))
    begin(record, 1, Start("c", ("echo", "x" * MAX_ARGV, "y" * 1000)))
    begin(record, 1, Start("c", ("x" * (MAX_ARGV - 1), "y")))
    cut, whole = (line["argv"] for line in lines(tmp_path / "audit"))
    assert [len(word) for word in cut[:2]] == [4, MAX_ARGV - 4]
    assert cut[2:] == ["... 1004 more characters"]
    assert whole == ["x" * (MAX_ARGV - 1), "y"]


@pytest.mark.parametrize("mask", [0o000, 0o022])
def test_audit_is_private_and_rotated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mask: int
) -> None:
    monkeypatch.setattr(audit, "MAX_BYTES", 2000)
    before = os.umask(mask)
    try:
        record = Audit(str(tmp_path / "audit"))
        for number in range(200):
            begin(record, number)
    finally:
        os.umask(before)
    files = sorted(tmp_path.iterdir())
    assert [path.name for path in files] == ["audit", *(f"audit.{n}" for n in (1, 2, 3, 4))]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert all(path.stat().st_size <= 2000 for path in files)
    pids = [line["pid"] for path in [*files[:0:-1], files[0]] for line in lines(path)]
    assert pids == list(range(pids[0], 200))


def test_link_in_place_of_the_audit_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "audit").symlink_to(tmp_path / "target")
    begin(Audit(str(tmp_path / "audit")), 1)
    assert not (tmp_path / "target").exists()


def test_next_server_goes_on_in_the_same_file(tmp_path: Path) -> None:
    for number in (1, 2):
        record = Audit(str(tmp_path / "audit"))
        begin(record, number)
        record.close()
    assert [line["pid"] for line in lines(tmp_path / "audit")] == [1, 2]


def test_what_cannot_be_written_is_warned_of_once_and_counted_afterwards(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "gone"
    record = Audit(str(directory / "audit"))
    with caplog.at_level(logging.INFO):
        for number in range(3):
            begin(record, number)
        assert [one.levelname for one in caplog.records] == ["WARNING"]
        directory.mkdir()
        begin(record, 3)
        begin(record, 4)
    missed, *began = lines(directory / "audit")
    assert (missed["event"], missed["lines"]) == ("missed", 3)
    assert datetime.fromisoformat(missed["since"]) <= datetime.fromisoformat(missed["time"])
    assert [line["pid"] for line in began] == [3, 4]
    assert [one.levelname for one in caplog.records] == ["WARNING", "INFO"]
    assert re.search(r"3 lines were missed", caplog.text)


def test_second_outage_is_warned_of_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    record = Audit(str(tmp_path / "audit"))
    for _ in range(2):
        (tmp_path / "audit").unlink(missing_ok=True)
        (tmp_path / "audit").mkdir()
        begin(record, 1)
        (tmp_path / "audit").rmdir()
        begin(record, 2)
        assert [line["event"] for line in lines(tmp_path / "audit")] == ["missed", "start"]
    assert [one.levelname for one in caplog.records].count("WARNING") == 2
