"""Shims as programs use them: from a subprocess.run here to the head's program and back.

The head is a server on this host, whose scheduler nobody but its commands finds.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from smartsim_bridge import AsyncBridge, Bridge
from smartsim_bridge.client.command import AsyncCommand
from smartsim_bridge.client.listing import CommandInfo
from smartsim_bridge.errors import AuthenticationRequired, LinkLost
from smartsim_bridge.protocol.messages import Start
from smartsim_bridge.shims import guest, reception, wire
from smartsim_bridge.shims.families import SCHEDULER_COMMANDS
from tests.shims.conftest import Session
from tests.support.local_server import LocalServer, MakeLocalServer
from tests.support.users import User
from tests.support.waiting import wait_until

SECONDS = 60.0
MB = 1024 * 1024
LIMIT = 6.0  # less than three heartbeats


def run(*words: str, **keywords: object) -> subprocess.CompletedProcess[bytes]:
    settled = {"capture_output": True, "timeout": SECONDS, **keywords}
    return subprocess.run(words, check=False, **settled)  # type: ignore[call-overload,no-any-return]


class Shim(subprocess.Popen[bytes]):
    """One that a test which fails does not wait for."""

    def __exit__(self, kind: type[BaseException] | None, *about: Any) -> None:
        if kind is not None:
            self.kill()
        super().__exit__(kind, *about)


def start(*words: str) -> Shim:
    return Shim(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def socket_path() -> str:
    return os.environ[wire.SOCKET_VARIABLE]


# --- what a caller sees


def test_a_command_of_the_head_runs_there(session: Session) -> None:
    bridge = session()
    done = run("squeue", "--me", "two words")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"JOBID --me two words\n", b"")
    assert {"squeue", "sbatch", "srun", "sacct"} <= set(bridge.status().shims)


def test_both_outputs_may_be_more_than_the_shim_takes_at_once(session: Session) -> None:
    session()
    size = 4 * 1024 * 1024
    done = run("srun", "sh", "-c", f"head -c {size} /dev/zero & head -c {size} /dev/zero >&2; wait")
    assert (done.returncode, len(done.stdout), len(done.stderr)) == (0, size, size)


def test_bytes_pass_both_ways_and_the_exit_status(session: Session) -> None:
    session()
    data = bytes(range(256)) * 8192
    done = run("srun", "-n1", "sh", "-c", "cat; echo no >&2; exit 3", input=data)
    assert (done.returncode, done.stdout == data, done.stderr) == (3, True, b"no\n")


def test_an_end_by_a_signal_is_one_here(session: Session) -> None:
    session()
    assert run("srun", "sh", "-c", "kill -9 $$").returncode == -signal.SIGKILL


def test_output_comes_while_the_command_runs(session: Session) -> None:
    session()
    with start("srun", "sh", "-c", "echo first; read line; echo $line") as shim:
        assert shim.stdout is not None
        assert shim.stdin is not None
        assert shim.stdout.readline() == b"first\n"
        shim.stdin.write(b"second\n")
        shim.stdin.close()
        assert shim.stdout.read() == b"second\n"


def test_sbatch_of_a_file_leaves_the_callers_input_alone(session: Session, tmp_path: Path) -> None:
    session()
    (tmp_path / "job.sh").write_text("#!/bin/sh\n", "ascii")
    loop = 'while read line; do sbatch job.sh | grep -c args; echo "$line"; done'
    done = run("sh", "-c", loop, input=b"1\n2\n", cwd=tmp_path)
    assert done.stdout == b"1\n1\n1\n2\n"


def test_a_command_that_the_head_lacks_is_not_found(session: Session) -> None:
    session()
    folder = shutil.which("squeue")
    assert folder is not None
    shim = Path(folder).with_name("bsub")
    assert not shim.exists()
    assert shutil.which("mpirun") is None or "shims" not in str(shutil.which("mpirun"))


def test_calling_what_the_head_lacks_is_plainly_not_found(session: Session) -> None:
    bridge = session()
    lacking = sorted(SCHEDULER_COMMANDS - set(bridge.status().shims))
    assert "bsub" in lacking  # no machine of tests has LSF
    for name in (*lacking, "mpirun"):
        if shutil.which(name) is None:  # nor has this host itself
            with pytest.raises(FileNotFoundError) as found:
                run(name)
            assert found.value.filename == name
    done = run("sh", "-c", "bsub")
    assert (done.returncode, b"smartsim-bridge" in done.stderr) == (127, False)


def test_no_limit_of_ours_is_one_for_a_command_that_waits(
    session: Session, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    limits = [name for name in vars(guest) if name.endswith("_SECONDS")]
    assert "HELLO_SECONDS" in limits
    for name in limits:
        monkeypatch.setattr(guest, name, LIMIT)
    monkeypatch.setattr(reception, "FAREWELL_SECONDS", LIMIT)
    asked: list[Start] = []
    make = AsyncCommand.__init__

    def note(self: AsyncCommand, session: Any, request: Any, args: object) -> None:
        asked.append(request)
        make(self, session, request, args)

    monkeypatch.setattr(AsyncCommand, "__init__", note)
    bridge, go = session(timeout=LIMIT, reconnect=LIMIT), tmp_path / "go"
    script = f"echo asked; until [ -e {go} ]; do sleep 0.02; done; echo granted"
    with start("srun", "sh", "-c", script) as shim:
        assert shim.stdout is not None
        assert shim.stdout.readline() == b"asked\n"
        loop = bridge.portal.call(_loop())
        now = loop.time
        monkeypatch.setattr(loop, "time", lambda: now() + LIMIT + 1)  # all of them have passed
        assert run("squeue").returncode == 0  # so it has been seen
        go.touch()
        assert read_all(shim) == (b"granted\n", 0)
    assert [one.timeout for one in asked] == [None, None]  # so the head has none either


async def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


def test_a_program_that_is_gone_meanwhile_is_not_found(session: Session, scheduler: Path) -> None:
    session()
    aside = (scheduler / "sacct").rename(scheduler / "aside")
    try:
        done = run("sacct")
        assert done.returncode == wire.NOT_FOUND
        assert b"sacct: not found on" in done.stderr
    finally:
        aside.rename(scheduler / "sacct")


# --- many of them


def test_a_hundred_at_once_are_all_answered(session: Session) -> None:
    session()
    with ThreadPoolExecutor(100) as pool:
        done = list(pool.map(lambda number: run("squeue", str(number)), range(100)))
    assert [one.stdout for one in done] == [b"JOBID %d\n" % number for number in range(100)]


def test_one_whose_output_nobody_reads_holds_up_no_other(session: Session) -> None:
    session()
    with start("srun", "sh", "-c", "yes") as stuck, start("srun", "sleep", "60") as unfed:
        assert unfed.stdin is not None
        os.set_blocking(unfed.stdin.fileno(), False)
        assert unfed.stdin.write(bytes(65536))
        for _ in range(3):
            assert run("squeue").returncode == 0
        for one in (stuck, unfed):
            one.kill()


# --- killed, interrupted, left alone


def test_when_a_shim_is_killed_its_command_ends(session: Session) -> None:
    session()
    with start("srun", "sh", "-c", "echo $$; exec sleep 60") as shim:
        assert shim.stdout is not None
        pid = int(shim.stdout.readline())
        shim.kill()
        wait_until(lambda: not is_alive(pid))


def test_also_one_that_ignores_sigterm(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest, "LAST_WORDS_SECONDS", 0.2)
    session()
    with start("srun", "sh", "-c", "trap '' TERM; echo $$; while :; do sleep 0.1; done") as shim:
        assert shim.stdout is not None
        pid = int(shim.stdout.readline())
        shim.kill()
        wait_until(lambda: not is_alive(pid))


def test_also_one_whose_input_nobody_took(session: Session) -> None:
    session()
    with start("srun", "sh", "-c", "echo $$; exec sleep 60") as shim:
        assert shim.stdout is not None
        pid = int(shim.stdout.readline())
        stuffing = threading.Thread(target=_stuff, args=(shim,))
        stuffing.start()
        wait_until(lambda: _is_stuck(shim))
        shim.kill()
        stuffing.join()
        wait_until(lambda: not is_alive(pid))


def _stuff(shim: subprocess.Popen[bytes]) -> None:
    assert shim.stdin is not None
    try:
        shim.stdin.write(bytes(32 * MB))
        shim.stdin.flush()
    except BrokenPipeError:
        pass


def _is_stuck(shim: subprocess.Popen[bytes]) -> bool:
    """Whether nothing has gone into its input for a while."""
    before = _read_bytes(shim.pid)
    time.sleep(0.3)  # there is nothing to wait for: that nothing happens is the condition
    return before > MB and _read_bytes(shim.pid) == before


def _read_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/io").read_text("ascii").split()[1])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_reaches_the_command(session: Session, number: signal.Signals) -> None:
    session()
    script = f"trap 'echo got; exit 5' {number.value}; echo up; while :; do sleep 0.05; done"
    with start("srun", "sh", "-c", script) as shim:
        assert shim.stdout is not None
        assert shim.stdout.readline() == b"up\n"
        shim.send_signal(number)
        assert shim.stdout.read() == b"got\n"
        assert shim.wait(SECONDS) == 5


def test_an_interrupt_before_anything_was_answered_ends_the_shim(
    session: Session, scheduler: Path
) -> None:
    session()
    hold, runs = scheduler / "hold", scheduler / "squeue.runs"
    hold.touch()
    runs.unlink(missing_ok=True)  # of a test before
    try:
        with start("squeue") as shim:
            # Then the shim has called, and no interrupt meets an interpreter that only starts.
            wait_until(runs.exists)
            shim.send_signal(signal.SIGINT)
            assert shim.wait(SECONDS) == -signal.SIGINT
    finally:
        hold.unlink()


def test_a_reader_that_goes_ends_the_command(session: Session) -> None:
    session()
    done = run("sh", "-c", "srun yes | head -n 1")
    assert done.stdout == b"y\n"


# --- the bridge ends


def test_close_takes_everything_away_and_tells_who_waits(session: Session, tmp_path: Path) -> None:
    before = os.environ["PATH"]
    bridge, go = session(), tmp_path / "go"
    path = socket_path()
    script = f"echo up; until [ -e {go} ]; do sleep 0.02; done"
    with start("srun", "sh", "-c", script) as shim:
        assert shim.stdout is not None
        assert shim.stderr is not None
        assert shim.stdout.readline() == b"up\n"
        bridge.close()
        assert shim.wait(SECONDS) == wire.BRIDGE_FAULT
        assert b"closed" in shim.stderr.read()
    go.touch()
    assert os.environ["PATH"] == before
    assert wire.SOCKET_VARIABLE not in os.environ
    assert not Path(path).parent.exists()


def test_what_a_shim_has_running_outlives_close(session: Session, tmp_path: Path) -> None:
    bridge, go, done = session(), tmp_path / "go", tmp_path / "done"
    script = f"echo up; until [ -e {go} ]; do sleep 0.02; done; cat; echo end; touch {done}"
    with start("srun", "sh", "-c", script) as shim:  # its stdin is open, and nothing comes
        assert shim.stdout is not None
        assert shim.stderr is not None
        assert shim.stdout.readline() == b"up\n"
        (name,) = (one.id for one in _running(bridge, "srun", script))
        bridge.close()
        assert shim.wait(SECONDS) == wire.BRIDGE_FAULT
        said = shim.stderr.read().decode()
    assert f"srun: the bridge was closed, and the command goes on on {socket.gethostname()}" in said
    assert f"smartsim-bridge attach {name[:12]}" in said
    again = session(shims=False)
    assert [(one.id, one.keep) for one in _running(again, "srun", script)] == [(name, True)]
    go.touch()
    followed = again.attach(name)
    assert followed.communicate() == ("up\nend\n", "")
    assert followed.returncode == 0
    assert done.exists()


@pytest.mark.parametrize("moment", ["before", "meanwhile"])
def test_a_shim_that_is_killed_as_the_bridge_is_closed_ends_its_command(
    session: Session, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guest, "LAST_WORDS_SECONDS", 0.2)
    bridge, detach = session(), AsyncCommand.detach
    with start("srun", "sh", "-c", "echo $$; exec sleep 60") as shim:
        assert shim.stdout is not None
        pid = int(shim.stdout.readline())

        async def kill_and_detach(command: AsyncCommand) -> str:
            shim.kill()
            shim.wait(SECONDS)
            return await detach(command)

        if moment == "before":
            shim.kill()  # and nobody waits for it to be gone
        else:
            monkeypatch.setattr(AsyncCommand, "detach", kill_and_detach)
        bridge.close()
        wait_until(lambda: not is_alive(pid))


def test_one_with_half_of_its_input_and_one_that_only_asks_do_not_go_on(
    session: Session, scheduler: Path
) -> None:
    bridge, hold = session(), scheduler / "hold"
    hold.touch()
    try:
        with start("srun", "cat") as half, start("squeue") as asking:
            assert half.stdin is not None
            assert half.stdout is not None
            half.stdin.write(b"half\n")
            half.stdin.flush()
            assert half.stdout.readline() == b"half\n"
            wait_until(lambda: bool(_running(bridge, "squeue")))
            bridge.close()
            assert (half.wait(SECONDS), asking.wait(SECONDS)) == (255, 255)
            again = session(shims=False)
            left = [*_running(again, "srun", "cat"), *_running(again, "squeue")]
            assert [one.keep for one in left] == [False, False]
            for one in left:
                again.attach(one.id).terminate()
    finally:
        hold.unlink()


def test_shutdown_ends_what_shims_have_running(
    make_local_server: MakeLocalServer, scheduler: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{scheduler}:{os.environ['PATH']}")
    head = make_local_server()
    bridge = head.init(transport="local")
    with start("srun", "sh", "-c", "echo $$; exec sleep 60") as shim:
        assert shim.stdout is not None
        pid = int(shim.stdout.readline())
        bridge.shutdown()
        assert shim.wait(SECONDS) == -signal.SIGTERM
    wait_until(lambda: not is_alive(pid))


ENDING = """
import os, subprocess, sys
from smartsim_bridge import init_command_server
bridge = init_command_server(transport="local", timeout=60)
shim = subprocess.Popen(["srun", "sh", "-c", sys.argv[1]], stdout=subprocess.PIPE)
print(shim.stdout.readline().decode(), end="", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("way", ["end", "interrupt"])
def test_at_the_end_of_the_program_it_goes_on_and_has_had_the_interrupt(
    session: Session, tmp_path: Path, way: str
) -> None:
    done, go = tmp_path / "done", tmp_path / "go"
    note = f"> {done}.part; mv {done}.part {done}"
    rest = f"until [ -e {go} ]; do sleep 0.02; done"
    script = f"trap 'echo INT {note}; exit' INT; echo up; {rest}; echo end {note}"
    holder = subprocess.Popen(
        [sys.executable, "-c", ENDING, script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # whose processes Ctrl-C is for
    )
    with holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"up\n"
        if way == "end":
            holder.stdin.close()
        else:
            os.killpg(holder.pid, signal.SIGINT)
        holder.wait(SECONDS)
        if way == "end":
            assert not done.exists()
            go.touch()
        wait_until(done.exists)
        assert done.read_text() == ("end\n" if way == "end" else "INT\n")


def test_a_submission_outlives_close(
    session: Session, scheduler: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bridge = session()
    monkeypatch.setattr(guest, "LAST_WORDS_SECONDS", 0.1)
    with start("sbatch") as shim:
        wait_until(lambda: any(one.pid for one in _running(bridge, "sbatch")))
        (pid,) = (one.pid for one in _running(bridge, "sbatch"))
        bridge.close()
        assert shim.wait(SECONDS) == wire.BRIDGE_FAULT
        again = session(shims=False)
        assert [one.pid for one in _running(again, "sbatch")] == [pid]
        again.attach(_running(again, "sbatch")[0].id).terminate()


def _running(bridge: Bridge, program: str, *last: str) -> list[CommandInfo]:
    commands = (one for one in bridge.commands() if one.argv[0].endswith(program))
    running = (one for one in commands if one.state == "running")
    return [one for one in running if one.argv[len(one.argv) - len(last) :] == last]


HOLDER = """
import os, signal, subprocess, sys
from smartsim_bridge import init_command_server
bridge = init_command_server(transport="local", timeout=60)
shim = subprocess.Popen(["srun", "sh", "-c", "echo up; sleep 60"], stdout=subprocess.PIPE)
assert shim.stdout.readline() == b"up\\n"
child = os.fork() if sys.argv[1] == "fork" else 0
if sys.argv[1] == "fork" and not child:
    signal.pause()
print(shim.pid, child, os.environ["SMARTSIM_BRIDGE_SOCKET"], os.environ["PATH"], flush=True)
sys.stdin.read()
os._exit(0)
"""


@pytest.mark.parametrize("way", ["exit", "fork"])
def test_when_the_process_is_gone_its_shims_end_at_once(session: Session, way: str) -> None:
    # Also where a forked child of it lives on, with a copy of every descriptor.
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, way],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    assert holder.stderr is not None
    shim, child, path, search_path = holder.stdout.readline().decode().split()
    try:
        holder.stdin.close()
        assert holder.wait(SECONDS) == 0
        wait_until(lambda: not is_alive(int(shim)))
        orphan = {**os.environ, wire.SOCKET_VARIABLE: path, "PATH": search_path.split(":")[0]}
        done = run("/bin/sh", "-c", "squeue", env=orphan)
        assert done.returncode == wire.NOT_FOUND
        assert b"has ended" in done.stderr
    finally:
        if int(child):
            os.kill(int(child), signal.SIGKILL)
        shutil.rmtree(Path(path).parent, ignore_errors=True)
    assert b"ended before the command did" in holder.stderr.read()


def test_a_forked_childs_end_takes_nothing_from_its_parent(session: Session) -> None:
    before = os.environ["PATH"]
    bridge = session()
    child = os.fork()
    if not child:
        bridge.close()
        os._exit(0 if os.environ["PATH"] == before else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert run("squeue").returncode == 0


def test_several_bridges_may_be_closed_in_any_order(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(wire.SOCKET_VARIABLE, "/a/shell's")
    first, second = session(), session()
    found = socket_path()
    first.close()
    assert socket_path() == found
    assert run("squeue").returncode == 0
    third = session()
    assert socket_path() != found
    third.close()
    assert socket_path() == found
    second.close()
    assert socket_path() == "/a/shell's"


def test_without_shims_this_process_is_left_alone(session: Session) -> None:
    before = dict(os.environ)
    bridge = session(shims=False)
    assert dict(os.environ) == before
    assert bridge.status().shims == ()


# --- who calls


def test_whoever_speaks_another_language_is_dropped_and_nobody_else(session: Session) -> None:
    session()
    garbage = [
        b"GET / HTTP/1.0\r\n\r\n",
        wire.frame(wire.SIGNAL, b"9"),
        wire.frame(wire.HELLO, b"2\0squeue\0/\0/\x000"),
        wire.frame(wire.HELLO, b"1\0squeue\0/\0/\0one"),
        wire.HELLO + (wire.HELLO_LIMIT + 1).to_bytes(4, "big"),
    ]
    for said in garbage:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(socket_path())
            connection.sendall(said)
            connection.settimeout(SECONDS)
            assert connection.recv(1) == b""
    assert run("squeue").returncode == 0


def test_who_says_nothing_is_dropped(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest, "HELLO_SECONDS", 0.1)
    session()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(socket_path())
        connection.sendall(wire.HELLO)
        connection.settimeout(SECONDS)
        assert connection.recv(1) == b""


def test_another_user_is_not_served(session: Session, other_user: User) -> None:
    session()
    path = Path(socket_path())
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert _call_as(other_user, path) == "PermissionError"
    path.parent.chmod(0o755)
    path.chmod(0o666)
    assert _call_as(other_user, path) == "b''"  # his uid is looked at as well


def _call_as(user: User, path: Path) -> str:
    """What a connection of that user gets."""
    said, says = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setgroups([])
            os.setgid(user.gid)
            os.setuid(user.uid)
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(str(path))
            connection.settimeout(SECONDS)
            answer = repr(connection.recv(1))
        except OSError as fault:
            answer = type(fault).__name__
        os.write(says, answer.encode())
        os._exit(0)
    os.close(says)
    with open(said, "rb") as file:
        answer = file.read().decode()
    os.waitpid(child, 0)
    return answer


# --- a server that goes


@pytest.mark.parametrize("name", ["squeue", "sbatch"])
def test_what_could_not_be_started_at_the_moment_is_started_later(
    session: Session, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    session()
    refusals = [errno.EAGAIN, errno.ESHUTDOWN]
    popen = AsyncBridge.popen

    async def reluctant(self: AsyncBridge, args: list[str], **keywords: Any) -> AsyncCommand:
        if refusals:
            raise OSError(refusals.pop(), "not now", args[0])
        return await popen(self, args, **keywords)

    monkeypatch.setattr(AsyncBridge, "popen", reluctant)
    done = run(name, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stderr, refusals) == (0, b"", [])


def test_a_poll_is_asked_again_of_the_next_server_and_nothing_else_is(
    scheduler: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", f"{scheduler}:{os.environ['PATH']}")
    state = tmp_path / "state"
    monkeypatch.setenv("SMARTSIM_BRIDGE_STATE_DIR", str(state))
    hold = scheduler / "hold"
    hold.touch()
    with LocalServer(state) as first:
        bridge = first.init(transport="local")
        poll, step = start("squeue"), start("srun", "sleep", "60")
        assert poll.stdout is not None
        assert step.stderr is not None
        try:
            wait_until(lambda: bridge.status().running == 2)
            first.process.kill()
            first.process.wait(SECONDS)
            with LocalServer(state):
                hold.unlink()
                assert step.wait(SECONDS) == wire.BRIDGE_FAULT
                assert b"srun: " in step.stderr.read()
                assert poll.wait(SECONDS) == 0
                assert poll.stdout.read() == b"JOBID \n"
                bridge.close()
        finally:
            hold.unlink(missing_ok=True)
            for shim in (poll, step):
                shim.kill()
                shim.communicate()


def test_a_shim_waits_for_a_link_that_needs_the_user(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    bridge, go = session(reconnect=60.0), tmp_path / "go"
    core = bridge.core._session

    async def ask_nobody(former: object) -> None:
        raise AuthenticationRequired("a code is wanted")

    monkeypatch.setattr(core, "_climb", ask_nobody)
    script = f"echo up; read line; until [ -e {go} ]; do sleep 0.02; done; echo $line; exit 3"
    with start("srun", "sh", "-c", script) as shim:
        assert shim.stdin is not None
        assert shim.stdout is not None
        assert shim.stdout.readline() == b"up\n"
        bridge.portal.post(lambda: core.talk.link.cut(LinkLost("The cable was pulled")))
        wait_until(lambda: core.fault is not None)
        with start("srun", "echo", "once") as late, start("squeue", "late") as asking:
            shim.stdin.write(b"typed meanwhile\n")
            shim.stdin.close()
            go.touch()
            assert [one.poll() for one in (shim, late, asking)] == [None, None, None]
            bridge.reconnect()
            assert [read_all(one) for one in (shim, late, asking)] == [
                (b"typed meanwhile\n", 3),
                (b"once\n", 0),
                (b"JOBID late\n", 0),
            ]
    assert sum(one.argv[-1:] == ("once",) for one in bridge.commands()) == 1
    assert caplog.text.count("a code is wanted") == 1


def read_all(shim: Shim) -> tuple[bytes, int]:
    assert shim.stdout is not None
    return shim.stdout.read(), shim.wait(SECONDS)
