"""What one program hands to the next, piece by piece, and what it asks before."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from smartsim_bridge.errors import ServerStartFailed
from smartsim_bridge.protocol.messages import STDOUT, Start
from smartsim_bridge.server import handover, succession
from smartsim_bridge.server.adopted import Adopted, Child
from smartsim_bridge.server.backlog import Backlog
from smartsim_bridge.server.beacon_file import Lock
from smartsim_bridge.server.commands import MAX_WAITING_BYTES, Command
from smartsim_bridge.server.exits import ExitWatch
from smartsim_bridge.server.journal import Journal
from smartsim_bridge.server.processes import Process
from smartsim_bridge.server.spool import OWN_MEMORY, Spool
from smartsim_bridge.server.surroundings import Surroundings
from tests.server.talks import in_session
from tests.support.far_halves import write_far_half
from tests.support.footprint import own_descriptors
from tests.support.loops import run
from tests.support.waiting import wait_until_async


def handed(records: list[dict[str, Any]], directory: Path) -> handover.Past:
    descriptor, kept = handover.written(str(directory), lambda carry: iter(records))
    assert kept == [descriptor]
    return handover.read(descriptor)


# --- the file


def test_records_come_back_as_they_were_bytes_included(tmp_path: Path) -> None:
    first = {"text": "\udcff \n", "none": None, "bytes": b"\0\xff" * 5000, "list": [b"", b"a", 1.5]}
    rest = [{"number": 2**63, "deep": {"er": [{"a": bytearray(b"x")}]}}, {}]
    past = handed([first, *rest], tmp_path)
    assert past.server == first
    assert past.commands == rest


def test_without_files_in_memory_it_has_no_name_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "memfd_create")
    assert handed([{"a": b"b"}], tmp_path).server == {"a": b"b"}
    assert list(tmp_path.iterdir()) == []


def test_nothing_of_it_survives_unless_it_is_said_so(tmp_path: Path) -> None:
    descriptor, kept = handover.written(str(tmp_path), lambda carry: iter([{"lock": carry(0)}]))
    try:
        assert kept == [descriptor, 0]
        assert not os.get_inheritable(descriptor)
    finally:
        os.close(descriptor)


def test_what_cannot_be_written_leaves_no_descriptor(tmp_path: Path) -> None:
    def tell(_: object) -> Iterator[dict[str, Any]]:
        yield {"a": object()}

    before = own_descriptors()
    with pytest.raises(TypeError, match="object cannot be handed over"):
        handover.written(str(tmp_path), tell)
    assert own_descriptors() == before


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda whole: b"", "another way"),
        (lambda whole: whole.replace(b"handover 2", b"handover 9", 1), "another way"),
        (lambda whole: whole[:-1], "its end is missing"),
    ],
    ids=["empty", "format", "torn"],
)
def test_anything_else_is_refused(change: Any, why: str, tmp_path: Path) -> None:
    descriptor, _ = handover.written(str(tmp_path), lambda carry: iter([{"a": b"whole"}]))
    whole = os.pread(descriptor, 10_000, 0)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, change(whole), 0)
    with pytest.raises(ValueError, match=why):
        handover.read(descriptor)


def test_what_a_server_wrote_that_knew_no_shared_processes_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handover, "FORMAT", 1)
    assert handed([{"a": b"whole"}], tmp_path).server == {"a": b"whole"}


# --- its pieces


def test_an_adopted_child_tells_how_it_ended() -> None:
    for words, expected in ((["sh", "-c", "exit 7"], 7), (["sh", "-c", "kill -9 $$"], -9)):
        child = Adopted(os.posix_spawnp("sh", words, os.environ))
        assert child.wait() == expected
        assert (child.poll(), child.returncode) == (expected, expected)
    running = Adopted(os.posix_spawnp("cat", ["cat", "/dev/zero"], os.environ))
    try:
        assert running.poll() is None
    finally:
        os.kill(running.pid, 9)
    assert running.wait() == -9


class Noting:
    """Remembers what its process did (processes.Owner)."""

    def __init__(self) -> None:
        self.out = bytearray()
        self.written = 0
        self.is_over = False

    def room(self, stream: int) -> int:
        return 1 << 20

    def output(self, stream: int, data: bytes, eof: bool) -> None:
        self.out += data

    def input_written(self, count: int, broken: bool) -> None:
        self.written += count

    def exited(self) -> None:
        pass

    def drained(self) -> None:
        self.is_over = True


def test_a_process_is_taken_over_with_its_pipes_and_unwritten_input(tmp_path: Path) -> None:
    data = os.urandom(300_000)
    go = tmp_path / "go"

    async def hand_over() -> None:
        watch, before, after = ExitWatch(), Noting(), Noting()
        words = ["sh", "-c", f"while [ ! -e {go} ]; do sleep 0.02; done; cat; exit 3"]
        process = Process(
            words,
            before,
            watch,
            cwd="/",
            environment={b"PATH": b"/usr/bin:/bin"},
            stdin="pipe",
            stdout="pipe",
            stderr="null",
        )
        process.write(data)
        process.end_input()
        copies: list[int] = []

        def carry(descriptor: int) -> int:
            copies.append(os.dup(descriptor))
            return copies[-1]

        told = json.loads(json.dumps({**process.hand_over(carry), "input": None}))
        told["input"] = process.hand_over(carry)["input"]
        for unused in copies[2:]:
            os.close(unused)
        # The first one must neither read nor write any more, nor reap.
        loop = asyncio.get_running_loop()
        loop.remove_writer(process._stdin.fileno())  # type: ignore[union-attr]
        process._stdin.close()  # type: ignore[union-attr]
        process._outputs[STDOUT].close()
        loop.remove_reader(copies[1])
        second = Process.take_over(told, after, ExitWatch())
        assert not any(map(os.get_inheritable, copies[:2]))
        go.touch()
        await wait_until_async(lambda: after.is_over, 30)
        assert after.out == data
        assert before.written + after.written == len(data)
        assert second.returncode == 3
        assert not before.out

    run(hand_over())


def test_kept_bytes_are_taken_over_from_files_and_memory(tmp_path: Path) -> None:
    first = Spool(str(tmp_path / "spool"))
    kept = first.keep("a" * 32, STDOUT)
    data = os.urandom(3 * OWN_MEMORY)
    for at in range(0, len(data), 50_000):
        kept.append(data[at : at + 50_000])
    kept.drop_below(1000)
    assert first.on_disk > 0
    assert first.in_memory > 0
    past = handed([{"spool": first.hand_over(), "kept": kept.hand_over()}], tmp_path).server
    second = Spool(str(tmp_path / "spool"))
    second.take_over(past["spool"])
    again = second.keep("a" * 32, STDOUT)
    again.take_over(past["kept"])
    assert (second.in_memory, second.on_disk) == (first.in_memory, first.on_disk)
    again.append(b"and more")
    read = b""
    begin = again.base
    while begin + len(read) < again.end:
        read += again.read(begin + len(read), 100_000)
    assert read == (data + b"and more")[begin:]
    again.close()
    assert (second.in_memory, second.on_disk) == (0, 0)
    assert list((tmp_path / "spool").iterdir()) == []


def test_a_journal_in_memory_only_is_taken_over_too(tmp_path: Path) -> None:
    first = Journal(str(tmp_path / "absent" / "journal"))
    assert first.why_not
    first.begin("c1", "s1", 5, ["true"], False)
    first.started("c1", 7, 8)
    first.begin("c2", "s1", 6, ["true"], False)
    first.ended("c2", 0, None, False, b"out", b"\xff")
    past = handed([{"journal": first.hand_over()}], tmp_path).server["journal"]
    second = Journal(str(tmp_path / "journal"), past)
    assert second.records() == first.records()
    assert [one.state for one in second.records()] == ["running", "ended"]
    assert second.highest("s1") == 6
    second.close()
    # On disk from now on; for the server after a crash the first one is unknown.
    assert [one.state for one in Journal(str(tmp_path / "journal")).records()] == [
        "unknown",
        "ended",
    ]


def test_a_lock_that_was_taken_over_is_held(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    first, second, other = Lock(path), Lock(path), Lock(path)
    assert first.take()
    second.take_over(os.dup(first.hand_over()))
    os.close(first.hand_over())
    assert not other.take()
    second.release()
    assert other.take()
    other.release()


def test_a_paused_backlog_starts_nothing_and_hands_over_in_order() -> None:
    class Waiting:
        def __init__(self) -> None:
            self.has_started = False

        def start(self) -> None:
            self.has_started = True

        def terminate(self, grace: float) -> None:
            pass

        def kill(self) -> None:
            pass

    first, second = Backlog(2), Backlog(2)
    commands = [Waiting() for _ in range(5)]
    owners = ["a", "a", "b", "a", "b"]
    first.admit(commands[0], "a")
    first.pause()
    for command, owner in zip(commands[1:], owners[1:]):
        first.admit(command, owner)
    assert [one.has_started for one in commands] == [True, False, False, False, False]
    running, waiting = first.hand_over()
    assert running == commands[:1]
    assert waiting == [commands[1], commands[3], commands[2], commands[4]]
    second.pause()
    second.adopt(commands[0], "a")
    for one in waiting:
        second.admit(one, owners[commands.index(one)])  # type: ignore[arg-type]
    assert (second.running, second.waiting) == (1, 4)
    second.go_on()
    assert [one.has_started for one in commands] == [True, True, False, False, False]
    second.leave(commands[0])
    assert [one.has_started for one in commands] == [True, True, True, False, False]


def test_a_command_that_waits_keeps_its_input_and_its_place_in_the_sum(tmp_path: Path) -> None:
    async def hand_over() -> None:
        async with in_session(limit=1) as (talk, session, backlog):
            talk.start("1" * 32, "sleep", "600")
            talk.start("2" * 32, "cat", stdin="pipe")
            talk.feed("2" * 32, b"early", eof=True)
            await wait_until_async(lambda: backlog.waiting == 1 and len(session.commands) == 2)
            command = next(one for one in session.commands if one.id == "2" * 32)
            await wait_until_async(lambda: command._inlet.early == b"early")
            past = handed([command.hand_over(lambda _: 0)], tmp_path).server
            shared = command._surroundings
            fresh = Surroundings(
                {}, shared.watch, "/", shared.journal, shared.spool, shared.descriptor_limit
            )
            again = Command.take_over(past, fresh, lambda _: None)
            assert (again.id, again.owner, again.request) == (
                command.id,
                session.id,
                Start("2" * 32, ("cat",)),
            )
            assert again.follower is None
            assert again._inlet.early == b"early"
            assert 0 < fresh.waiting_bytes == len(b"early") < MAX_WAITING_BYTES

    run(hand_over())


# --- asking before


async def ask(path: Path | str, python: str = sys.executable, *, needs_zmq: bool = False) -> str:
    return await succession.check(python, str(path), ExitWatch(), needs_zmq=needs_zmq)


def test_a_far_half_says_what_it_is(tmp_path: Path) -> None:
    far = write_far_half(tmp_path / "far" / "x.pyz", "7.0")
    assert run(ask(far, needs_zmq=True)) == "7.0"
    words = [sys.executable, str(far), "check"]
    said = subprocess.run(words, capture_output=True, timeout=60, check=True).stdout
    assert json.loads(said)["handover"] == [handover.OLDEST_FORMAT, handover.FORMAT]


def test_one_that_does_not_answer_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(succession, "CHECK_SECONDS", 0.3)
    far = write_far_half(tmp_path / "far" / "x.pyz")
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexec sleep 600\n")
    python.chmod(0o700)
    pids: list[int] = []

    class Noticing(ExitWatch):
        def watch(self, child: Child, on_exit: Callable[[], None]) -> None:
            pids.append(child.pid)
            super().watch(child, on_exit)

    async def wait() -> None:
        with pytest.raises(ServerStartFailed, match=r"has not answered in 0\.3 s"):
            await succession.check(str(python), str(far), Noticing(), needs_zmq=False)
        (pid,) = pids  # it may have had no time to say it itself
        await wait_until_async(lambda: not Path(f"/proc/{pid}").exists())

    run(wait())


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("", "it says nothing"),
        ("hello", "does not say what it is: hello"),
        ("[]", "does not say what it is"),
        ('{"version": "2"}', "does not say what it is"),
        ('{"version": "2", "handover": [3, 4], "zmq": ""}', "version 2 cannot take over"),
        ('{"version": "2", "handover": [1, 3], "zmq": ""}', "no pyzmq that works"),
    ],
)
def test_what_it_says_must_fit(said: str, why: str, tmp_path: Path) -> None:
    far = write_far_half(tmp_path / "far" / "x.pyz")
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho noise\necho '{said}'\n" if said else "#!/bin/sh\n")
    python.chmod(0o700)
    with pytest.raises(ServerStartFailed, match=why):
        run(ask(far, str(python), needs_zmq=True))


def test_a_relative_path_and_a_python_that_is_not_there_are_refused(tmp_path: Path) -> None:
    far = write_far_half(tmp_path / "far" / "x.pyz")
    with pytest.raises(ServerStartFailed, match="not absolute"):
        run(ask("far/x.pyz"))
    with pytest.raises(ServerStartFailed, match="No such file"):
        run(ask(far, str(tmp_path / "nothing")))


def test_an_exec_that_fails_leaves_descriptors_as_they_were(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    try:
        with pytest.raises(FileNotFoundError):
            succession.execute(str(tmp_path / "nothing"), [], [reader, writer])
        assert not os.get_inheritable(reader)
        assert not os.get_inheritable(writer)
    finally:
        os.close(reader)
        os.close(writer)
