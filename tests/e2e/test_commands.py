"""`run` and `popen` on a real head behave as those of subprocess do here."""

from __future__ import annotations

import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from smartsim_bridge import Bridge
from tests.support.heads import Head, MakeHead, is_running
from tests.support.waiting import wait_until

pytestmark = pytest.mark.sshd

MANY = 50


def test_status_and_both_streams_come_back(bridge: Bridge) -> None:
    finished = bridge.run(["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert finished.returncode == 3
    assert (finished.stdout, finished.stderr) == ("out\n", "err\n")
    assert finished.args == ["sh", "-c", "echo out; echo err >&2; exit 3"]


def test_bytes_that_are_no_text_survive(bridge: Bridge) -> None:
    every = bytes(range(256)) * 400
    assert bridge.run(["cat"], input=every, text=False).stdout == every


def test_text_with_stray_bytes_does_not_raise(bridge: Bridge) -> None:
    assert bridge.run(["printf", r"job \377 17"]).stdout == "job \N{REPLACEMENT CHARACTER} 17"


def test_megabytes_come_through_both_ways(bridge: Bridge) -> None:
    much = bytes(i * 7 % 251 for i in range(1 << 20)) * 8
    finished = bridge.run(["sh", "-c", "tee /dev/stderr"], input=much, text=False, timeout=60)
    assert finished.stdout == much
    assert finished.stderr == much


def test_a_signal_is_a_negative_status(bridge: Bridge) -> None:
    assert bridge.run(["sh", "-c", "kill -9 $$"]).returncode == -signal.SIGKILL


def test_check_raises_with_what_was_said(bridge: Bridge) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        bridge.run(["sh", "-c", "echo no such partition >&2; exit 1"], check=True)
    assert caught.value.returncode == 1
    assert caught.value.stderr == "no such partition\n"


def test_an_unknown_program_is_not_found(bridge: Bridge) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        bridge.run(["sbatsch", "job.sh"])
    assert caught.value.filename == "sbatsch"


def test_a_directory_is_no_program(bridge: Bridge) -> None:
    with pytest.raises(PermissionError):
        bridge.run(["/tmp"])


def test_an_unknown_directory_is_not_found(bridge: Bridge) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        bridge.run(["true"], cwd="/nowhere/at/all")
    assert caught.value.filename == "/nowhere/at/all"


def test_words_reach_the_command_unread_by_a_shell(bridge: Bridge) -> None:
    words = ["$HOME", "*", "a b", "'", '"', ";", "\\", "\n", "", "héé"]
    said = bridge.run(["printf", r"%s\0", *words]).stdout
    assert said.split("\0")[:-1] == words


def test_a_shell_reads_the_line_where_it_is_asked_for(bridge: Bridge, busy_head: Head) -> None:
    finished = bridge.run("echo $HOME | tr a-z A-Z", shell=True)
    assert finished.stdout.strip() == str(busy_head.sshd.home).upper()


def test_cwd_and_env_are_those_of_the_head(bridge: Bridge, busy_head: Head) -> None:
    finished = bridge.run(
        ["sh", "-c", "pwd; echo $COLOUR $HOME"], cwd="/usr", env={"COLOUR": "red"}
    )
    assert finished.stdout == f"/usr\nred {busy_head.sshd.home}\n"


def test_without_cwd_a_command_starts_in_the_home(bridge: Bridge, busy_head: Head) -> None:
    assert bridge.run(["pwd"]).stdout == f"{busy_head.sshd.home}\n"


def test_without_input_stdin_is_empty(bridge: Bridge) -> None:
    assert bridge.run(["cat"], timeout=60).stdout == ""


def test_a_time_limit_ends_the_whole_process_group(bridge: Bridge) -> None:
    script = "echo $$; sh -c 'echo $$; sleep 600' & sh -c 'echo $$; exec sleep 600'"
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        bridge.run(["sh", "-c", script], timeout=3.0)
    assert caught.value.timeout == 3.0
    output = caught.value.output
    assert output is not None
    pids = [int(word) for word in output.split()]
    assert len(pids) == 3
    for pid in pids:
        wait_until(lambda pid=pid: not is_running(pid))  # type: ignore[misc]
    assert bridge.run(["echo", "usable"]).stdout == "usable\n"


def test_a_time_limit_ends_one_that_ignores_sigterm(bridge: Bridge) -> None:
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        bridge.run(["sh", "-c", "trap '' TERM; echo $$; while :; do sleep 1; done"], timeout=3.0)
    assert caught.value.output is not None
    pid = int(caught.value.output)
    wait_until(lambda: not is_running(pid))


def test_many_commands_run_at_the_same_time_and_none_waits_for_another(bridge: Bridge) -> None:
    # They end when they are told to, not after a time: so what is seen while they run is
    # no question of how fast this machine is.
    held = [bridge.popen(["cat"]) for _ in range(MANY)]
    assert bridge.status().running >= MANY
    assert bridge.run(["true"]).returncode == 0
    assert [command.poll() for command in held] == [None] * MANY
    for command in held:
        command.communicate()
    assert [command.returncode for command in held] == [0] * MANY


def test_many_sleepers_of_many_threads_overlap(bridge: Bridge, busy_head: Head) -> None:
    go = f"{busy_head.sshd.home}/go-{bridge.status().transport}"
    words = ["sh", "-c", f"while [ ! -e {go} ]; do sleep 0.1; done"]
    with ThreadPoolExecutor(MANY) as pool:
        sleeping = [pool.submit(bridge.run, words) for _ in range(MANY)]
        try:
            wait_until(lambda: bridge.status().running >= MANY)
        finally:
            assert bridge.run(["touch", go]).returncode == 0
        assert all(one.result().returncode == 0 for one in sleeping)


def test_output_arrives_while_the_command_runs(bridge: Bridge) -> None:
    with bridge.popen(["sh", "-c", "echo ready; read word; echo got $word"]) as command:
        assert command.stdin is not None
        assert command.stdout is not None
        assert command.stdout.readline() == "ready\n"
        assert command.poll() is None
        command.stdin.write("this\n")
        command.stdin.flush()
        assert command.stdout.readline() == "got this\n"
    assert command.returncode == 0


def test_a_signal_reaches_the_whole_group(bridge: Bridge) -> None:
    script = "sleep 600 & echo $!; wait"
    command = bridge.popen(["sh", "-c", script])
    assert command.stdout is not None
    child = int(command.stdout.readline())
    command.terminate()
    assert command.wait(60) == -signal.SIGTERM
    wait_until(lambda: not is_running(child))


def test_wait_with_a_limit_leaves_the_command_running(bridge: Bridge) -> None:
    command = bridge.popen(["cat"], text=False)
    with pytest.raises(subprocess.TimeoutExpired):
        command.wait(0.05)
    assert command.poll() is None
    assert command.communicate(b"still here") == (b"still here", b"")


def test_stderr_may_join_stdout(bridge: Bridge) -> None:
    finished = bridge.run(["sh", "-c", "echo a; echo b >&2; echo c"], stderr=subprocess.STDOUT)
    assert finished.stdout == "a\nb\nc\n"
    assert not finished.stderr


def test_the_enclosing_job_does_not_leak_into_commands(
    make_variables: None, bridge: Bridge
) -> None:
    said = bridge.run(["env"]).stdout
    assert "SLURM_" not in said
    assert "SMARTSIM_BRIDGE_" not in said


@pytest.fixture
def make_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("SMARTSIM_BRIDGE_TIMEOUT", "20")


def test_a_large_input_to_one_that_reads_nothing_does_not_hang(bridge: Bridge) -> None:
    finished = bridge.run(["sh", "-c", "exec <&-; echo done"], input="x" * (4 << 20), timeout=60)
    assert finished.stdout == "done\n"


@pytest.mark.usefixtures("make_variables")
def test_what_is_kept_of_the_enclosing_job_goes_along(
    make_head: MakeHead, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CPU_BIND", "quiet")
    bridge = make_head().init(autostart=True, keep_env=["SLURM_CPU_*"])
    said = bridge.run(["env"]).stdout
    assert "SLURM_CPU_BIND=quiet\n" in said
    assert "SLURM_JOB_ID" not in said
