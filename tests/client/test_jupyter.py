"""A real kernel: cells run inside an event loop, and questions are asked in the cell."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.heads import MakeHead
from tests.support.local_server import LocalServer
from tests.support.notebook import Notebook, running_notebook
from tests.support.waiting import wait_until


@pytest.fixture
def notebook(near_home: Path) -> Iterator[Notebook]:
    """A kernel of this Python, in the near side's environment."""
    with running_notebook() as running:
        yield running


def test_a_cell_runs_commands_inside_the_kernels_loop(
    notebook: Notebook, shared_server: LocalServer
) -> None:
    assert "True" in notebook.run("import asyncio; asyncio.get_event_loop().is_running()")
    said = notebook.run(f"""
import os
os.environ["SMARTSIM_BRIDGE_STATE_DIR"] = {str(shared_server.state_dir)!r}
from smartsim_bridge import init_command_server
bridge = init_command_server()
print(bridge.run(["echo", "cell"]).stdout, bridge.status().server_pid)
""")
    assert said.split() == ["cell", str(shared_server.pid)]
    assert notebook.run("await asyncio.sleep(0); print(bridge.run(['echo', 'again']).stdout)") == (
        "again\n\n"
    )
    shown = notebook.run("bridge")
    assert shown.startswith("<Bridge connected by local to ")
    said = notebook.run("""
from smartsim_bridge import AsyncBridge
async with await AsyncBridge.connect() as awaited:
    print((await awaited.run(["echo", "awaited"])).stdout)
""")
    assert said.strip() == "awaited"
    assert notebook.run("bridge.run(['no-such-program'])").startswith("FileNotFoundError")


@pytest.mark.sshd
@pytest.mark.root
def test_a_password_is_asked_in_the_cell(notebook: Notebook, make_head: MakeHead) -> None:
    head = make_head("PubkeyAuthentication no", "PasswordAuthentication yes")
    password = head.sshd.user.known_password()
    said = notebook.run(
        f"""
from smartsim_bridge import init_command_server
bridge = init_command_server(
    "head", autostart=True, ssh_config={str(head.sshd.ssh_config)!r}, python={head.python!r}
)
print(bridge.status().transport, bridge.run(["id", "-un"]).stdout)
""",
        password,
    )
    assert said.split() == ["tunnel", head.sshd.user.name]
    assert [secret for _, secret in notebook.asked] == [True]
    assert head.sshd.user.name in notebook.asked[0][0]
    assert "None" in notebook.run("print(bridge.close())")


@pytest.mark.sshd
def test_an_unknown_host_key_is_asked_about_in_the_cell(
    notebook: Notebook, make_head: MakeHead
) -> None:
    head = make_head()
    head.sshd.known_hosts.write_text("")
    connect = f"""
from smartsim_bridge import init_command_server
bridge = init_command_server(
    "head", autostart=True, ssh_config={str(head.sshd.ssh_config)!r}, python={head.python!r}
)
print(bridge.status().transport)
"""
    assert "HostKeyUnknown" in notebook.run(connect, "no")
    assert any("SHA256:" in prompt for prompt, _ in notebook.asked)
    assert "tunnel" in notebook.run(connect, "yes")
    assert len(head.sshd.known_hosts.read_text().splitlines()) == 1
    assert "None" in notebook.run("print(bridge.close())")


PASSWORD_ONLY = ("PubkeyAuthentication no", "PasswordAuthentication yes")


@pytest.mark.sshd
def test_a_prompt_that_is_interrupted_leaves_nothing_open(
    notebook: Notebook, make_head: MakeHead
) -> None:
    head = make_head(*PASSWORD_ONLY)
    cell = f"""
from smartsim_bridge import init_command_server
init_command_server("head", autostart=True, ssh_config={str(head.sshd.ssh_config)!r})
"""
    assert "KeyboardInterrupt" in notebook.run(cell)
    assert len(notebook.asked) == 1
    wait_until(lambda: head.sshd.session_pids() == [])
    assert "Failed " not in head.sshd.log
    assert notebook.run("print('still there')") == "still there\n"


@pytest.mark.sshd
def test_a_kernel_that_cannot_ask_says_so_with_the_prompt(
    notebook: Notebook, make_head: MakeHead
) -> None:
    """As a notebook that is run from its beginning to its end, by a job."""
    head = make_head(*PASSWORD_ONLY)
    cell = f"""
from smartsim_bridge import init_command_server
init_command_server("head", autostart=True, ssh_config={str(head.sshd.ssh_config)!r})
"""
    said = notebook.run(cell, can_ask=False)
    assert said.startswith("AuthenticationRequired: this notebook cannot ask '(")
    assert "assword:" in said
    wait_until(lambda: head.sshd.session_pids() == [])
    assert head.sshd.log.count("Connection from ") == 1
