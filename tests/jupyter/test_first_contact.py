"""%bridge to a head behind a real sshd: its steps as they end, its questions in the cell."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.heads import Head, MakeHead
from tests.support.notebook import Cell, Notebook, running_notebook

pytestmark = pytest.mark.sshd


@pytest.fixture
def notebook(near_home: Path) -> Iterator[Notebook]:
    with running_notebook() as running:
        running.execute("%load_ext smartsim_bridge")
        yield running


def connecting(head: Head) -> str:
    return f"%bridge head --ssh-config {head.sshd.ssh_config} --python {head.python}"


def test_a_server_is_started_and_each_step_is_drawn_as_it_ends(
    notebook: Notebook, make_head: MakeHead
) -> None:
    cell = notebook.execute(connecting(make_head()))
    assert cell.error == ""
    (last,) = cell.displays
    steps = ("connect", "host key", "authenticate", "probe", "launch", "handshake")
    seen = [[step in drawn["text/plain"] for step in steps] for drawn in cell.drawings]
    assert seen[0] == [False] * len(steps)
    assert seen[-1] == [True] * len(steps)
    assert len({tuple(one) for one in seen}) >= len(steps)
    assert "Connected to head" in last["text/html"]
    assert cell.result["text/plain"].startswith("<Bridge connected by ")
    assert notebook.execute("%bridge --stop").error == ""


@pytest.mark.root
def test_a_password_is_asked_once_and_not_again_by_the_same_cell(
    notebook: Notebook, make_head: MakeHead
) -> None:
    head = make_head("PubkeyAuthentication no", "PasswordAuthentication yes")
    password = head.sshd.user.known_password()
    assert "Connected to head" in _asked(notebook, head, password).displays[0]["text/plain"]
    assert _asked(notebook, head).asked == []
    assert notebook.execute("%bridge --stop").error == ""


def _asked(notebook: Notebook, head: Head, *answers: str) -> Cell:
    cell = notebook.execute(connecting(head), *answers)
    assert cell.error == ""
    assert [secret for _, secret in cell.asked] == [True] * len(answers)
    return cell


def test_a_question_that_is_interrupted_is_a_keyboard_interrupt_in_the_cell(
    notebook: Notebook, make_head: MakeHead
) -> None:
    head = make_head("PubkeyAuthentication no", "PasswordAuthentication yes")
    cell = notebook.execute(connecting(head))
    assert len(cell.asked) == 1
    assert cell.error.startswith("KeyboardInterrupt: ")
    assert cell.displays[0]["text/plain"].startswith("✗ Not connected to head")
