"""The step to another head, with an ssh that plays the other head."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from smartsim_bridge.bootstrap.hop import hop
from smartsim_bridge.deadline import Deadline
from smartsim_bridge.errors import HostUnreachable, LaunchFailed
from tests.bootstrap.samples import Head


def said_after(head: Head, host: str, script: str) -> str:
    """What a shell prints that was sent one step further, and then `script`."""
    pipe = head.host().open_stdio("/bin/sh")
    try:
        hop(pipe, host, deadline=Deadline(60))
        with suppress(BrokenPipeError):  # the step may have failed by now
            pipe.socket.sendall(script.encode())
        pipe.socket.settimeout(60)
        said = b""
        while piece := pipe.socket.recv(4096):
            said += piece
        return said.decode() + pipe.noise
    finally:
        pipe.close()


def test_what_is_sent_after_the_step_is_run_by_the_other_shell(head: Head) -> None:
    head.add_program("ssh", 'for last; do :; done; there=yes exec "$last"')

    assert said_after(head, "login1", 'echo "there: $there"\nexit\n') == "there: yes\n"


def test_ssh_may_ask_nobody_and_trusts_only_hosts_that_it_knows(head: Head) -> None:
    head.add_program("ssh", 'echo "$*"')
    words = said_after(head, "login1.site", "").split()

    assert words[-3:] == ["--", "login1.site", "/bin/sh"]
    for option in ("BatchMode=yes", "StrictHostKeyChecking=yes", "ConnectTimeout=2"):
        assert option in words
    assert "-a" in words  # no agent goes along


def test_a_remote_command_in_the_ssh_config_there_does_not_disturb(
    head: Head, tmp_path: Path
) -> None:
    real = shutil.which("ssh")
    assert real is not None
    config = tmp_path / "ssh_config"
    stepped = tmp_path / "stepped"
    config.write_text(f"RemoteCommand tmux attach\nProxyCommand touch {stepped}\n")
    # Where -F is given twice, the last one counts: a trial of an option reads no config.
    head.add_program("ssh", f'exec {real} -F {config} "$@"')

    said = said_after(head, "login1", "")
    assert stepped.exists()
    assert "remote command" not in said


def test_an_old_ssh_is_not_told_what_it_does_not_know(head: Head) -> None:
    head.add_program("ssh", 'case "$*" in *-G*SessionType*) exit 255;; esac; echo "$*"')
    said = said_after(head, "login1", "")

    assert "-o RemoteCommand=none" in said
    assert "SessionType" not in said


def test_why_the_step_failed_is_noise_of_the_pipe(head: Head) -> None:
    head.add_program("ssh", "echo 'Host key verification failed.' >&2; exit 255")

    assert "Host key verification failed." in said_after(head, "login1", "")


@pytest.mark.parametrize("host", ["", "-oProxyCommand=x", "a b", "$(touch x)", "a;b", "x" * 300])
def test_a_host_that_is_no_plain_name_is_not_handed_to_a_shell(head: Head, host: str) -> None:
    with pytest.raises(HostUnreachable):
        said_after(head, host, "")


def test_a_shell_that_does_not_take_the_step_is_told_with_its_words(head: Head) -> None:
    pipe = head.host(shell="/bin/echo").open_stdio("/bin/sh")
    with pytest.raises(LaunchFailed) as raised:
        hop(pipe, "login1", deadline=Deadline(60))
    pipe.close()
    assert "-c /bin/sh" in raised.value.noise
