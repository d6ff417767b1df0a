from __future__ import annotations

import errno
import hashlib
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from smartsim_bridge.protocol.codec import MAX_PAYLOAD
from smartsim_bridge.protocol.flow import WINDOW
from smartsim_bridge.protocol.messages import (
    NULL,
    PIPE,
    STDERR,
    STDOUT,
    TO_STDOUT,
    InputTaken,
    Output,
    OutputTaken,
    Ping,
    Signal,
    Started,
    Terminate,
)
from smartsim_bridge.server.sessions import Session
from tests.server.talks import PATH, Told, hurry, in_session
from tests.support.loops import run
from tests.support.waiting import wait_until_async


def result(*argv: str, **options: Any) -> Told:
    async def talk() -> Told:
        async with in_session() as (client, _, _):
            return await client.run(*argv, **options)

    return run(talk())


def let_time_run_out(session: Session) -> None:
    """Of the only command that runs."""
    (command,) = session.commands
    hurry(command)


def is_gone(pid: int) -> bool:
    """Ended; a zombie that its parent has not asked about yet counts as ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    except OSError:
        return True
    return stat.rpartition(")")[2].split()[0] in "ZX"


def test_output_errors_and_status_are_told_apart() -> None:
    told = result("sh", "-c", "echo out; echo err >&2; exit 3")
    assert (bytes(told.out), bytes(told.err)) == (b"out\n", b"err\n")
    assert (told.end.code, told.end.signal, told.end.final) == (3, None, True)


@pytest.mark.parametrize("code", [0, 1, 127, 128, 137, 255])
def test_every_exit_code_is_kept(code: int) -> None:
    told = result("sh", "-c", f"exit {code}")
    assert (told.end.code, told.end.signal) == (code, None)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
def test_exit_by_signal_is_not_a_code(number: signal.Signals) -> None:
    told = result("sh", "-c", f"kill -{int(number)} $$")
    assert (told.end.code, told.end.signal) == (None, int(number))


def test_bytes_are_not_text() -> None:
    everything = bytes(range(256)) * 100
    script = "import sys; sys.stdout.buffer.write(bytes(range(256)) * 100)"
    assert result(sys.executable, "-c", script).out == everything


def test_errors_may_join_the_output() -> None:
    told = result("sh", "-c", "echo out; echo err >&2", stderr=TO_STDOUT)
    assert (bytes(told.out), bytes(told.err)) == (b"out\nerr\n", b"")


def test_streams_may_be_nowhere() -> None:
    told = result("sh", "-c", "echo out; echo err >&2; cat", stdout=NULL, stderr=NULL)
    assert (bytes(told.out), bytes(told.err), told.end.code) == (b"", b"", 0)


def test_no_shell_unless_asked() -> None:
    assert result("echo", "$HOME; `id`").out == b"$HOME; `id`\n"
    assert result("echo $0 $1; exit 4", "zero", "one", shell=True).out == b"zero one\n"


def test_unknown_program_fails_with_the_systems_error() -> None:
    failed = result("no-such-program-here").failed
    assert failed is not None
    assert (failed.errno, failed.filename) == (errno.ENOENT, "no-such-program-here")
    assert failed.text == os.strerror(errno.ENOENT)


def test_program_that_is_none_fails_with_the_systems_error(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("no program")
    failed = result(str(tmp_path / "plain")).failed
    assert failed is not None
    assert failed.errno == errno.EACCES


def test_missing_directory_is_named(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    failed = result("true", cwd=missing).failed
    assert failed is not None
    assert (failed.errno, failed.filename) == (errno.ENOENT, missing)


@pytest.mark.parametrize(
    ("argv", "options"),
    [
        ((), {}),
        (("",), {}),
        (("a\0b",), {}),
        (("true",), {"env": {"A=B": "1"}}),
        (("true",), {"env": {"A": "x\0y"}}),
        (("true",), {"env": {"\ud800": "1"}}),
        (("true",), {"cwd": "/\0"}),
        (("true", "\ud800"), {}),
        ((), {"shell": True}),
        (("x" * 1_500_000,), {}),
    ],
    ids=range(10),
)
def test_impossible_command_fails_and_harms_nobody(
    argv: tuple[str, ...], options: dict[str, Any]
) -> None:
    async def talk() -> None:
        async with in_session() as (client, _, backlog):
            told = await client.run(*argv, **options)
            assert told.failed is not None or told.end.code != 0
            assert backlog.running == 0
            assert (await client.run("true")).end.code == 0

    run(talk())


def test_command_runs_where_it_is_told(tmp_path: Path) -> None:
    async def talk() -> None:
        (tmp_path / "sub").mkdir()
        async with in_session(directory=str(tmp_path)) as (client, _, _):
            assert (await client.run("pwd")).out == f"{tmp_path}\n".encode()
            assert (await client.run("pwd", cwd="sub")).out == f"{tmp_path}/sub\n".encode()
            assert (await client.run("pwd", cwd="/")).out == b"/\n"

    run(talk())


def test_command_leads_a_group_and_session_of_its_own() -> None:
    told = result("sh", "-c", "ps -o pid=,pgid=,sid= -p $$")
    assert told.out.split() == [str(told.pid).encode()] * 3


def test_callers_job_stays_behind() -> None:
    asked = {"MINE": "1", "SLURM_JOB_ID": "7", "PMI_RANK": "0", "SLURM_CPU_BIND": "quiet"}
    told = result("env", env=asked)
    assert sorted(told.out.split()) == [b"MINE=1", b"PATH=" + PATH["PATH"].encode()]
    told = result("env", env=asked, keep_env=("SLURM_JOB_ID",))
    assert b"SLURM_JOB_ID=7" in told.out.split()
    assert b"SLURM_CPU_BIND=quiet" not in told.out.split()


def test_srun_knows_its_allocation(tmp_path: Path) -> None:
    (tmp_path / "srun").symlink_to("/usr/bin/env")
    asked = {"SLURM_JOB_ID": "7", "SLURM_CPU_BIND": "quiet"}
    told = result(str(tmp_path / "srun"), env=asked)
    assert b"SLURM_JOB_ID=7" in told.out.split()
    assert b"SLURM_CPU_BIND=quiet" not in told.out.split()


def test_environment_need_not_be_text() -> None:
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    assert b"A=caf\xe9" in result("env", env={"A": name}).out.split()


def test_input_reaches_the_command() -> None:
    async def talk() -> None:
        async with in_session() as (client, _, _):
            client.start("c", "cat", stdin=PIPE)
            client.feed("c", b"one ")
            client.feed("c", b"two", offset=4, eof=True)
            assert (await client.over("c")).out == b"one two"

    run(talk())


def test_much_input_flows_through_the_window() -> None:
    async def talk() -> None:
        async with in_session() as (client, _, _):
            client.start("c", "sha256sum", stdin=PIPE)
            told = client.commands["c"]
            size, sent = 8 * WINDOW, 0
            while sent < size:
                await client.until(lambda so_far=sent: told.taken + WINDOW > so_far)
                end = min(size, told.taken + WINDOW, sent + MAX_PAYLOAD)
                client.feed("c", b"x" * (end - sent), offset=sent, eof=end == size)
                sent = end
            await client.over("c")
            assert told.out.split()[0].decode() == hashlib.sha256(b"x" * size).hexdigest()

    run(talk())


def test_input_said_twice_is_taken_once() -> None:
    async def talk() -> None:
        async with in_session() as (client, _, _):
            client.start("c", "cat", stdin=PIPE)
            client.feed("c", b"abc")
            client.feed("c", b"abc")
            client.feed("c", b"bcd", offset=1, eof=True)
            client.feed("c", b"abc")
            assert (await client.over("c")).out == b"abcd"

    run(talk())


def test_command_that_does_not_want_its_input_keeps_its_status() -> None:
    async def talk() -> None:
        async with in_session() as (client, _, _):
            client.start("c", "sh", "-c", "exec <&-; echo closed; read x <&1; exit 5", stdin=PIPE)
            await client.until(lambda: client.commands["c"].out)
            client.feed("c", bytes(MAX_PAYLOAD))
            await client.until(lambda: client.commands["c"].broken or client.commands["c"].is_over)
            assert (await client.over("c")).end.code == 5

    run(talk())


def test_input_for_a_command_that_ended_harms_nobody() -> None:
    async def talk() -> None:
        async with in_session() as (client, _, _):
            client.start("c", "true", stdin=PIPE)
            client.feed("c", bytes(MAX_PAYLOAD))
            client.feed("c", b"x", offset=MAX_PAYLOAD)
            assert (await client.over("c")).end.code == 0
            client.feed("c", b"y", offset=MAX_PAYLOAD + 1)
            assert (await client.run("echo", "on")).out == b"on\n"

    run(talk())


def test_input_nowhere_is_told_to_be_broken() -> None:
    async def talk() -> None:
        async with in_session() as (client, _, _):
            client.start("c", "sleep", "60", stdin=NULL)
            client.feed("c", b"abc")
            await client.until(lambda: client.commands["c"].broken)
            assert InputTaken("c", 3, broken=True) in client.all

    run(talk())


def test_slow_reader_slows_its_own_command_only() -> None:
    async def talk() -> None:
        async with in_session() as (client, _, _):
            client.unread.add("flood")
            client.start("flood", "head", "-c", str(3 * WINDOW), "/dev/zero")
            told = client.commands["flood"]
            await client.until(lambda: len(told.out) == WINDOW)
            for _ in range(5):
                assert (await client.run("echo", "beside")).out == b"beside\n"
            assert len(told.out) == WINDOW
            client.read_on("flood")
            await client.over("flood")
            assert len(told.out) == 3 * WINDOW

    run(talk())


def test_sleeping_commands_do_not_hold_up_others() -> None:
    async def talk() -> None:
        async with in_session() as (client, _, _):
            for number in range(50):
                client.start(f"s{number}", "sleep", "600")
            assert (await client.run("true")).end.code == 0
            assert not any(client.commands[f"s{number}"].exits for number in range(50))

    run(talk())


def test_output_comes_while_the_command_runs() -> None:
    async def talk() -> None:
        async with in_session() as (client, _, _):
            client.start("c", "sh", "-c", "echo first; cat", stdin=PIPE)
            told = client.commands["c"]
            await client.until(lambda: told.out == b"first\n")
            assert not told.is_over
            client.feed("c", b"", eof=True)
            await client.over("c")

    run(talk())


def test_closed_stream_is_told_while_the_command_runs() -> None:
    async def talk() -> None:
        async with in_session() as (client, _, _):
            client.start("c", "sh", "-c", "exec >&-; cat >&2", stdin=PIPE)
            told = client.commands["c"]
            await client.until(lambda: told.ended_streams == {STDOUT})
            assert not told.is_over
            client.feed("c", b"x", eof=True)
            await client.over("c")
            assert told.err == b"x"

    run(talk())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_signal_reaches_the_whole_group(number: signal.Signals) -> None:
    async def talk() -> None:
        async with in_session() as (client, _, _):
            # In between is another shell: a background job of it would ignore SIGINT.
            client.start("c", "sh", "-c", "sh -c 'echo $$; exec sleep 60'; true")
            told = client.commands["c"]
            await client.until(lambda: told.out.endswith(b"\n"))
            client.link.send(Signal("c", number))
            await client.over("c")
            await wait_until_async(lambda: is_gone(int(told.out)))

    run(talk())


@pytest.mark.parametrize("number", [0, -1, 65, 2**40])
def test_impossible_signal_does_nothing(number: int) -> None:
    async def talk() -> None:
        async with in_session() as (client, _, _):
            client.start("c", "cat", stdin=PIPE)
            client.link.send(Signal("c", number))
            client.feed("c", b"on", eof=True)
            assert (await client.over("c")).end.code == 0

    run(talk())


def test_time_limit_ends_the_whole_group() -> None:
    async def talk() -> None:
        async with in_session() as (client, session, _):
            script = "trap '' TERM; sleep 600 & echo $!; sleep 600"
            client.start("c", "sh", "-c", script, timeout=600.0)
            told = client.commands["c"]
            await client.until(lambda: told.out.endswith(b"\n"))
            let_time_run_out(session)
            await client.over("c")
            assert (told.end.timed_out, told.end.signal) == (True, signal.SIGKILL)
            await wait_until_async(lambda: is_gone(int(told.out)))

    run(talk())


def test_time_limit_is_counted_in_seconds() -> None:
    assert result("sleep", "600", timeout=0.2).end.timed_out


@pytest.mark.parametrize("timeout", [0.0, -1.0])
def test_no_time_at_all_ends_it_at_once(timeout: float) -> None:
    assert result("sleep", "60", timeout=timeout).end.timed_out


def test_command_within_its_time_is_not_timed_out() -> None:
    assert not result("true", timeout=60.0).end.timed_out


def test_terminate_asks_first_and_kills_after_the_grace() -> None:
    async def talk() -> None:
        async with in_session() as (client, session, _):
            script = "trap 'echo asked' TERM; echo ready; while :; do sleep 0.05; done"
            client.start("c", "sh", "-c", script)
            told = client.commands["c"]
            await client.until(lambda: told.out)
            client.link.send(Terminate("c", 600.0))
            await client.until(lambda: told.out == b"ready\nasked\n")
            assert not told.exits
            let_time_run_out(session)
            await client.over("c")
            assert told.out == b"ready\nasked\n"
            assert told.end.signal == signal.SIGKILL

    run(talk())


def test_stopped_command_can_be_terminated() -> None:
    async def talk() -> None:
        async with in_session() as (client, _, _):
            client.start("c", "sleep", "60")
            client.link.send(Signal("c", signal.SIGSTOP))
            client.link.send(Terminate("c", 600.0))
            assert (await client.over("c")).end.signal == signal.SIGTERM

    run(talk())


DAEMON = "import os, time; os.setsid(); print(os.getpid(), flush=True); time.sleep(60)"


def test_exit_is_told_although_a_grandchild_holds_the_pipe() -> None:
    async def talk() -> None:
        async with in_session() as (client, _, _):
            client.start(
                "c", "sh", "-c", '"$0" -c "$1" & read x', sys.executable, DAEMON, stdin=PIPE
            )
            told = client.commands["c"]
            await client.until(lambda: told.out.endswith(b"\n"))
            client.feed("c", b"\n", eof=True)
            await client.until(lambda: told.exits)
            assert not told.is_over
            assert told.end.code == 0
            os.kill(int(told.out), signal.SIGKILL)
            await client.over("c")

    run(talk())


def test_killed_command_does_not_wait_for_a_grandchild_in_another_session() -> None:
    async def talk() -> None:
        async with in_session() as (client, session, _):
            script = '"$0" -c "$1" & wait'
            client.start("c", "sh", "-c", script, sys.executable, DAEMON, timeout=600.0)
            told = client.commands["c"]
            await client.until(lambda: told.out.endswith(b"\n"))
            let_time_run_out(session)
            assert (await client.over("c")).end.timed_out
            os.kill(int(told.out), signal.SIGKILL)

    run(talk())


def test_descriptors_of_the_server_are_not_inherited() -> None:
    told = result("sh", "-c", "ls /proc/self/fd | wc -l")
    assert int(told.out) <= 5


def test_limit_of_open_files_is_the_usual_one() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def talk() -> None:
        async with in_session(descriptor_limit=(min(300, soft), hard)) as (client, _, _):
            client.start("c", "sh", "-c", "read x; ulimit -n", stdin=PIPE)
            client.feed("c", b"\n", eof=True)
            assert int((await client.over("c")).out) == min(300, soft)

    run(talk())


def test_start_may_go_unannounced() -> None:
    async def talk() -> None:
        async with in_session() as (client, _, _):
            quiet = await client.run("true", announce=False)
            told = await client.run("true")
            assert (quiet.pid, told.pid > 0) == (0, True)
            assert len([one for one in client.all if isinstance(one, Started)]) == 1

    run(talk())


@pytest.mark.parametrize(
    "message",
    [OutputTaken("c", STDOUT, 10**6), OutputTaken("c", STDERR, -1)],
)
def test_impossible_acknowledgement_cuts_the_link(message: OutputTaken) -> None:
    async def talk() -> None:
        async with in_session() as (client, _, _):
            client.start("c", "sleep", "60")
            client.link.send(message)
            await client.until(lambda: client.is_lost)

    run(talk())


def test_more_input_than_granted_cuts_the_link() -> None:
    async def talk() -> None:
        async with in_session() as (client, _, _):
            client.start("c", "sleep", "60", stdin=PIPE)
            for number in range(WINDOW // MAX_PAYLOAD):
                client.feed("c", bytes(MAX_PAYLOAD), offset=number * MAX_PAYLOAD)
            assert not client.is_lost
            client.feed("c", b"x", offset=WINDOW)
            await client.until(lambda: client.is_lost)

    run(talk())


def test_message_about_an_unknown_stream_or_command_is_let_pass() -> None:
    async def talk() -> None:
        async with in_session() as (client, _, _):
            client.start("c", "sleep", "60")
            client.link.send(OutputTaken("c", 7, 0))
            client.link.send(Signal("nobody", 15))
            client.link.send(Terminate("nobody", 0.0))
            client.link.send(Ping(1))
            assert (await client.run("echo", "on")).out == b"on\n"

    run(talk())


def test_output_offsets_count_from_nought() -> None:
    async def talk() -> None:
        async with in_session() as (client, _, _):
            client.start("c", "sh", "-c", "echo one; read x; echo two", stdin=PIPE)
            await client.until(lambda: client.commands["c"].out == b"one\n")
            client.feed("c", b"\n", eof=True)
            await client.over("c")
            pieces = [one for one in client.all if isinstance(one, Output) and one.payload]
            assert [one.offset for one in pieces] == [0, 4]

    run(talk())
