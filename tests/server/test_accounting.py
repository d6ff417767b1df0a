"""What a server finds out about accounting, and how often it asks."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

from smartsim_bridge.server.accounting import Accounting
from tests.support.loops import run
from tests.support.waiting import wait_until


def ask(directory: Path, body: str, seconds: float = 20.0) -> list[str]:
    """The answers to two who ask at once, and to one who asks later."""
    sacct = directory / "sacct"
    sacct.write_text(f"#!/bin/sh\necho $$ >> {directory}/runs\n{body}\n", "ascii")
    sacct.chmod(0o755)

    async def both() -> list[str]:
        environment = {**os.environ, "PATH": f"{directory}:{os.environ['PATH']}"}
        accounting = Accounting(environment, str(directory), seconds)
        first, second = accounting.ask(), accounting.ask()
        return [await first, await second, await accounting.ask()]

    return run(both())


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("exit 0", ""),
        ("echo one >&2; echo 'error: refused' >&2; exit 1", "error: refused"),
        ("exit 3", "no word why"),
        ("kill -TERM $$", ""),  # somebody ended it: of accounting that says nothing
    ],
)
def test_one_sacct_tells_all_who_ask(tmp_path: Path, body: str, why: str) -> None:
    assert ask(tmp_path, body) == [why] * 3
    assert len((tmp_path / "runs").read_text("ascii").split()) == 1


def test_one_that_hangs_is_ended_with_what_it_started(tmp_path: Path) -> None:
    body = f"sleep 600 & echo $! >> {tmp_path}/runs; wait"
    assert ask(tmp_path, body, 0.5) == ["no answer in 0.5 s"] * 3
    for pid in (tmp_path / "runs").read_text("ascii").split():
        wait_until(partial(_is_over, pid))


def test_without_sacct_nothing_is_said(tmp_path: Path) -> None:
    async def ask_there() -> str:
        return await Accounting({"PATH": str(tmp_path)}, str(tmp_path)).ask()

    assert run(ask_there()) == ""


def _is_over(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True
