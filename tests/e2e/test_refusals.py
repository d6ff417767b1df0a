"""Whatever goes wrong on the way has its own error, with host, step and advice, soon."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from smartsim_bridge import CommandServerError, errors, init_command_server
from tests.support.heads import MakeHead
from tests.support.local_server import LocalServer, MakeLocalServer
from tests.support.peers import Peer, http_peer, silent_peer, zmq_plain_peer
from tests.support.sshd import make_key
from tests.support.waiting import wait_until

LIMIT = 60.0  # seconds for the whole init


def refused(expected: type[CommandServerError], **keywords: Any) -> CommandServerError:
    """The error of an init that must fail; it has all its three parts."""
    with pytest.raises(CommandServerError) as caught:
        init_command_server(**{"timeout": LIMIT, **keywords}).close()
    fault = caught.value
    assert type(fault) is expected, f"{type(fault).__name__}: {fault}"
    assert fault.what
    assert fault.host, f"no host: {fault}"
    assert fault.step, f"no step: {fault}"
    assert fault.advice
    assert fault.advice in str(fault)
    assert fault.host in str(fault)
    return fault


# --- at the port of the server ------------------------------------------------------------


def tampered(server: LocalServer, **keys: str) -> int:
    """Changes the credentials that lie there; gives the server's port."""
    (file,) = server.state_dir.glob("servers/*.key")
    content = json.loads(file.read_text("utf-8"))
    file.write_text(json.dumps({**content, **keys}), encoding="utf-8")
    return server.beacon.ports[0]


def fresh_pair() -> tuple[str, str]:
    import zmq

    public, secret = zmq.curve_keypair()
    return public.decode(), secret.decode()


def test_a_wrong_client_key_is_refused(make_local_server: MakeLocalServer) -> None:
    server = make_local_server()
    public, secret = fresh_pair()
    port = tampered(server, client_key=public, client_secret=secret)
    fault = refused(errors.ClientKeyRefused, port=port, transport="direct")
    assert secret not in str(fault)


def test_a_wrong_server_key_is_a_mismatch(make_local_server: MakeLocalServer) -> None:
    server = make_local_server()
    port = tampered(server, server_key=fresh_pair()[0])
    refused(errors.ServerKeyMismatch, port=port, transport="direct")


def test_a_server_of_somebody_else_wants_credentials(make_local_server: MakeLocalServer) -> None:
    server = make_local_server()
    (file,) = server.state_dir.glob("servers/*.key")
    file.unlink()
    refused(errors.NoCredentials, port=server.beacon.ports[0], transport="direct")


@pytest.fixture
def known_server(make_local_server: MakeLocalServer) -> LocalServer:
    """A server whose beacon and credentials are there, for peers that pretend to be it."""
    return make_local_server()


def pretending(server: LocalServer, port: int) -> int:
    """Has the beacon name another port, as if the server had gone and another program come."""
    (file,) = server.state_dir.glob("servers/*.json")
    content = json.loads(file.read_text("utf-8"))
    content["endpoints"] = [f"tcp://127.0.0.1:{port}"]
    file.write_text(json.dumps(content), encoding="utf-8")
    return port


@pytest.mark.parametrize("known", [True, False], ids=["with credentials", "without credentials"])
@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        (zmq_plain_peer, errors.PlaintextPeer),
        (http_peer, errors.NotCommandServer),
        (silent_peer, errors.PeerSilent),
    ],
)
def test_a_stranger_on_the_port_is_told_apart(
    known: bool, peer: Peer, expected: type[CommandServerError], known_server: LocalServer
) -> None:
    with peer() as port:
        if known:
            pretending(known_server, port)
        refused(expected, port=port, transport="direct" if known else "auto")


@pytest.mark.parametrize("transport", ["auto", "direct"])
def test_nobody_on_the_port_is_told(transport: str, near_home: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: it refuses
        port = unused.getsockname()[1]
        fault = refused(errors.NobodyListening, port=port, transport=transport)
    assert str(port) in str(fault)


def test_nobody_here_at_all_is_told(near_home: Path) -> None:
    refused(errors.NoServer)


# --- at the door of the head --------------------------------------------------------------


@pytest.mark.sshd
def test_an_unknown_host_key_is_unknown(make_head: MakeHead) -> None:
    head = make_head()
    head.sshd.known_hosts.write_text("")
    fault = refused(errors.HostKeyUnknown, **head.keywords, autostart=True)
    assert isinstance(fault, errors.HostKeyUnknown)
    assert fault.fingerprint.startswith("SHA256:")
    assert fault.fingerprint in str(fault)
    assert head.sshd.known_hosts.read_text() == ""
    assert "Accepted" not in head.sshd.log


@pytest.mark.sshd
@pytest.mark.parametrize("host_keys", ["strict", "accept-new"])
def test_a_changed_host_key_is_changed(host_keys: str, make_head: MakeHead, tmp_path: Path) -> None:
    head = make_head()
    other = Path(f"{make_key(tmp_path / 'other')}.pub").read_text().split()[:2]
    known = f"[127.0.0.1]:{head.sshd.port} {' '.join(other)}\n"
    head.sshd.known_hosts.write_text(known)
    fault = refused(errors.HostKeyChanged, **head.keywords, autostart=True, host_keys=host_keys)
    assert isinstance(fault, errors.HostKeyChanged)
    assert fault.expected
    assert head.sshd.known_hosts.read_text() == known
    assert "Accepted" not in head.sshd.log


@pytest.mark.sshd
def test_accept_new_appends_one_line(make_head: MakeHead) -> None:
    head = make_head()
    before = "# mine\n@cert-authority *.site ssh-ed25519 AAAA\nbroken line without newline"
    head.sshd.known_hosts.write_text(before)
    head.init(autostart=True, host_keys="accept-new")
    after = head.sshd.known_hosts.read_text()
    assert after.startswith(before)
    (added,) = after[len(before) :].strip("\n").splitlines()
    assert added.split()[:3] == [
        f"[127.0.0.1]:{head.sshd.port}",
        *head.sshd.host_key_lines[0].split(),
    ]
    head.init()
    assert head.sshd.known_hosts.read_text() == after


@pytest.mark.sshd
def test_a_wrong_password_is_refused(make_head: MakeHead) -> None:
    head = make_head("PubkeyAuthentication no", "PasswordAuthentication yes")
    asked: list[str] = []

    def ask(prompt: str, secret: bool) -> str:
        asked.append(prompt)
        return "not it at all"

    fault = refused(errors.AuthenticationFailed, **head.keywords, autostart=True, ask=ask)
    assert asked
    assert "not it at all" not in str(fault)


@pytest.mark.sshd
@pytest.mark.root
def test_the_right_password_is_asked_for_once(make_head: MakeHead) -> None:
    head = make_head("PubkeyAuthentication no", "PasswordAuthentication yes")
    password = head.sshd.user.known_password()
    asked: list[tuple[str, bool]] = []

    def ask(prompt: str, secret: bool) -> str:
        asked.append((prompt, secret))
        return password

    bridge = head.init(autostart=True, ask=ask)
    assert bridge.status().transport == "tunnel"
    assert [secret for _, secret in asked] == [True]
    assert password not in repr(bridge) + str(bridge.status())


@pytest.mark.sshd
def test_nobody_to_ask_is_told(make_head: MakeHead) -> None:
    head = make_head("PubkeyAuthentication no", "PasswordAuthentication yes")
    refused(errors.AuthenticationRequired, **head.keywords, autostart=True)


@pytest.mark.sshd
def test_a_python_that_is_not_there_is_named(make_head: MakeHead) -> None:
    head = make_head()
    keywords = {**head.keywords, "python": "/nonexistent/python3"}
    fault = refused(errors.NoUsablePython, **keywords, autostart=True)
    assert "/nonexistent/python3" in str(fault)


@pytest.mark.sshd
def test_a_head_without_any_python_is_told(make_head: MakeHead) -> None:
    head = make_head()
    # As bare as an appliance: what the search would find is hidden from the shell.
    hidden = 'command() { case $2 in *python*) return 1 ;; *) builtin command "$@" ;; esac; }'
    keywords = {**head.keywords, "python": None}
    fault = refused(errors.NoUsablePython, **keywords, autostart=True, prelude=hidden)
    assert "prelude" in fault.advice


@pytest.mark.sshd
def test_a_prelude_that_ends_the_shell_is_shown(make_head: MakeHead) -> None:
    head = make_head()
    keywords = {**head.keywords, "prelude": "echo no such module >&2; exit 4"}
    fault = refused(errors.ProbeFailed, **keywords, autostart=True)
    assert "no such module" in str(fault)


def test_a_host_without_a_name_is_unknown(near_home: Path) -> None:
    refused(errors.HostNameUnknown, addr="no-such-host.invalid", autostart=True)


def test_nobody_on_the_ssh_port_is_unreachable(near_home: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        refused(errors.HostUnreachable, addr=f"127.0.0.1:{unused.getsockname()[1]}", autostart=True)


def test_a_silent_ssh_port_ends_within_the_time(near_home: Path) -> None:
    with silent_peer() as port, pytest.raises(CommandServerError) as caught:
        init_command_server(addr=f"127.0.0.1:{port}", autostart=True, timeout=2)
    assert caught.value.host
    assert caught.value.step


@pytest.mark.sshd
def test_nothing_stays_open_after_a_refusal(make_head: MakeHead) -> None:
    head = make_head()
    keywords = {**head.keywords, "python": "/nonexistent/python3"}
    refused(errors.NoUsablePython, **keywords, autostart=True)
    wait_until(lambda: head.sshd.session_pids() == [])
    assert head.server_pids() == []
