"""Which engine makes the connection, and what is run to find that out."""

from __future__ import annotations

from pathlib import Path

import pytest

from smartsim_bridge.client import reach
from smartsim_bridge.deadline import Deadline
from smartsim_bridge.errors import UnsupportedSshConfig
from smartsim_bridge.settings import Settings
from smartsim_bridge.ssh.target import resolve_target


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only directory of PATH, with an ssh that writes down that it was run."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory))
    write(directory / "ssh", f"echo run >> {tmp_path}/ssh-was-run; exit 255")
    return directory


def write(program: Path, script: str) -> None:
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def why(tmp_path: Path, *lines: str, engine: str = "auto") -> str:
    config = tmp_path / "config"
    config.write_text("".join(f"{line}\n" for line in lines))
    config.chmod(0o600)
    environ = {"HOME": str(tmp_path), "USER": "me"}
    settings = Settings.gather(environ=environ, addr="login1", ssh_config=str(config), ssh=engine)
    target = resolve_target(
        "login1", ssh_config=str(config), local_user="me", home=str(tmp_path), environment=environ
    )
    return reach._why_openssh(target, settings, Deadline(60))


def test_a_plain_host_is_paramikos_and_ssh_is_not_even_asked(
    programs: Path, tmp_path: Path
) -> None:
    assert why(tmp_path, "User me") == ""
    assert not (tmp_path / "ssh-was-run").exists()


def test_where_a_control_path_is_named_ssh_is_asked(programs: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedSshConfig):  # what this ssh says to everything
        why(tmp_path, "ControlPath ~/.ssh/cm-%C")
    assert (tmp_path / "ssh-was-run").exists()


def test_where_paramiko_was_asked_for_nothing_else_counts(programs: Path, tmp_path: Path) -> None:
    lines = ("ControlPath ~/.ssh/cm-%C", "GSSAPIAuthentication yes")
    assert why(tmp_path, *lines, engine="paramiko") == ""
    assert not (tmp_path / "ssh-was-run").exists()


@pytest.mark.parametrize(
    ("status", "gssapi", "reason"),
    [(0, "yes", "Kerberos"), (1, "yes", ""), (0, "no", "")],
)
def test_a_ticket_counts_where_it_may_log_in(
    status: int, gssapi: str, reason: str, programs: Path, tmp_path: Path
) -> None:
    write(programs / "klist", f'[ "$*" = -s ] && exit {status}')
    said = why(tmp_path, f"GSSAPIAuthentication {gssapi}")
    assert reason in said
    assert bool(said) == bool(reason)


def test_without_klist_there_is_no_ticket(programs: Path, tmp_path: Path) -> None:
    assert why(tmp_path, "GSSAPIAuthentication yes") == ""


def test_without_an_ssh_there_is_no_choice(programs: Path, tmp_path: Path) -> None:
    (programs / "ssh").unlink()
    write(programs / "klist", "exit 0")
    assert why(tmp_path, "GSSAPIAuthentication yes", "ControlPath ~/.ssh/cm-%C") == ""


def test_without_an_ssh_what_paramiko_cannot_do_is_still_refused(
    programs: Path, tmp_path: Path
) -> None:
    (programs / "ssh").unlink()
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
    (tmp_path / "known").write_text(f"login1 {key}\n@revoked login1 {key}\n")
    with pytest.raises(UnsupportedSshConfig, match="@revoked"):
        why(tmp_path, f"UserKnownHostsFile {tmp_path}/known")
