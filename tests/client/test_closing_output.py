"""Whoever stops reading ends the writer, as with a pipe on one machine."""

from __future__ import annotations

import signal
import subprocess

from smartsim_bridge import Bridge


def test_leaving_the_context_ends_one_that_never_stops(bridge: Bridge) -> None:
    with bridge.popen(["yes"]) as command:
        assert command.stdout is not None
        assert command.stdout.readline() == "y\n"
    assert command.returncode == -signal.SIGPIPE


def test_closing_one_stream_leaves_the_other_open(bridge: Bridge) -> None:
    script = "yes; echo over >&2"
    command = bridge.popen(["sh", "-c", script])
    assert command.stdout is not None
    assert command.stderr is not None
    assert command.stdout.readline() == "y\n"
    command.stdout.close()
    command.stdout.close()
    assert command.stderr.read().endswith("over\n")
    assert command.wait() == 0


def test_closing_what_has_ended_does_no_harm(bridge: Bridge) -> None:
    command = bridge.popen(["echo", "done"], stderr=subprocess.DEVNULL)
    assert command.wait() == 0
    assert command.stdout is not None
    command.stdout.close()
    assert bridge.run(["echo", "on"]).stdout == "on\n"


def test_what_waits_for_its_turn_may_be_closed_before(bridge: Bridge) -> None:
    commands = [bridge.popen(["yes"]) for _ in range(20)]
    for command in commands:
        assert command.stdout is not None
        command.stdout.close()
    assert {command.wait() for command in commands} == {-signal.SIGPIPE}
