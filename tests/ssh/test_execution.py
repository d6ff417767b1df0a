from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from types import ModuleType

import paramiko
import pytest

from smartsim_bridge.deadline import Deadline
from smartsim_bridge.errors import SshFailed
from smartsim_bridge.ssh import execution, openssh_pipe
from smartsim_bridge.ssh.engine import Completed, Connection
from smartsim_bridge.ssh.transport import BROKEN
from tests.support.fixtures import Connect, MakeSshd
from tests.support.openssh import OpenOpenssh
from tests.support.sshd import Sshd

OpenEngine = Callable[[Sshd], Connection]

FLOOD = 3_000_000  # more than an SSH window of 2 MiB


@pytest.fixture(params=["paramiko", "openssh"])
def open_engine(
    request: pytest.FixtureRequest, connect: Connect, open_openssh: OpenOpenssh
) -> OpenEngine:
    """What each engine promises is the same."""
    if request.param == "openssh":
        return open_openssh
    return lambda sshd: connect(sshd.target())


@pytest.fixture
def connection(sshd: Sshd, open_engine: OpenEngine) -> Connection:
    return open_engine(sshd)


def run(connection: Connection, command: str, stdin: bytes = b"") -> Completed:
    return connection.execute(command, stdin=stdin, deadline=Deadline(60))


def test_status_and_both_streams_come_back(connection: Connection) -> None:
    assert run(connection, "echo out; echo err >&2; exit 3") == Completed(3, b"out\n", b"err\n")


def test_bytes_pass_as_they_are(connection: Connection) -> None:
    every = bytes(range(256))
    assert run(connection, "cat", every).stdout == every


def test_input_larger_than_all_windows_is_fed_while_the_answer_is_read(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    for engine in (execution, openssh_pipe):
        monkeypatch.setattr(engine, "OUTPUT_LIMIT", 2 * FLOOD)
    sent = b"0123456789" * (FLOOD // 10)
    assert run(connection, "cat", sent).stdout == sent


def test_a_flood_of_complaints_does_not_block_the_output(connection: Connection) -> None:
    done = run(connection, f"head -c {FLOOD} /dev/zero >&2; echo done")
    assert done.stdout == b"done\n"
    assert len(done.stderr) == execution.OUTPUT_LIMIT


def test_output_beyond_the_limit_is_dropped_and_the_command_ends(
    connection: Connection,
) -> None:
    done = run(connection, f"head -c {FLOOD} /dev/zero; exit 7")
    assert (done.status, len(done.stdout)) == (7, execution.OUTPUT_LIMIT)


def test_a_command_that_ignores_its_input_ends(connection: Connection) -> None:
    assert run(connection, "exec 0<&-; exit 4", b"x" * FLOOD).status == 4


def test_a_command_that_closed_its_output_is_waited_for(connection: Connection) -> None:
    assert run(connection, "exec >&- 2>&-; read line; exit $line", b"5\n").status == 5


def test_a_killed_command_has_no_status(connection: Connection) -> None:
    assert run(connection, "kill -9 $$").status is None


def test_a_command_past_its_deadline_is_left_and_the_connection_is_usable(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[object] = []

    def tell_when_begun(module: ModuleType, name: str) -> None:
        begin = getattr(module, name)

        def begin_and_tell(*arguments: object) -> object:
            begun.append(begin(*arguments))
            return begun[-1]

        monkeypatch.setattr(module, name, begin_and_tell)

    tell_when_begun(execution, "open_session")
    tell_when_begun(openssh_pipe, "OpensshPipe")
    # The command has a moment; what comes before it, as long as it takes.
    deadline = Deadline(60, clock=lambda: 59.8 if begun else 0.0)
    with pytest.raises(SshFailed, match="in time") as caught:
        connection.execute("sleep 600", deadline=deadline)
    assert (caught.value.host, caught.value.step) == (connection.target.destination, "execute")
    assert run(connection, "echo still").stdout == b"still\n"


def test_a_deadline_that_is_over_fails_at_once(connection: Connection) -> None:
    with pytest.raises(SshFailed):
        connection.execute("true", deadline=Deadline(0))
    assert run(connection, "true").status == 0


def test_no_deadline_waits_for_the_command(connection: Connection) -> None:
    assert connection.execute("exit 2", deadline=Deadline(None)).status == 2


def test_many_threads_run_commands_over_one_connection(connection: Connection) -> None:
    answers: dict[int, bytes] = {}

    def ask(number: int) -> None:
        answers[number] = run(connection, f"echo {number}").stdout

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {number: b"%d\n" % number for number in range(8)}


def test_a_connection_that_breaks_under_a_command_is_an_error(
    make_sshd: MakeSshd, open_engine: OpenEngine
) -> None:
    running = make_sshd()
    connection = open_engine(running)
    command = "echo started > $HOME/started; sleep 60"
    timer = threading.Thread(target=lambda: _kill_when_started(running))
    timer.start()
    with pytest.raises(SshFailed, match="broke"):
        run(connection, command)
    timer.join()


def _kill_when_started(running: Sshd) -> None:
    running.wait_for_log("Starting session")
    running.kill_sessions()


def test_results_do_not_show_what_was_said() -> None:
    assert "secret" not in repr(Completed(0, b"secret", b"secret"))


# --- pipes --------------------------------------------------------------------------------


def read_all(stream: socket.socket) -> bytes:
    data = b""
    while part := stream.recv(65536):
        data += part
    return data


def test_a_pipe_carries_both_ways_and_ends_when_we_end(connection: Connection) -> None:
    pipe = connection.open_stdio("cat; echo end")
    pipe.socket.settimeout(60)
    pipe.socket.sendall(b"hello ")
    assert pipe.socket.recv(100) == b"hello "
    pipe.socket.shutdown(socket.SHUT_WR)
    assert read_all(pipe.socket) == b"end\n"
    pipe.close()


def test_a_pipe_whose_command_ends_is_at_its_end(connection: Connection) -> None:
    pipe = connection.open_stdio("echo gone; echo why >&2; exit 6")
    pipe.socket.settimeout(60)
    assert read_all(pipe.socket) == b"gone\n"
    pipe.wait()
    assert (pipe.status, pipe.noise) == (6, "why\n")
    pipe.close()


def test_a_pipe_that_nobody_reads_still_takes_input(connection: Connection) -> None:
    pipe = connection.open_stdio("cat /dev/zero & head -c 5 > $HOME/got; kill $!; exit 0")
    pipe.socket.settimeout(60)
    assert pipe.socket.recv(1) == b"\0"
    pipe.socket.sendall(b"stop!")
    read_all(pipe.socket)
    assert run(connection, "cat $HOME/got").stdout == b"stop!"
    pipe.close()


def test_closing_a_pipe_ends_it_on_both_sides(connection: Connection) -> None:
    pipe = connection.open_stdio("cat; echo ended > $HOME/ended")
    assert "open" in repr(pipe)
    pipe.close()
    pipe.close()
    assert "closed" in repr(pipe)
    pipe.wait()
    done = run(connection, "while ! cat $HOME/ended 2>&-; do :; done")
    assert done.stdout == b"ended\n"


def test_a_pipe_of_a_broken_connection_is_at_its_end(
    make_sshd: MakeSshd, open_engine: OpenEngine
) -> None:
    running = make_sshd()
    pipe = open_engine(running).open_stdio("cat")
    pipe.socket.settimeout(60)
    running.kill_sessions()
    assert read_all(pipe.socket) == b""
    pipe.close()


def test_a_pipe_keeps_the_last_of_much_noise_within_bounds(connection: Connection) -> None:
    pipe = connection.open_stdio(f"head -c {FLOOD} /dev/zero >&2")
    pipe.socket.settimeout(60)
    assert read_all(pipe.socket) == b""
    pipe.wait()
    assert len(pipe.noise) == execution.NOISE_LIMIT
    pipe.close()


@pytest.mark.parametrize("fault", BROKEN)
@pytest.mark.parametrize("reading", ["recv", "recv_stderr"])
def test_no_thread_complains_of_a_connection_that_ends_under_it(
    reading: str,
    fault: type[Exception],
    connect: Connect,
    sshd: Sshd,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connection = connect(sshd.target())

    def read(channel: paramiko.Channel, size: int) -> bytes:
        channel.close()
        raise fault  # as where the window could not be widened

    escaped: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", escaped.append)
    monkeypatch.setattr(paramiko.Channel, reading, read)
    assert run(connection, "echo out; echo err >&2").status in (None, 0)
    assert escaped == []
