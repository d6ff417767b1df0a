"""The embedded head node, by paramiko and by the system's ssh."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import paramiko
import pytest

from smartsim_bridge.demo.embedded import EmbeddedHeadNode

needs_ssh = pytest.mark.skipif(shutil.which("ssh") is None, reason="no ssh program")
MANY = 40


def execute(
    client: paramiko.SSHClient, command: str, stdin: bytes = b""
) -> tuple[bytes, bytes, int]:
    channel = transport_of(client).open_session(timeout=60)
    channel.exec_command(command)
    feeding = threading.Thread(target=feed, args=(channel, stdin))
    feeding.start()
    with channel:
        out = channel.makefile("rb").read()
        err = channel.makefile_stderr("rb").read()
        status = channel.recv_exit_status()
    feeding.join()
    return out, err, status


def feed(channel: paramiko.Channel, content: bytes) -> None:
    channel.sendall(content)
    channel.shutdown_write()


def transport_of(client: paramiko.SSHClient) -> paramiko.Transport:
    transport = client.get_transport()
    assert transport is not None
    return transport


def ssh(
    head: EmbeddedHeadNode, *words: str, stdin: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["ssh", "-F", str(head.ssh_config), head.addr, *words],
        input=stdin,
        capture_output=True,
        timeout=60,
        check=False,
    )


@contextmanager
def echo_once() -> Iterator[int]:
    """A loopback service that reads to the end, and only then answers."""

    def answer() -> None:
        sock, _ = listener.accept()
        with sock, sock.makefile("rb") as reader:
            sock.sendall(reader.read())

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def test_command_gives_both_streams_and_its_exit_status(client: paramiko.SSHClient) -> None:
    assert execute(client, "echo out; echo err >&2; exit 3") == (b"out\n", b"err\n", 3)


def test_stdin_arrives_with_its_end(client: paramiko.SSHClient) -> None:
    content = os.urandom(3_000_000)
    assert execute(client, "cat", stdin=content) == (content, b"", 0)


def test_command_that_does_not_read_its_stdin_still_ends(client: paramiko.SSHClient) -> None:
    channel = transport_of(client).open_session(timeout=60)
    with channel:
        channel.exec_command("exit 5")
        assert channel.recv_exit_status() == 5


def test_quick_commands_are_never_reported_as_refused(client: paramiko.SSHClient) -> None:
    statuses = [execute(client, "exit 7")[2] for _ in range(MANY)]
    assert statuses == [7] * MANY


def test_many_channels_of_one_connection_run_at_once(client: paramiko.SSHClient) -> None:
    # Each waits for its stdin to end, so that all of them are there before the first goes.
    channels = [transport_of(client).open_session(timeout=60) for _ in range(MANY)]
    for number, channel in enumerate(channels):
        channel.exec_command(f"cat >/dev/null; exit {number}")
    for channel in channels:
        channel.shutdown_write()
    assert [channel.recv_exit_status() for channel in channels] == list(range(MANY))


def test_session_has_its_own_home_and_nothing_of_our_environment(
    head: EmbeddedHeadNode, client: paramiko.SSHClient
) -> None:
    out, _, _ = execute(client, "env; pwd")
    lines = out.decode().splitlines()
    names = {line.partition("=")[0] for line in lines[:-1]}
    assert lines[-1] == str(head.home)
    assert f"HOME={head.home}" in lines
    assert names <= {
        *("HOME", "USER", "LOGNAME", "SHELL", "PATH", "TMPDIR", "PWD", "OLDPWD", "SHLVL", "_"),
        *("SSH_CLIENT", "SSH_CONNECTION"),
    }


def test_ssh_connection_names_both_ends(head: EmbeddedHeadNode, client: paramiko.SSHClient) -> None:
    sock = transport_of(client).sock
    assert isinstance(sock, socket.socket)
    address, port = sock.getsockname()
    out, _, _ = execute(client, "echo $SSH_CONNECTION")
    assert out.decode().split() == [address, str(port), "127.0.0.1", str(head.ssh_port)]


def test_command_is_in_a_session_of_its_own(client: paramiko.SSHClient) -> None:
    out, _, _ = execute(client, "echo $$; ps -o sid= -p $$")
    if len(out.split()) == 2:  # ps may be missing
        pid, sid = out.split()
        assert pid == sid


def test_client_that_leaves_ends_the_stdin_of_its_command(
    head: EmbeddedHeadNode, client: paramiko.SSHClient
) -> None:
    gone = head.home / "gone"
    os.mkfifo(gone)
    channel = transport_of(client).open_session(timeout=60)
    channel.exec_command(f"cat; echo bye >{gone}")
    channel.close()
    assert gone.read_text() == "bye\n"


def test_forward_carries_a_half_closed_connection(client: paramiko.SSHClient) -> None:
    content = os.urandom(1_000_000)
    with echo_once() as port:
        channel = transport_of(client).open_channel(
            "direct-tcpip", ("127.0.0.1", port), ("127.0.0.1", 1), timeout=60
        )
        with channel:
            channel.sendall(content)
            channel.shutdown_write()
            assert channel.makefile("rb").read() == content


def test_forward_to_a_port_without_listener_is_refused(client: paramiko.SSHClient) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: it refuses
        place = unused.getsockname()
        with pytest.raises(paramiko.ChannelException) as refused:
            transport_of(client).open_channel("direct-tcpip", place, ("127.0.0.1", 1))
    assert refused.value.code == 2  # connect failed


def test_forward_beyond_loopback_is_forbidden(client: paramiko.SSHClient) -> None:
    with pytest.raises(paramiko.ChannelException) as refused:
        transport_of(client).open_channel("direct-tcpip", ("192.0.2.1", 80), ("127.0.0.1", 1))
    assert refused.value.code == 1  # administratively prohibited


def test_terminals_and_shells_are_not_offered(client: paramiko.SSHClient) -> None:
    channel = transport_of(client).open_session(timeout=60)
    with channel, pytest.raises(paramiko.SSHException):
        channel.get_pty()
    channel = transport_of(client).open_session(timeout=60)
    with channel, pytest.raises(paramiko.SSHException):
        channel.invoke_shell()


@pytest.mark.parametrize("user", ["root", "other"])
def test_another_user_is_refused(head: EmbeddedHeadNode, user: str) -> None:
    key = paramiko.Ed25519Key.from_private_key_file(str(head.identity))
    with pytest.raises(paramiko.AuthenticationException):
        log_in(head, user, key)


def test_another_key_is_refused(head: EmbeddedHeadNode) -> None:
    with pytest.raises(paramiko.AuthenticationException):
        log_in(head, head.user, paramiko.RSAKey.generate(2048))


def test_passwords_are_not_asked_for(head: EmbeddedHeadNode) -> None:
    with connected(head) as transport, pytest.raises(paramiko.BadAuthenticationType) as refused:
        transport.auth_password(head.user, "secret")
    assert refused.value.allowed_types == ["publickey"]


def test_client_that_talks_nonsense_disturbs_nobody(
    head: EmbeddedHeadNode, client: paramiko.SSHClient
) -> None:
    with socket.create_connection(("127.0.0.1", head.ssh_port), 60) as nonsense:
        nonsense.sendall(b"GET / HTTP/1.1\r\n\r\n" * 100)
    assert execute(client, "exit 4")[2] == 4


@needs_ssh
def test_openssh_sees_exit_status_and_streams(head: EmbeddedHeadNode) -> None:
    done = ssh(head, "cat; echo err >&2; exit 9", stdin=b"\0\xff" * 100_000)
    assert (done.returncode, done.stdout, done.stderr) == (9, b"\0\xff" * 100_000, b"err\n")


@needs_ssh
def test_openssh_sees_a_signal_as_no_exit_status(head: EmbeddedHeadNode) -> None:
    assert ssh(head, "kill -TERM $$").returncode == 255


@needs_ssh
def test_openssh_forwards_stdio(head: EmbeddedHeadNode) -> None:
    with echo_once() as port:
        done = subprocess.run(
            ["ssh", "-F", str(head.ssh_config), "-W", f"127.0.0.1:{port}", head.addr],
            input=b"through and back",
            capture_output=True,
            timeout=60,
            check=False,
        )
    assert done.stdout == b"through and back"


def log_in(head: EmbeddedHeadNode, user: str, key: paramiko.PKey) -> None:
    with connected(head) as transport:
        transport.auth_publickey(user, key)


@contextmanager
def connected(head: EmbeddedHeadNode) -> Iterator[paramiko.Transport]:
    sock = socket.create_connection(("127.0.0.1", head.ssh_port), 60)
    transport = paramiko.Transport(sock)
    try:
        transport.start_client(timeout=60)
        yield transport
    finally:
        transport.close()
