from __future__ import annotations

import pytest

from smartsim_bridge.bootstrap.host import Host, LocalHost
from smartsim_bridge.deadline import Deadline
from smartsim_bridge.errors import BootstrapFailed
from tests.bootstrap.samples import Head


def test_this_machine_is_a_host(deadline: Deadline) -> None:
    host: Host = LocalHost()

    assert host.execute("exit 3", deadline=deadline).status == 3


def test_both_streams_and_the_status_come_back(head: Head, deadline: Deadline) -> None:
    answer = head.host().execute("cat; echo err >&2; exit 7", stdin=b"\0\xff", deadline=deadline)

    assert (answer.status, answer.stdout, answer.stderr) == (7, b"\0\xff", b"err\n")


def test_a_signal_is_no_exit_status(head: Head, deadline: Deadline) -> None:
    assert head.host().execute("kill -9 $$", deadline=deadline).status == -9


def test_a_command_starts_in_the_home_as_sshd_would_have_it(head: Head, deadline: Deadline) -> None:
    answer = head.host().execute("echo $HOME; pwd", deadline=deadline)

    assert answer.stdout.decode().split() == [str(head.home)] * 2


def test_a_home_that_is_not_there_does_not_matter(head: Head, deadline: Deadline) -> None:
    head.home.rmdir()

    assert head.host().execute("pwd", deadline=deadline).stdout == b"/\n"


def test_a_command_without_limit_ends_by_itself(head: Head) -> None:
    assert head.host().execute("exit 0", deadline=Deadline(None)).status == 0


def test_a_command_that_does_not_read_is_no_trouble(head: Head, deadline: Deadline) -> None:
    assert head.host().execute("exit 0", stdin=b"x" * 1_000_000, deadline=deadline).status == 0


def test_the_deadline_ends_the_command_and_its_children(head: Head) -> None:
    with pytest.raises(BootstrapFailed) as raised:
        head.host().execute("sleep 1000 | sleep 1000", deadline=Deadline(0.1))

    assert raised.value.host == "me@login1"
    assert "within the 0.1 s" in str(raised.value)


def test_the_representation_names_the_target() -> None:
    assert repr(LocalHost("here")) == "LocalHost('here')"
