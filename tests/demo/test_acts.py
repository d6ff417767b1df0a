"""The acts show what a bridge does, and fail where it does something else."""

from __future__ import annotations

import io
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import pytest

from smartsim_bridge import Rung
from smartsim_bridge.demo import acts
from smartsim_bridge.demo.screen import Screen
from smartsim_bridge.errors import CommandServerError

if TYPE_CHECKING:
    from smartsim_bridge import Bridge


@dataclass(frozen=True)
class Status:
    transport: str = "tunnel"
    server_host: str = "login1"
    server_pid: int = 77
    version: str = "1.2"
    started: bool = True
    rungs: tuple[Rung, ...] = (
        Rung("local", held=False, reason="not on the head", tried=False),
        Rung("direct", held=False, reason="no beacon"),
        Rung("tunnel", held=True, reason="", seconds=0.25),
    )


@dataclass
class LocalBridge:
    """Runs everything here: what the real bridge promises to look like."""

    said: list[str] = field(default_factory=list)

    def run(self, args: list[str], **keywords: Any) -> subprocess.CompletedProcess[str]:
        self.said.append(args[0])
        return subprocess.run(args, capture_output=True, text=True, **keywords)  # noqa: PLW1510

    def popen(self, args: list[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            args,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def status(self) -> Status:
        return Status()


class ForgetfulBridge(LocalBridge):
    """Loses exit codes."""

    def run(self, args: list[str], **keywords: Any) -> subprocess.CompletedProcess[str]:
        done = super().run(args, **keywords)
        done.returncode = 0
        return done


class LateBridge(LocalBridge):
    """Gives the output when all of it is there."""

    def popen(self, args: list[str]) -> subprocess.Popen[str]:
        process = super().popen(args)
        assert process.stdout is not None
        with process.stdout as stdout:
            process.stdout = io.StringIO(stdout.read())
        return process


@pytest.fixture
def screen() -> Screen:
    return Screen(io.StringIO())


@pytest.fixture(autouse=True)
def short_naps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acts, "PAUSE", 0.02)
    monkeypatch.setattr(acts, "AT_ONCE_LIMIT", 60.0)  # whatever else this machine does


def shown(screen: Screen) -> str:
    out = screen._out
    assert isinstance(out, io.StringIO)
    return out.getvalue()


def as_bridge(stand_in: LocalBridge) -> Bridge:
    return cast("Bridge", stand_in)


def test_commands_at_once_are_timed_together(screen: Screen) -> None:
    acts.act_at_once(as_bridge(LocalBridge()), screen)
    assert "one by one       4.00 s" in shown(screen)


def test_commands_that_wait_for_each_other_fail_the_demo(
    monkeypatch: pytest.MonkeyPatch, screen: Screen
) -> None:
    monkeypatch.setattr(acts, "AT_ONCE_LIMIT", 0.0)
    with pytest.raises(CommandServerError, match="one waited for another"):
        acts.act_at_once(as_bridge(LocalBridge()), screen)


def test_lines_are_shown_as_they_come(screen: Screen) -> None:
    acts.act_streaming(as_bridge(LocalBridge()), screen)
    assert "step 5 of 5\n" in shown(screen)


def test_lines_that_come_at_the_end_fail_the_demo(
    monkeypatch: pytest.MonkeyPatch, screen: Screen
) -> None:
    monkeypatch.setattr(acts, "HELD_SECONDS", 0.1)
    with pytest.raises(CommandServerError, match="when the command had ended"):
        acts.act_streaming(as_bridge(LateBridge()), screen)


def test_failures_look_like_those_of_subprocess(screen: Screen) -> None:
    acts.act_failures(as_bridge(LocalBridge()), screen)
    assert shown(screen).splitlines()[2:] == [
        "  fails            returncode 3, 'no such partition: gpuu'",
        "  is terminated    returncode -15",
        "  is not there     FileNotFoundError",
        "  takes too long   TimeoutExpired",
    ]


def test_lost_exit_code_fails_the_demo(screen: Screen) -> None:
    with pytest.raises(CommandServerError, match="gave returncode 0"):
        acts.act_failures(as_bridge(ForgetfulBridge()), screen)


def test_round_trip_is_shown_beside_a_login(screen: Screen) -> None:
    logins: list[int] = []
    acts.act_speed(as_bridge(LocalBridge()), screen, lambda: logins.append(1))
    assert len(logins) == acts.FRESH_LOGINS
    assert "ssh HOST true" in shown(screen)


def test_status_tells_every_rung_with_its_reason(screen: Screen) -> None:
    acts.act_status(as_bridge(LocalBridge()), screen)
    assert shown(screen).splitlines()[2:] == [
        "  transport        tunnel",
        "  server           pid 77 on login1, version 1.2, started by us",
        "  rung local       not tried: not on the head",
        "  rung direct      no beacon",
        "  rung tunnel      held after 0.250 s",
    ]
