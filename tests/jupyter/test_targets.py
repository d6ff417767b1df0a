"""What Tab offers after %bridge."""

from __future__ import annotations

from pathlib import Path

import pytest

from smartsim_bridge import init_command_server
from smartsim_bridge.jupyter.options import bridge_parser
from smartsim_bridge.jupyter.targets import candidates, named_hosts


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh" / "more").mkdir(parents=True)
    return tmp_path / ".ssh" / "config"


def test_names_are_hosts_and_patterns_are_not(config: Path) -> None:
    config.write_text('Host login1 "login 2" *.site !bad log?n\nUser me\nMatch all\nHOST=third\n')
    assert list(named_hosts(config)) == ["login1", "login 2", "third"]


def test_included_files_are_read_and_loops_end(config: Path) -> None:
    config.write_text("Include more/* none config\nHost last\n")
    (config.parent / "more" / "a").write_text("Host first\n")
    names = list(named_hosts(config))
    assert set(names) == {"first", "last"}


def test_what_cannot_be_read_offers_nothing(config: Path) -> None:
    assert list(named_hosts(config)) == []
    config.write_text('Host "open\nHost good\n')
    assert list(named_hosts(config)) == ["good"]


def test_the_beginning_of_a_word_decides(config: Path) -> None:
    config.write_text("Host login1 login1 other\n")
    parser = bridge_parser(init_command_server)
    assert candidates(parser, "lo") == ["login1"]
    assert candidates(parser, "--ssh-") == ["--ssh-config", "--ssh-port"]
