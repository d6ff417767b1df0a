"""The second engine against a test's sshd, and a master as a person would have started it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

import pytest

from smartsim_bridge.deadline import Deadline
from smartsim_bridge.ssh.ask import Ask
from smartsim_bridge.ssh.openssh import OpensshConnection
from smartsim_bridge.ssh.openssh_target import OpensshTarget, resolve_openssh_target
from smartsim_bridge.stages import Journey

from .sshd import ALIAS, Sshd

__all__ = ["OpenOpenssh", "live_master_of", "open_openssh", "openssh_target"]


class OpenOpenssh(Protocol):
    def __call__(
        self,
        sshd: Sshd,
        *,
        ask: Ask | None = None,
        host_keys: str = "strict",
        seconds: float = 60.0,
        journey: Journey | None = None,
        only_master: bool = False,
        **keywords: str | int | None,
    ) -> OpensshConnection: ...


def openssh_target(sshd: Sshd, spelled: str = ALIAS, **keywords: str | int | None) -> OpensshTarget:
    keywords.setdefault("ssh_config", str(sshd.ssh_config))
    return resolve_openssh_target(
        spelled,
        home=str(sshd.near_home),
        deadline=Deadline(60),
        **keywords,  # type: ignore[arg-type]
    )


@pytest.fixture
def open_openssh(tmp_path: Path) -> Iterator[OpenOpenssh]:
    """Opens connections of the second engine, which are closed with the test."""
    with ExitStack() as stack:

        def open_one(
            sshd: Sshd,
            *,
            ask: Ask | None = None,
            host_keys: str = "strict",
            seconds: float = 60.0,
            journey: Journey | None = None,
            only_master: bool = False,
            **keywords: str | int | None,
        ) -> OpensshConnection:
            connection = OpensshConnection.open(
                openssh_target(sshd, **keywords),  # type: ignore[arg-type]
                ask=ask,
                host_keys=host_keys,
                only_master=only_master,
                directory=str(tmp_path),
                deadline=Deadline(seconds),
                journey=journey or Journey(ALIAS),
            )
            return stack.enter_context(connection)

        yield open_one


@contextmanager
def live_master_of(sshd: Sshd, control_path: str | None = None) -> Iterator[Path]:
    """A master that a person logged in; the config of the near side then names its socket."""
    path = control_path or f"{sshd.near_home}/.ssh/cm-%C"
    sshd.ssh_config.write_text(sshd.ssh_config.read_text() + f'  ControlPath "{path}"\n')
    command = ["ssh", "-F", str(sshd.ssh_config), "-M", "-N", "-n", "-T", "-o", "BatchMode=yes"]
    ready = ["-o", "PermitLocalCommand=yes", "-o", "LocalCommand=echo ready"]
    with subprocess.Popen([*command, *ready, ALIAS], stdout=subprocess.PIPE) as master:
        try:
            assert master.stdout is not None
            assert master.stdout.readline() == b"ready\n"
            yield Path(openssh_target(sshd).control_path)
        finally:
            master.terminate()
