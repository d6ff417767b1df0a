"""The demo, whole: what it shows, what it leaves, and how it fails."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from smartsim_bridge import Bridge, init_command_server
from smartsim_bridge.demo import acts, show
from smartsim_bridge.demo.embedded import EmbeddedHeadNode
from smartsim_bridge.demo.show import main
from smartsim_bridge.errors import CommandServerError
from tests.support.heads import MakeHead

STAGES = (
    *("resolve", "connect", "host key", "authenticate", "probe", "upload", "launch"),
    *("tunnel", "handshake"),
)


@pytest.fixture
def shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acts, "PAUSE", 0.05)
    monkeypatch.setattr(acts, "ROUND_TRIPS", 5)
    monkeypatch.setattr(acts, "AT_ONCE_LIMIT", 60.0)  # whatever else this machine does


@pytest.fixture
def own_head() -> Iterator[EmbeddedHeadNode]:
    """Stands for a head of the user's: the demo is told how to reach it."""
    with EmbeddedHeadNode() as node:
        yield node


def to_reach(head: EmbeddedHeadNode) -> list[str]:
    return ["--addr", head.addr, "--ssh-config", str(head.ssh_config)]


@contextmanager
def running_server(head: EmbeddedHeadNode) -> Iterator[Bridge]:
    bridge = init_command_server(
        addr=head.addr, ssh_config=str(head.ssh_config), autostart=True, timeout=60
    )
    try:
        yield bridge
    finally:
        bridge.shutdown()


@pytest.mark.usefixtures("shorter")
def test_demo_shows_each_stage_and_leaves_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([]) == 0
    shown = capsys.readouterr()
    lines = [line.strip() for line in shown.out.splitlines()]
    assert [name for name in STAGES if not any(line.startswith(name) for line in lines)] == []
    assert "transport        tunnel" in lines
    assert "processes        none left" in lines
    assert "files            none left" in lines
    assert "demo:" not in shown.err


@pytest.mark.usefixtures("shorter")
def test_demo_is_not_led_astray_by_the_settings_of_the_user(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SMARTSIM_BRIDGE_JUMP", "nowhere.invalid")
    assert main([]) == 0
    assert os.environ["SMARTSIM_BRIDGE_JUMP"] == "nowhere.invalid"


@pytest.mark.usefixtures("shorter")
def test_demo_on_the_own_head_ends_the_server_it_started(
    own_head: EmbeddedHeadNode, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(to_reach(own_head)) == 0
    assert "shutdown_command_server()" in capsys.readouterr().out
    own_head.close()
    assert own_head.left == ()


@pytest.mark.usefixtures("shorter")
def test_demo_on_the_own_head_keeps_a_server_that_ran_before(
    own_head: EmbeddedHeadNode, capsys: pytest.CaptureFixture[str]
) -> None:
    with running_server(own_head) as bridge:
        assert main(to_reach(own_head)) == 0
        assert "keeps running" in capsys.readouterr().out
        assert bridge.run(["true"]).returncode == 0


@pytest.mark.sshd
@pytest.mark.usefixtures("shorter")
def test_demo_runs_against_a_real_sshd(
    make_head: MakeHead, capsys: pytest.CaptureFixture[str]
) -> None:
    head = make_head()
    words = ["--ssh-config", str(head.sshd.ssh_config), "--python", head.python]
    assert main(["--addr", "head", *words]) == 0
    shown = capsys.readouterr().out
    assert "transport        tunnel" in shown
    assert "started by us" in shown
    assert head.server_pids() == []


def test_demo_that_cannot_reach_the_head_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "ssh_config"
    config.write_text("Host closed\n  HostName 127.0.0.1\n  Port 1\n")
    assert main(["--addr", "closed", "--ssh-config", str(config)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("\ndemo: ")
    assert "127.0.0.1:1" in said
    assert "step connect" in said
    assert "Traceback" not in said


def test_demo_that_sees_something_wrong_fails_and_still_cleans_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def wrong(*_: object) -> None:
        raise CommandServerError("The demo saw something else", step="demo")

    heads: list[EmbeddedHeadNode] = []

    class Noted(EmbeddedHeadNode):
        def __init__(self) -> None:
            super().__init__()
            heads.append(self)

    monkeypatch.setattr(show, "act_status", wrong)
    monkeypatch.setattr(show, "EmbeddedHeadNode", Noted)
    assert main([]) == 1
    assert "The demo saw something else" in capsys.readouterr().err
    (head,) = heads
    assert head.left == ()
    assert not head.directory.exists()


def test_interrupted_demo_ends_as_shells_expect(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(show, "act_status", interrupt)
    assert main([]) == 130
