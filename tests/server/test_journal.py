from __future__ import annotations

import logging
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from smartsim_bridge.protocol.messages import ENDED, FAILED, RUNNING, UNKNOWN, WAITING
from smartsim_bridge.server import journal as room
from smartsim_bridge.server.journal import STORED, Journal
from tests.support.footprint import own_descriptors

SECONDS = 60.0  # for a child process to say something


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "login1.jsonl"


def begin(journal: Journal, command: str, session: str = "s", number: int = 1) -> None:
    journal.begin(command, session, number, ("sbatch", "job.sh"), True)


def end(journal: Journal, command: str, stdout: bytes | None = b"") -> None:
    journal.ended(command, 0, None, False, stdout, b"")


def states(journal: Journal) -> dict[str, str]:
    return {record.command: record.state for record in journal.records()}


def reopened(journal: Journal, path: Path) -> Journal:
    journal.close()
    return Journal(str(path))


# --- what is remembered


def test_life_of_a_command_is_known_to_the_next_server(path: Path) -> None:
    journal = Journal(str(path))
    record = journal.begin("c", "s", 7, ("sbatch", "job.sh"), True)
    assert (record.state, record.is_live, record.asked > 0) == (WAITING, True, True)
    journal.started("c", 42, 4711)
    assert (record.state, record.is_live) == (RUNNING, True)
    journal.ended("c", None, 9, True, b"Submitted \xff\n", b"")
    assert (record.state, record.is_live, record.ended >= record.asked) == (ENDED, False, True)
    later = reopened(journal, path)
    assert later.records() == [record]
    assert (record.pid, record.pid_start, record.code, record.signal) == (42, 4711, None, 9)
    assert (record.timed_out, record.stdout, record.stderr) == (True, b"Submitted \xff\n", b"")
    assert (later.knows("s"), later.highest("s"), later.why_not) == (True, 7, "")


def test_start_that_failed_is_known_to_the_next_server(path: Path) -> None:
    journal = Journal(str(path))
    begin(journal, "c")
    journal.failed("c", 2, "No such file or directory", "sbatsch")
    record = reopened(journal, path).record("c")
    assert record is not None
    assert (record.state, record.errno, record.filename) == (FAILED, 2, "sbatsch")
    assert record == journal.record("c")


def test_commands_of_a_dead_server_have_an_unknown_end(path: Path) -> None:
    journal = Journal(str(path))
    begin(journal, "waiting", number=1)
    begin(journal, "running", number=2)
    journal.started("running", 42, 4711)
    begin(journal, "ended", number=3)
    end(journal, "ended")
    later = reopened(journal, path)
    assert states(later) == {"waiting": UNKNOWN, "running": UNKNOWN, "ended": ENDED}
    record = later.record("running")
    assert record is not None
    assert (record.pid, record.pid_start) == (42, 4711)


def test_unknown_end_that_is_learnt_after_all_is_kept(path: Path) -> None:
    journal = Journal(str(path))
    begin(journal, "c")
    journal = reopened(journal, path)
    end(journal, "c", b"late")
    journal = reopened(journal, path)
    assert states(journal) == {"c": ENDED}


def test_session_is_known_from_the_first_meeting(path: Path) -> None:
    journal = Journal(str(path))
    assert (journal.knows("s"), journal.highest("s")) == (False, 0)
    journal.meet("s")
    begin(journal, "c", "t", number=3)
    journal.meet("t")
    begin(journal, "d", "t", number=2)
    for known in (journal, reopened(journal, path)):
        assert (known.knows("s"), known.highest("s")) == (True, 0)
        assert (known.knows("t"), known.highest("t")) == (True, 3)
        assert not known.knows("u")


def test_command_begun_twice_is_a_mistake_that_leaves_the_first(path: Path) -> None:
    journal = Journal(str(path))
    begin(journal, "c", "s", 1)
    end(journal, "c", b"one")
    with pytest.raises(ValueError, match="known already"):
        begin(journal, "c", "s", 2)
    assert reopened(journal, path).records() == journal.records()
    assert states(journal) == {"c": ENDED}


def test_news_of_a_command_that_was_dropped_are_nothing(path: Path) -> None:
    journal = Journal(str(path))
    journal.started("c", 1, 1)
    journal.failed("c", 1, "", "")
    end(journal, "c")
    journal.forget(["c"])
    assert journal.records() == reopened(journal, path).records() == []


# --- output


def test_output_is_kept_up_to_its_limit(path: Path) -> None:
    journal = Journal(str(path))
    for number, size in enumerate((STORED, STORED + 1)):
        begin(journal, str(size), number=number)
        journal.ended(str(size), 0, None, False, b"x" * size, None)
    later = reopened(journal, path)
    kept = [(record.stdout, record.stderr) for record in later.records()]
    assert kept == [(b"x" * STORED, None), (None, None)]


def test_forgotten_output_is_gone_and_the_command_stays_listed(path: Path) -> None:
    journal = Journal(str(path))
    for number, name in enumerate("abc"):
        begin(journal, name, number=number)
    end(journal, "a", b"of a")
    end(journal, "b", b"of b")
    journal.forget(["a", "c", "nobody's"])
    end(journal, "c", b"of c, late")
    for known in (journal, reopened(journal, path)):
        kept = {record.command: (record.is_forgotten, record.stdout) for record in known.records()}
        assert kept == {"a": (True, None), "b": (False, b"of b"), "c": (True, None)}


def test_what_is_forgotten_again_is_not_written_again(path: Path) -> None:
    journal = Journal(str(path))
    begin(journal, "c")
    end(journal, "c")
    journal.forget(["c"])
    size = path.stat().st_size
    journal.forget(["c"])
    assert path.stat().st_size == size


def test_too_much_output_in_all_drops_what_is_least_wanted(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "MAX_OUTPUT", 1000)
    journal = Journal(str(path))
    for number in range(12):
        begin(journal, str(number), number=number)
    for number in reversed(range(12)):  # the one asked for first ends last
        end(journal, str(number), b"x" * 100)
    for known in (journal, reopened(journal, path)):
        kept = [record.command for record in known.records() if record.stdout is not None]
        assert "0" in kept
        assert "11" not in kept
        assert 700 <= 100 * len(kept) <= 1000
        assert len(known.records()) == 12


def test_end_that_is_told_twice_counts_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MAX_OUTPUT", 1000)
    journal = Journal(str(path))
    begin(journal, "c", number=1)
    begin(journal, "other", number=2)
    end(journal, "other", b"x" * 100)
    for _ in range(20):
        end(journal, "c", b"x" * 100)
    assert [record.stdout for record in journal.records()] == [b"x" * 100] * 2


# --- what people type


def test_long_command_lines_are_cut(path: Path) -> None:
    journal = Journal(str(path))
    one = journal.begin("1", "s", 1, ["x" * 600], False).argv
    assert one == ("x" * 509 + "...",)
    many = journal.begin("2", "s", 2, ["a"] * 33, False).argv
    assert (len(many), many[0], many[-1]) == (32, "a", "...")
    all_of_it = ("a",) * 32
    assert journal.begin("3", "s", 3, list(all_of_it), False).argv == all_of_it
    wide = journal.begin("4", "s", 4, ["x" * 500] * 20, False).argv
    assert (sum(map(len, wide)) <= 1024 + 3, wide[-1]) == (True, "...")
    later = reopened(journal, path)
    assert [record.argv for record in later.records()] == [one, many, all_of_it, wide]


@pytest.mark.parametrize("word", ["\udc80\udcff", "a\nb\x00\x7f\x1b[2J", "\N{GRINNING FACE}", ""])
def test_odd_words_come_back_as_they_were(path: Path, word: str) -> None:
    journal = Journal(str(path))
    journal.begin(word, word, 1, [word, word], False)
    journal.failed(word, 2, word, word)
    later = reopened(journal, path)
    assert later.records() == journal.records()
    assert later.record(word) is not None
    assert later.knows(word)


# --- bounds


def test_too_many_records_drop_what_is_least_wanted(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "MAX_RECORDS", 16)
    journal = Journal(str(path))
    begin(journal, "runs on", number=1)
    journal.started("runs on", 1, 1)
    for number in range(16):
        begin(journal, str(number), number=number + 2)
        end(journal, str(number))
    journal.forget(["9"])
    begin(journal, "one more", number=20)
    assert len(journal.records()) == 18
    end(journal, "one more")
    left = [record.command for record in journal.records()]
    assert left == ["runs on", *(str(n) for n in range(2, 16) if n != 9), "one more"]
    assert states(journal)["runs on"] == RUNNING
    assert (journal.record("0"), journal.knows("s"), journal.highest("s")) == (None, True, 20)
    assert [record.command for record in reopened(journal, path).records()] == left


def test_too_many_unknown_ends_are_dropped(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MAX_RECORDS", 16)
    journal = Journal(str(path))
    for number in range(40):
        begin(journal, str(number), number=number)
    assert len(journal.records()) == 40
    later = reopened(journal, path)
    assert [record.command for record in later.records()] == [str(n) for n in range(26, 40)]
    assert later.highest("s") == 39


def test_too_many_sessions_drop_the_least_recently_used(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "MAX_SESSIONS", 16)
    journal = Journal(str(path))
    begin(journal, "runs on", "busy")
    for number in range(15):
        journal.meet(f"{number}")
    journal.meet("0")
    journal.meet("one more")
    gone = [name for name in map(str, range(15)) if not journal.knows(name)]
    assert gone == ["1", "2", "3"]
    assert all(map(journal.knows, ("busy", "0", "one more")))
    later = reopened(journal, path)
    assert gone == [name for name in map(str, range(15)) if not later.knows(name)]
    assert later.knows("busy")


def test_session_whose_output_was_just_taken_is_in_use(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "MAX_SESSIONS", 2)
    journal = Journal(str(path))
    begin(journal, "c", "first")
    end(journal, "c")
    journal.meet("second")
    journal.forget(["c"])
    journal.meet("third")
    assert [journal.knows(one) for one in ("first", "second", "third")] == [True, False, True]


def test_new_session_is_known_however_busy_all_others_are(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "MAX_SESSIONS", 4)
    journal = Journal(str(path))
    for number in range(6):
        begin(journal, str(number), f"busy {number}")
    journal.meet("new")
    assert journal.knows("new")
    assert all(journal.knows(f"busy {number}") for number in range(6))
    assert reopened(journal, path).knows("new")


def test_file_stays_bounded_and_loses_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MAX_BYTES", 20_000)
    monkeypatch.setattr(room, "MAX_RECORDS", 32)
    journal = Journal(str(path))
    descriptor, largest = journal.descriptor(), 0
    for number in range(1000):
        begin(journal, str(number), number=number)
        end(journal, str(number), b"x" * 100)
        journal.forget([str(number)])
        largest = max(largest, path.stat().st_size)
    assert 20_000 < largest < 41_000
    assert journal.descriptor() == descriptor
    for number in range(1000, 1100):
        begin(journal, str(number), number=number)
        end(journal, str(number))
        if path.stat().st_size > 20_000:
            break
    journal.tidy()
    assert path.stat().st_size < 10_000
    assert (reopened(journal, path).records(), journal.why_not) == (journal.records(), "")


def test_file_that_cannot_become_smaller_is_not_written_anew_each_time(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "MAX_BYTES", 2000)
    journal = Journal(str(path))
    replaced: list[int] = []
    monkeypatch.setattr(os, "fsync", replaced.append)
    for number in range(200):  # all of them wait
        begin(journal, str(number), number=number)
        journal.tidy()
    assert path.stat().st_size > 5 * 2000
    assert 1 <= len(replaced) <= 20  # two each time, for the directory as well
    assert len(reopened(journal, path).records()) == 200


# --- a disk that refuses


def refuse(*_: object) -> int:
    raise OSError(28, "No space left on device")


def test_failed_write_leaves_no_file_and_all_in_memory(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal(str(path))
    begin(journal, "1", number=1)
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(os, "write", refuse)
        begin(journal, "2", number=2)
        journal.started("2", 1, 1)
        journal.tidy()
        assert not path.exists()
        assert journal.why_not == f"{path}: No space left on device"
        assert journal.descriptor() is None
        assert len(caplog.records) == 1
        assert states(journal) == {"1": WAITING, "2": RUNNING}
        assert (journal.knows("s"), journal.highest("s")) == (True, 2)
    end(journal, "1")
    assert not path.exists()
    journal.tidy()
    assert (path.exists(), journal.why_not) == (True, "")
    begin(journal, "3", number=3)
    later = reopened(journal, path)
    assert states(later) == {"1": ENDED, "2": UNKNOWN, "3": UNKNOWN}


def test_short_write_counts_as_a_failed_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(str(path))
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, line: write(descriptor, line[:10]))
        begin(journal, "c")
    assert (journal.why_not != "", path.exists()) == (True, False)
    assert not reopened(journal, path).knows("s")


def test_file_that_cannot_be_removed_is_emptied(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(str(path))
    begin(journal, "c")
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", refuse)
        patch.setattr(os, "unlink", refuse)
        begin(journal, "d", number=2)
    assert path.read_bytes() == b""
    later = reopened(journal, path)
    assert (later.knows("s"), later.records(), later.why_not) == (False, [], "")


def test_file_that_could_be_neither_removed_nor_emptied_is_when_it_can(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(str(path))
    begin(journal, "c")
    with monkeypatch.context() as patch:
        for verb in ("write", "unlink", "ftruncate"):
            patch.setattr(os, verb, refuse)
        begin(journal, "d", number=2)
        assert b'"c"' in path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", refuse)
        journal.tidy()
    assert not path.exists()


def test_history_that_cannot_be_gone_on_with_is_not_believed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(str(path))
    begin(journal, "c")
    journal.close()
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", refuse)
        later = Journal(str(path))
    assert (later.knows("s"), later.records(), path.exists()) == (False, [], False)
    assert "No space left" in later.why_not
    begin(later, "d", number=2)
    later.tidy()
    assert states(reopened(later, path)) == {"d": UNKNOWN}


@pytest.mark.parametrize("where", ["file/j", "missing/j", "file"])
def test_place_that_cannot_be_written_leaves_all_in_memory(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").mkdir() if where == "file" else (tmp_path / "file").touch()
    (tmp_path / "file.broken").mkdir()  # nor can it be moved out of the way
    (tmp_path / "file.broken" / "full").touch()
    journal = Journal(str(tmp_path / where))
    assert str(tmp_path / where) in journal.why_not
    begin(journal, "c")
    journal.started("c", 1, 1)
    end(journal, "c", b"out")
    journal.tidy()
    record = journal.record("c")
    assert record is not None
    assert (record.state, record.stdout, journal.knows("s")) == (ENDED, b"out", True)
    assert journal.descriptor() is None
    journal.close()


def test_place_that_comes_back_is_used(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "j"
    journal = Journal(str(path))
    begin(journal, "c")
    path.parent.mkdir()
    journal.tidy()
    assert journal.why_not == ""
    assert states(reopened(journal, path)) == {"c": UNKNOWN}


@pytest.mark.parametrize("instead", ["nothing", "other", "link"])
def test_file_that_somebody_moved_is_written_anew(path: Path, instead: str) -> None:
    journal = Journal(str(path))
    begin(journal, "c")
    moved = path.rename(path.with_name("moved"))
    if instead == "other":
        path.write_bytes(moved.read_bytes())
    elif instead == "link":
        path.symlink_to(moved)
    journal.tidy()
    assert not path.is_symlink()
    begin(journal, "d", number=2)
    moved.unlink()
    assert states(reopened(journal, path)) == {"c": UNKNOWN, "d": UNKNOWN}


def test_disk_that_is_full_for_real_is_survived(path: Path) -> None:
    """A limit on the size of files: the kernel writes a part, then refuses."""
    script = f"""
import os, resource
from smartsim_bridge.server.journal import Journal
journal = Journal({str(path)!r})
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
number = 0
while not journal.why_not:
    number += 1
    journal.begin(str(number), "s", number, ("sbatch",), True)
print(number, journal.why_not, os.path.exists({str(path)!r}))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
journal.tidy()
print(journal.why_not)
"""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=SECONDS, check=True
    )
    first, second = done.stdout.splitlines()
    number, _, rest = first.partition(" ")
    assert int(number) > 5
    assert rest.endswith("False")
    assert second == ""
    assert len(Journal(str(path)).records()) == int(number)


# --- ends


def test_all_that_a_killed_server_did_is_there(path: Path) -> None:
    script = f"""
from smartsim_bridge.server.journal import Journal
journal = Journal({str(path)!r})
number = 0
while True:
    number += 1
    name = str(number)
    journal.begin(name, "s", number, ("sbatch",), True)
    journal.started(name, number, number)
    journal.ended(name, 0, None, False, name.encode(), b"")
    print(number, flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        lines = [server.stdout.readline() for _ in range(300)]
        server.kill()
        told = len(lines + server.stdout.readlines())
        assert server.wait(SECONDS) == -signal.SIGKILL
    journal = Journal(str(path))
    assert journal.highest("s") >= told >= 300
    assert len(journal.records()) == journal.highest("s")
    for record in journal.records()[:told]:
        assert (record.state, record.stdout) == (ENDED, record.command.encode())


def test_nothing_is_written_after_the_end(path: Path) -> None:
    journal = Journal(str(path))
    begin(journal, "c")
    journal.close()
    content = path.read_bytes()
    end(journal, "c")
    journal.tidy()
    assert (path.read_bytes(), journal.descriptor()) == (content, None)
    assert states(journal) == {"c": ENDED}


def test_no_descriptor_is_left_behind(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = own_descriptors()
    monkeypatch.setattr(room, "MAX_BYTES", 100)
    for _ in range(3):
        journal = Journal(str(path))
        for number in range(20):
            journal.begin(f"{os.urandom(8).hex()}", "s", number, ("sbatch",), True)
            journal.tidy()
        journal.close()
        path.write_bytes(b"rubbish\n")
    assert own_descriptors() == before
    assert sorted(os.listdir(path.parent)) == [path.name, f"{path.name}.broken"]
