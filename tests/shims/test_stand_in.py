"""A shim's side of the wire: real shims, real sockets, the test is their reception."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

import pytest

from smartsim_bridge.shims import stand_in, wire
from smartsim_bridge.shims.folder import fill_folder
from tests.bootstrap.samples import modern_pythons
from tests.support.shim_reception import Reception, read
from tests.support.users import User
from tests.support.waiting import wait_until

MB = 1024 * 1024
SECONDS = 60.0


def test_its_values_are_those_of_the_wire() -> None:
    """It cannot import them."""
    for name in ("PAYLOAD_LIMIT", "INPUT_PIECE", "BRIDGE_FAULT"):
        assert getattr(stand_in, name) == getattr(wire, name)
    assert stand_in.SOCKET_VARIABLE.decode() == wire.SOCKET_VARIABLE


def test_it_imports_nothing_but_what_is_written_in_c(reception: Reception) -> None:
    """Each module in Python costs as much as half of the interpreter's start."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); before = set(sys.modules); import stand_in;"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(reception.folder)],
        capture_output=True,
        text=True,
        check=True,
        timeout=SECONDS,
    )
    assert set(done.stdout.split()) <= {"_socket", "select", "stand_in"}


# --- what it says of itself


def test_the_hello_carries_every_byte(reception: Reception, tmp_path: Path) -> None:
    odd = [b"", b"-p", b"two words", b"new\nline", b"\xff\xfe", "ü".encode(), b"'\"$`\\*"]
    directory = os.fsencode(tmp_path) + b"/\xe4 b"
    os.mkdir(directory)
    environment: dict[bytes, bytes] = {
        os.fsencode(name): os.fsencode(value) for name, value in reception.environment().items()
    }
    extra = {b"RAW": b"\xff=\n", b"BASH_FUNC_module%%": b"() {  :\n}", b"EMPTY": b""}

    _, caller = reception.call(
        reception.folder / "sbatch", *odd, cwd=directory, env={**environment, **extra}
    )

    hello = caller.hello
    assert (hello.command, hello.arguments) == ("sbatch", tuple(odd))
    assert (hello.folder, hello.directory) == (os.fsencode(reception.folder), directory)
    assert {name: hello.environment[name] for name in extra} == extra
    assert hello.environment[b"PATH"] == environment[b"PATH"]


@pytest.mark.parametrize(
    "locale", [{}, {"LC_ALL": "C"}, {"LC_ALL": "POSIX"}, {"LC_CTYPE": "C"}, {"LANG": "de_DE"}]
)
def test_the_environment_is_the_callers_whatever_the_locale(
    reception: Reception, locale: dict[str, str]
) -> None:
    environment = reception.environment(**locale)
    _, caller = reception.call(reception.folder / "sbatch", "\xfc", env=environment)

    # The shell in between may add these three.
    added = {b"PWD", b"SHLVL", b"OLDPWD"}
    said = {name: value for name, value in caller.hello.environment.items() if name not in added}
    del environment[wire.SOCKET_VARIABLE]
    assert said == {os.fsencode(a): os.fsencode(b) for a, b in environment.items()}
    assert caller.hello.arguments == (os.fsencode("\xfc"),)


def test_a_hello_as_long_as_the_system_allows_arrives(reception: Reception) -> None:
    big = [b"x" * 100_000] * 15
    process, caller = reception.call(reception.folder / "sbatch", *big)

    assert caller.hello.arguments == tuple(big)
    caller.end(0)
    assert process.wait(SECONDS) == 0


def test_a_directory_that_is_no_more_is_said_to_be_unknown(
    reception: Reception, tmp_path: Path
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    line = f'rmdir "$PWD"; exec "{reception.folder}/sbatch"'
    process, caller = reception.call("sh", "-c", line, cwd=place)

    assert caller.hello.directory == b""
    caller.end(0)
    assert process.wait(SECONDS) == 0


def test_modules_and_variables_of_the_users_cannot_harm_it(
    reception: Reception, tmp_path: Path
) -> None:
    for name in ("select.py", "_socket.py", "stand_in.py", "sitecustomize.py"):
        (tmp_path / name).write_text("raise SystemExit('harmed')")
    (tmp_path / "rc").write_text("echo harmed\n")
    environment = reception.environment(
        PYTHONPATH=str(tmp_path), PYTHONHOME="/nowhere", PYTHONSTARTUP=str(tmp_path / "select.py"),
        BASH_ENV=str(tmp_path / "rc"), ENV=str(tmp_path / "rc"), SHELLOPTS="nounset:noexec",
        PYTHONSAFEPATH="", PYTHONVERBOSE="1", IFS="/",
    )  # fmt: skip
    process, caller = reception.call(reception.folder / "sbatch", cwd=tmp_path, env=environment)
    caller.end(0)

    assert process.communicate(timeout=SECONDS) == (b"", b"")
    assert process.returncode == 0


# --- the command's output and its end


@pytest.mark.parametrize("status", [0, 1, 3, 126, 127, 255])
def test_output_and_status_are_the_commands(reception: Reception, status: int) -> None:
    process, caller = reception.call(reception.folder / "squeue")
    caller.send(wire.OUTPUT, b"one\xff\n")
    caller.send(wire.ERRORS, b"two\n")
    caller.send(wire.OUTPUT, b"three")
    caller.end(status)

    assert process.communicate(timeout=SECONDS) == (b"one\xff\nthree", b"two\n")
    assert process.returncode == status


def test_output_comes_as_it_is_made(reception: Reception) -> None:
    process, caller = reception.call(reception.folder / "squeue")
    assert process.stdout is not None
    for piece in (b"a", b"b"):
        caller.send(wire.OUTPUT, piece)
        assert os.read(process.stdout.fileno(), 10) == piece


@pytest.mark.parametrize("number", [1, 2, 3, 6, 9, 10, 11, 13, 14, 15, 34])
def test_a_signal_that_ended_the_command_ends_the_shim(
    reception: Reception, tmp_path: Path, number: int
) -> None:
    process, caller = reception.call(reception.folder / "srun", cwd=tmp_path)
    caller.end(-number)

    assert process.communicate(timeout=SECONDS) == (b"", b"")
    assert process.returncode == -number
    assert not list(tmp_path.glob("core*"))


def test_a_fault_is_told_with_its_status(reception: Reception) -> None:
    process, caller = reception.call(reception.folder / "sbatch")
    caller.connection.sendall(wire.fault_frame(127, "sbatch: not found on login1"))

    assert process.communicate(timeout=SECONDS) == (b"", b"sbatch: not found on login1\n")
    assert process.returncode == 127


def test_frames_may_come_in_any_pieces(reception: Reception) -> None:
    process, caller = reception.call(reception.folder / "squeue")
    whole = wire.frame(wire.OUTPUT, b"abc") + wire.frame(wire.OUTPUT) + wire.exit_frame(4)
    for at in range(len(whole)):
        caller.connection.sendall(whole[at : at + 1])

    assert process.communicate(timeout=SECONDS)[0] == b"abc"
    assert process.returncode == 4


# --- a reception that goes


@pytest.mark.parametrize("before", [b"", b"O\0\0", wire.frame(wire.OUTPUT, b"half")])
def test_a_reception_that_goes_ends_the_shim_at_once(reception: Reception, before: bytes) -> None:
    process, caller = reception.call(reception.folder / "sbatch")
    caller.connection.sendall(before)
    caller.connection.close()

    output, errors = process.communicate(timeout=SECONDS)
    assert output == (b"half" if b"half" in before else b"")
    assert errors == b"sbatch: the bridge has ended before the command did\n"
    assert process.returncode == 255


def test_last_words_are_heard_though_input_finds_nobody(reception: Reception) -> None:
    process, caller = reception.call(reception.folder / "srun")
    caller.send(wire.READ)
    assert process.stdin is not None
    process.stdin.write(b"x")
    process.stdin.flush()
    assert caller.receive() == (wire.INPUT, b"x")
    os.kill(process.pid, signal.SIGSTOP)
    process.stdin.write(b"y")  # nobody will read this
    process.stdin.flush()
    caller.end(5)
    caller.connection.close()
    os.kill(process.pid, signal.SIGCONT)

    assert process.wait(SECONDS) == 5


def test_a_reception_with_a_queue_before_it_is_waited_for(reception: Reception) -> None:
    reception.listener.listen(0)
    processes = [reception.start(reception.folder / "squeue") for _ in range(6)]
    wait_until(lambda: all(is_asleep(one.pid) for one in processes))
    for _ in processes:
        reception.accept().end(0)

    assert [one.wait(SECONDS) for one in processes] == [0] * 6


def is_asleep(pid: int) -> bool:
    """Whether the interpreter runs there, and waits."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    is_python = b"stand_in" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return is_python and fields[0] == "S"


@pytest.mark.parametrize("payload", [b"", b"seven", b"-"])
def test_no_fault_of_its_own_passes_for_the_commands(reception: Reception, payload: bytes) -> None:
    process, caller = reception.call(reception.folder / "sbatch")
    caller.send(wire.EXIT, payload)

    assert process.wait(SECONDS) == 255
    assert read(process.stderr).startswith(b"sbatch: ")


@pytest.mark.parametrize("python", modern_pythons())
def test_every_python_runs_it(tmp_path: Path, python: str) -> None:
    elsewhere = Reception(tmp_path, python)
    try:
        process, caller = elsewhere.call(elsewhere.folder / "sbatch", b"\xff")
        assert caller.hello.arguments == (b"\xff",)
        caller.send(wire.READ)
        assert process.stdin is not None
        process.stdin.close()
        assert caller.receive() == (wire.INPUT, b"")
        caller.send(wire.ERRORS, b"said")
        caller.end(-15)
        assert read(process.stderr) == b"said"
        assert process.wait(SECONDS) == -15
    finally:
        elsewhere.close()


@pytest.mark.parametrize("is_there", [True, False])
def test_a_socket_where_nobody_listens_is_no_session(
    reception: Reception, tmp_path: Path, is_there: bool
) -> None:
    """What a process that was killed leaves behind; its jobs must find the real command."""
    reception.listener.close()
    bin_ = tmp_path / "bin"
    if is_there:
        bin_.mkdir()
        (bin_ / "sbatch").write_text(
            '#!/bin/sh\nprintf "<%s>" "$@" "${LC_CTYPE-no}" "${SMARTSIM_BRIDGE_SOCKET-no}"\n'
            "trap '' 0; kill -PIPE $$; exit 4\n"
        )
        (bin_ / "sbatch").chmod(0o700)
    environment = reception.environment(LC_ALL="C", PATH=f"{reception.folder}:{bin_}")
    process = reception.start(reception.folder / "sbatch", b"a b\xff", env=environment)
    output, errors = process.communicate(timeout=SECONDS)

    if is_there:
        assert (output, errors) == (b"<a b\xff><no><no>", b"")
        assert process.returncode == -signal.SIGPIPE  # which Python had ignored
    else:
        assert errors.startswith(b"sbatch: not on this host, and its bridge to the head has ended;")
        assert process.returncode == 127


def test_an_agent_that_does_not_answer_is_asked_for_only_once(
    reception: Reception, tmp_path: Path
) -> None:
    place = tmp_path / "installed"
    fill_folder(
        place, ["sbatch"], sys.executable, agent=["/bin/echo", "up"],
        agent_socket=str(reception.path),
    )  # fmt: skip
    reception.listener.close()
    process = reception.start(place / "sbatch", env={"PATH": str(place)})

    assert process.communicate(timeout=SECONDS) == (b"", b"up\nsbatch: the bridge has ended\n")
    assert process.returncode == 255


def test_nonsense_ends_the_shim(reception: Reception) -> None:
    process, caller = reception.call(reception.folder / "sbatch")
    caller.connection.sendall(b"HTTP/1.1 400 Bad Request\r\n")

    assert (
        process.communicate(timeout=SECONDS)[1] == b"sbatch: the bridge speaks another language\n"
    )
    assert process.returncode == 255


def test_a_socket_of_somebody_elses_is_told_nothing(reception: Reception, other_user: User) -> None:
    uid = other_user.uid
    os.seteuid(uid)
    try:
        reception.listener.listen(64)  # whoever listens is who is asked for
    finally:
        os.seteuid(0)
    process = reception.start(reception.folder / "sbatch")
    connection, _ = reception.listener.accept()

    assert connection.recv(100) == b""
    assert b"it belongs to somebody else" in process.communicate(timeout=SECONDS)[1]
    assert process.returncode == 255


# --- input


def test_input_is_untouched_until_it_is_asked_for(reception: Reception) -> None:
    """A loop that reads its own input must not find it eaten by what it calls."""
    line = "while read -r name; do sbatch $name; done; exec squeue"
    process = reception.start("sh", "-c", line)
    assert process.stdin is not None
    process.stdin.write(b"a\nb\nc\n")
    process.stdin.close()

    for name in (b"a", b"b", b"c"):
        caller = reception.accept()
        assert caller.hello.arguments == (name,)
        caller.end(0)
    caller = reception.accept()
    assert caller.hello.command == "squeue"
    caller.end(0)
    assert process.wait(SECONDS) == 0


def test_input_comes_as_it_is_typed_and_ends(reception: Reception) -> None:
    process, caller = reception.call(reception.folder / "sbatch")
    caller.send(wire.READ)
    assert process.stdin is not None
    for piece in (b"#!/bin/sh\n", b"\xff\0\n"):
        process.stdin.write(piece)
        process.stdin.flush()
        assert caller.receive() == (wire.INPUT, piece)
    process.stdin.close()
    assert caller.receive() == (wire.INPUT, b"")
    caller.send(wire.READ)  # which changes nothing: it has ended
    caller.end(0)
    assert process.wait(SECONDS) == 0


def test_input_from_a_file_and_from_nowhere(reception: Reception, tmp_path: Path) -> None:
    script = tmp_path / "job.sh"
    script.write_bytes(b"x" * (3 * stand_in.INPUT_PIECE + 1))
    for place in (script, Path("/dev/null")):
        descriptor = os.open(place, os.O_RDONLY)
        _, caller = reception.call(reception.folder / "sbatch", stdin=descriptor)
        os.close(descriptor)
        caller.send(wire.READ)
        assert caller.receive_input() == (script.read_bytes() if place == script else b"")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed_are_not_mistaken_for_the_connection(
    reception: Reception, closed: str
) -> None:
    process, caller = reception.call("sh", "-c", f"sbatch {closed}; exit $?")
    caller.send(wire.OUTPUT, b"1")
    caller.send(wire.ERRORS, b"2")
    caller.send(wire.READ)
    if "<" not in closed:
        assert process.stdin is not None
        process.stdin.close()
    assert caller.receive() == (wire.INPUT, b"")
    caller.end(7)

    expected = (b"" if " >" in f" {closed}" else b"1", b"" if "2>" in closed else b"2")
    assert (read(process.stdout), read(process.stderr)) == expected
    assert process.wait(SECONDS) == 7


# --- much of it, and nobody who takes it


def memory(pid: int) -> int:
    """The most that a process ever had, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def test_a_hundred_megabytes_go_both_ways_at_once(reception: Reception) -> None:
    process, caller = reception.call(reception.folder / "srun")
    piece = bytes(range(256)) * 256
    drained: list[int] = []
    threads = [
        threading.Thread(target=feed, args=(process.stdin, piece, 100 * MB), daemon=True),
        threading.Thread(target=drain, args=(process.stdout, drained), daemon=True),
    ]
    for thread in threads:
        thread.start()
    caller.send(wire.READ)
    before, taken = memory(process.pid), 0
    while payload := caller.receive()[1]:
        taken += len(payload)
        caller.send(wire.OUTPUT, payload)
    after = memory(process.pid)
    caller.end(0)
    for thread in threads:
        thread.join(SECONDS)
    assert (taken, sum(drained)) == (100 * MB, 100 * MB)
    assert process.wait(SECONDS) == 0
    assert after - before < 4 * MB


def feed(stream: IO[bytes], piece: bytes, length: int) -> None:
    for _ in range(length // len(piece)):
        stream.write(piece)
    stream.close()


def drain(stream: IO[bytes], lengths: list[int]) -> None:
    while data := stream.read(MB):
        lengths.append(len(data))


def test_input_waits_where_the_reception_takes_none(reception: Reception) -> None:
    process, caller = reception.call(reception.folder / "srun")
    caller.send(wire.READ)
    assert process.stdin is not None
    sent = 0
    while select.select([], [process.stdin], [], 0.3)[1]:
        sent += os.write(process.stdin.fileno(), bytes(4096))
        assert sent < 4 * MB, "nothing holds it back"
    caller.end(0)  # and that is heard all the same
    assert process.wait(SECONDS) == 0


def test_output_that_nobody_reads_stops_neither_signals_nor_input(reception: Reception) -> None:
    process, caller = reception.call(reception.folder / "srun")
    caller.send(wire.READ)
    output = 3 * wire.frame(wire.OUTPUT, bytes(MB))  # pipe and buffers take less than that
    sender = threading.Thread(target=caller.connection.sendall, args=(output,), daemon=True)
    sender.start()
    assert process.stdout is not None
    assert select.select([process.stdout.fileno()], [], [], SECONDS)[0]

    process.send_signal(signal.SIGUSR1)
    assert caller.receive() == (wire.SIGNAL, b"10")
    assert process.stdin is not None
    process.stdin.write(b"still here")
    process.stdin.flush()
    assert caller.receive() == (wire.INPUT, b"still here")
    assert len(process.stdout.read(3 * MB)) == 3 * MB
    sender.join(SECONDS)
    caller.end(0)
    assert process.wait(SECONDS) == 0


def test_a_command_that_was_killed_ends_though_nobody_takes_its_output(
    reception: Reception,
) -> None:
    """`process.terminate(); process.wait()` with a full pipe."""
    process, caller = reception.call(reception.folder / "srun")
    caller.send(wire.OUTPUT, bytes(MB))
    assert process.stdout is not None
    assert select.select([process.stdout.fileno()], [], [], SECONDS)[0]
    process.send_signal(signal.SIGTERM)
    assert caller.receive() == (wire.SIGNAL, b"15")
    caller.connection.sendall(2 * wire.frame(wire.OUTPUT, bytes(MB)) + wire.exit_frame(-15))

    assert process.wait(SECONDS) == -signal.SIGTERM


def test_a_command_that_ended_by_itself_loses_no_output(reception: Reception) -> None:
    process, caller = reception.call(reception.folder / "srun")
    caller.send(wire.OUTPUT, bytes(MB))
    assert process.stdout is not None
    assert select.select([process.stdout.fileno()], [], [], SECONDS)[0]
    process.send_signal(signal.SIGINT)
    assert caller.receive() == (wire.SIGNAL, b"2")
    caller.connection.sendall(2 * wire.frame(wire.OUTPUT, bytes(MB)) + wire.exit_frame(3))
    caller.connection.close()

    assert len(process.communicate(timeout=SECONDS)[0]) == 3 * MB
    assert process.returncode == 3


@pytest.mark.parametrize("returncode", [3, -signal.SIGINT])
def test_all_that_was_said_counts_though_the_reception_has_gone(
    reception: Reception, returncode: int
) -> None:
    process, caller = reception.call(reception.folder / "srun")
    process.send_signal(signal.SIGINT)
    assert caller.receive() == (wire.SIGNAL, b"2")
    output = bytes(MB // 8)  # more than a pipe takes at once
    caller.connection.sendall(wire.frame(wire.OUTPUT, output) + wire.exit_frame(returncode))
    caller.connection.close()

    said, errors = process.communicate(timeout=SECONDS)
    assert (process.returncode, errors) == (returncode, b"")
    assert returncode < 0 or said == output


def test_what_is_only_left_to_be_written_ends_by_a_signal(reception: Reception) -> None:
    process, caller = reception.call(reception.folder / "srun")
    caller.connection.sendall(wire.frame(wire.OUTPUT, bytes(MB)) + wire.exit_frame(0))
    caller.connection.close()
    assert process.stdout is not None
    assert select.select([process.stdout.fileno()], [], [], SECONDS)[0]
    process.send_signal(signal.SIGTERM)

    assert process.wait(SECONDS) == -signal.SIGTERM


def test_a_reader_who_leaves_ends_the_command(reception: Reception) -> None:
    process, caller = reception.call(reception.folder / "squeue")
    assert process.stdout is not None
    process.stdout.close()
    caller.send(wire.OUTPUT, b"too late")

    assert caller.receive() == (wire.SIGNAL, b"13")
    assert caller.is_gone()
    assert process.wait(SECONDS) == -signal.SIGPIPE


def test_a_disk_that_is_full_is_told(reception: Reception) -> None:
    process, caller = reception.call("sh", "-c", "exec sbatch > /dev/full")
    caller.send(wire.OUTPUT, b"123")

    errors = process.communicate(timeout=SECONDS)[1]
    assert errors == b"sbatch: cannot write the output: [Errno 28] No space left on device\n"
    assert process.returncode == 255


# --- signals


@pytest.mark.parametrize("name", [name for name in stand_in.SIGNALS if name not in
                                  ("SIGPIPE", "SIGTSTP")])  # fmt: skip
def test_signals_go_to_the_command_and_do_not_end_the_shim(reception: Reception, name: str) -> None:
    process, caller = reception.call(reception.folder / "srun")
    caller.send(wire.OUTPUT, b"!")
    assert process.stdout is not None
    assert process.stdout.read(1) == b"!"  # so its handlers are there

    process.send_signal(getattr(signal, name))
    assert caller.receive() == (wire.SIGNAL, b"%d" % stand_in.SIGNALS[name])
    caller.end(9)
    assert process.wait(SECONDS) == 9


def test_signals_that_were_ignored_stay_so(reception: Reception) -> None:
    line = "trap '' HUP INT QUIT; exec srun"
    process, caller = reception.call("sh", "-c", line)
    caller.send(wire.OUTPUT, b"!")
    assert process.stdout is not None
    assert process.stdout.read(1) == b"!"

    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1):
        process.send_signal(number)
    assert caller.receive() == (wire.SIGNAL, b"10")


def test_who_insists_while_the_head_is_silent_gets_away(reception: Reception) -> None:
    process, caller = reception.call(reception.folder / "srun")
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        assert caller.receive() == (wire.SIGNAL, b"2")
    caller.send(wire.ERRORS, b"srun: interrupt\n")
    assert process.stderr is not None
    process.stderr.readline()  # so it heard an answer, and counts anew
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        assert caller.receive() == (wire.SIGNAL, b"2")
    process.send_signal(signal.SIGTERM)

    assert process.wait(SECONDS) == -signal.SIGTERM


def test_a_stopped_shim_goes_on_where_it_was(reception: Reception) -> None:
    process, caller = reception.call(reception.folder / "srun", preexec_fn=os.setpgrp)
    caller.send(wire.OUTPUT, b"a")
    assert process.stdout is not None
    assert process.stdout.read(1) == b"a"

    process.send_signal(signal.SIGTSTP)
    assert caller.receive() == (wire.SIGNAL, b"20")
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    caller.send(wire.OUTPUT, b"b")
    process.send_signal(signal.SIGCONT)
    assert caller.receive() == (wire.SIGNAL, b"18")
    assert process.stdout.read(1) == b"b"
    caller.end(0)
    assert process.wait(SECONDS) == 0


# --- a terminal


def test_at_a_terminal_lines_interrupts_and_the_end_of_input_arrive(reception: Reception) -> None:
    ours, theirs = pty.openpty()
    process = reception.start(
        sys.executable,
        "-c",
        "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
        "os.execv(sys.argv[1], sys.argv[1:])",
        str(reception.folder / "srun"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    caller = reception.accept()
    caller.send(wire.READ)
    os.write(ours, b"hello\n")
    assert caller.receive() == (wire.INPUT, b"hello\n")
    os.write(ours, b"\x03")
    assert caller.receive() == (wire.SIGNAL, b"2")
    os.write(ours, b"\x04")
    assert caller.receive() == (wire.INPUT, b"")
    os.close(ours)  # the terminal's window is closed
    signals = {caller.receive(), caller.receive()}  # which of both is told first is the kernel's
    assert signals == {(wire.SIGNAL, b"1"), (wire.SIGNAL, b"18")}
    caller.end(0)
    assert process.wait(SECONDS) == 0
