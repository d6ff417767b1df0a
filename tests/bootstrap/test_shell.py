from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from smartsim_bridge.bootstrap import shell as shell_module
from smartsim_bridge.bootstrap.host import LocalHost, Pipe
from smartsim_bridge.bootstrap.shell import Answer, Shell
from smartsim_bridge.deadline import Deadline
from smartsim_bridge.errors import CommandsForbidden, LaunchFailed, ProbeFailed
from tests.bootstrap.samples import CREDENTIALS, NONCE, Head, write_program
from tests.support.waiting import wait_until


def ask(shell: Shell, lines: str) -> Answer:
    return shell.ask(f"mine() {{\n{lines}\n}}", "mine", step="probe", failure=ProbeFailed)


@contextmanager
def hurried(host: LocalHost, seconds: float = 0.2) -> Iterator[Shell]:
    with Shell(host, deadline=Deadline(seconds), nonce=NONCE) as shell:
        yield shell


def test_answer_and_status_come_back(head: Head) -> None:
    with head.shell() as shell:
        assert ask(shell, "echo out; echo err >&2; exit 3") == Answer(3, "out\nerr\n\n")


def test_one_shell_answers_many_questions(head: Head) -> None:
    with head.shell() as shell:
        pids = {ask(shell, "echo $PPID $$").text.split()[-1] for _ in range(3)}

    assert len(pids) == 1


def test_questions_do_not_touch_each_other(head: Head) -> None:
    with head.shell() as shell:
        ask(shell, "A=1; cd /; set -f; export LC_ALL=xyz; exec true")

        assert ask(shell, 'echo "$A|$LC_ALL|"; pwd').text.split() == ["||", str(head.home)]


def test_a_question_cannot_eat_the_next(head: Head) -> None:
    with head.shell() as shell:
        assert ask(shell, "cat; read -r line; echo one").text == "one\n\n"
        assert ask(shell, "echo two").text == "two\n\n"


def test_the_prelude_runs_once_and_what_it_loads_stays(head: Head) -> None:
    with head.shell(prelude="echo loading; export LOADED=yes") as shell:
        assert ask(shell, "echo $LOADED").text == "loading\nyes\n\n"
        assert ask(shell, "echo $LOADED").text == "yes\n\n"


def test_what_start_up_files_complain_is_kept(head: Head) -> None:
    login = write_program(head.programs / "noisy", 'echo motd; echo warning >&2; eval "$2"')
    with head.shell(str(login)) as shell:
        assert ask(shell, "echo mine") == Answer(0, "mine\n\n", "motd\nwarning\n")


def test_a_shell_that_ends_leaves_no_status(head: Head) -> None:
    with head.shell(prelude="echo bye; exit 5") as shell:
        assert ask(shell, "echo never") == Answer(None, "bye\n")


def test_a_shell_that_does_not_even_start_is_an_error_with_what_it_said(head: Head) -> None:
    login = write_program(head.programs / "nologin", "echo go away >&2; exit 1")
    with head.shell(str(login)) as shell, pytest.raises(CommandsForbidden) as raised:
        ask(shell, "echo never")

    assert raised.value.noise == "  go away"
    assert "[host me@login1, step probe]" in str(raised.value)


def test_bytes_that_are_no_text_survive(head: Head) -> None:
    with head.shell() as shell:
        said = ask(shell, "printf '\\377\\n'").text

    assert said.encode("utf-8", "surrogateescape") == b"\xff\n\n"


def test_a_hanging_start_up_file_ends_with_the_deadline_and_is_quoted(
    head: Head, monkeypatch: pytest.MonkeyPatch
) -> None:
    login = write_program(head.programs / "hanging", "echo checking quota; exec sleep 1000")
    with head.shell(str(login)) as shell:
        _hurry_after(b"quota", shell, monkeypatch)
        with pytest.raises(ProbeFailed) as raised:
            ask(shell, "echo never")

    assert "The shell did not answer in time [host me@login1, step probe]" in str(raised.value)
    assert raised.value.noise == "  checking quota"


def _hurry_after(words: bytes, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline is near once the host has said that much, however long it took to start."""
    open_stdio = shell._connection.open_stdio

    def open_and_hear(command: str, *, deadline: Deadline | None = None) -> Pipe:
        pipe = open_stdio(command, deadline=deadline)
        wait_until(lambda: words in pipe.socket.recv(1000, socket.MSG_PEEK))
        shell.deadline = Deadline(0.2)
        return pipe

    monkeypatch.setattr(shell._connection, "open_stdio", open_and_hear)


def test_the_fault_is_the_one_that_was_asked_for(head: Head) -> None:
    with hurried(head.host()) as shell, pytest.raises(LaunchFailed, match="step launch"):
        shell.ask("hang() {\nsleep 1000\n}", "hang", step="launch", failure=LaunchFailed)


def test_a_deadline_that_is_over_asks_nothing(head: Head) -> None:
    with hurried(head.host(), 0.0) as shell, pytest.raises(ProbeFailed, match="in time"):
        ask(shell, 'touch "$HOME/asked"')

    assert not (head.home / "asked").exists()


def test_a_host_that_talks_without_end_is_left(head: Head, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell_module, "ANSWER_LIMIT", 100_000)
    endless = head.shell(prelude="while :; do echo y; done")
    with endless as shell, pytest.raises(ProbeFailed, match="talks without end") as raised:
        ask(shell, "echo never")

    assert len(raised.value.noise) < 10_000


def test_keys_in_a_cut_answer_are_not_quoted(head: Head) -> None:
    keys = CREDENTIALS.to_json()
    with hurried(head.host(), 0.5) as shell, pytest.raises(ProbeFailed) as raised:
        ask(shell, f"echo '{NONCE} beacon_key={keys[:60]}'; echo '{keys[60:]}'; sleep 1000")

    assert raised.value.noise == ""


@pytest.mark.parametrize("length", [2, 100, 1000, 3000, 5000, 7000])
def test_a_question_that_is_cut_off_does_nothing(
    head: Head, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    def send_a_part(shell: Shell, stream: socket.socket, question: str) -> None:
        stream.sendall(question.encode()[:-length])
        stream.shutdown(socket.SHUT_WR)

    monkeypatch.setattr(Shell, "_send", send_a_part)
    filler = "# filler\n" * 700
    shell = head.shell(prelude='touch "$HOME/prelude"')
    with shell, pytest.raises(ProbeFailed, match="did not run our script"):
        ask(shell, f'touch "$HOME/asked"\n{filler}')

    assert list(head.home.iterdir()) == []


def test_closing_twice_or_unasked_does_no_harm(head: Head) -> None:
    shell = head.shell()
    shell.close()
    ask(shell, "true")
    shell.close()
    shell.close()


def test_a_slow_shell_is_told_that_this_was_all_and_the_next_one_is_waited_for(
    head: Head, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell_module, "PATIENCE", 0.05)
    login = write_program(head.programs / "slow", """read -r go <"$HOME/fifo"; eval "$2" """)
    os.mkfifo(head.home / "fifo")

    def let_start() -> None:
        (head.home / "fifo").write_text("go\n")  # waits for its reader

    def let_start_late() -> None:
        wait_until(lambda: shell._is_last)
        let_start()

    with head.shell(str(login), prelude="LOADED=yes") as shell, ThreadPoolExecutor(1) as thread:
        thread.submit(let_start_late)
        first = ask(shell, "echo $$")
        thread.submit(let_start)
        second = ask(shell, "echo $LOADED $$")
        third = ask(shell, "echo $$")

    assert (first.status, second.status) == (0, 0)
    assert second.text.split()[0] == "yes"
    assert second.text.split()[1] != first.text.strip()
    assert second.text.split()[1] == third.text.strip()


def test_a_shell_that_is_ours_may_be_silent_for_long(
    head: Head, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(head.home / "fifo")
    late = threading.Timer(0.5, (head.home / "fifo").write_text, ["go\n"])
    with head.shell() as shell:
        first = ask(shell, "echo $$")
        monkeypatch.setattr(shell_module, "PATIENCE", 0.2)  # not before: it must start, too
        late.start()
        ask(shell, f"read -r go <'{head.home}/fifo'")
        assert ask(shell, "echo $$") == first
    late.join()


def test_each_shell_has_its_own_nonce(head: Head) -> None:
    nonces = {Shell(head.host(), deadline=Deadline(1)).nonce for _ in range(10)}

    assert len(nonces) == 10
