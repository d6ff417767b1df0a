from __future__ import annotations

import socket
import threading

import pytest

from smartsim_bridge.deadline import Deadline
from smartsim_bridge.errors import ConnectTimedOut, HostNameUnknown, HostUnreachable, SshFailed
from smartsim_bridge.ssh import dialling
from smartsim_bridge.ssh.dialling import Address, dial, resolve, start_proxy
from smartsim_bridge.ssh.target import Target


def target(hostname: str = "127.0.0.1", port: int = 22, **fields: str) -> Target:
    return Target("h", "h", hostname, port, "me", **fields)  # type: ignore[arg-type]


def address(port: int, host: str = "127.0.0.1") -> Address:
    return Address(socket.AF_INET, (host, port))


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_all_addresses_are_given_in_the_resolvers_order(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 22, 0, 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 22)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_arguments: answer)
    assert [str(found) for found in resolve(target("h"), Deadline(60))] == ["::1", "127.0.0.1"]


@pytest.mark.parametrize(
    ("wanted", "family"),
    [("any", socket.AF_UNSPEC), ("inet", socket.AF_INET), ("inet6", socket.AF_INET6)],
)
def test_the_address_family_of_the_config_is_kept(
    wanted: str, family: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def getaddrinfo(_host: str, _port: int, family: int, _kind: int) -> list[object]:
        asked.append(family)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    resolve(target(address_family=wanted), Deadline(60))
    assert asked == [family]


def test_an_unknown_name_says_which_and_why() -> None:
    with pytest.raises(HostNameUnknown, match=r"no-such\.invalid") as caught:
        resolve(target("no-such.invalid"), Deadline(60))
    assert caught.value.step == "resolve"


def test_silent_name_servers_do_not_outlast_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    def getaddrinfo(*_arguments: object) -> list[object]:
        released.wait(60)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(HostNameUnknown, match="no name server answers"):
        resolve(target("h"), Deadline(0.05))
    released.set()


def test_the_next_address_is_tried_when_one_refuses() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        addresses = [address(unused_port()), address(port)]
        with dial(target(port=port), addresses, Deadline(60)) as stream:
            assert stream.getpeername()[1] == port


def test_all_refusals_are_told() -> None:
    ports = [unused_port(), unused_port()]
    with pytest.raises(HostUnreachable) as caught:
        dial(target(), [address(port) for port in ports], Deadline(60))
    assert type(caught.value) is HostUnreachable
    assert str(caught.value).count("refused") == 2


def test_one_silent_address_does_not_use_up_the_time_of_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dialling, "ONE_ADDRESS_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        silent = _SilentOnce(monkeypatch)
        with dial(target(port=port), [address(1), address(port)], Deadline(60)) as stream:
            assert stream.getpeername()[1] == port
        assert silent.seconds == [0.05, 0.05]


class _SilentOnce:
    """The first connect times out; what limit each had is kept."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds: list[float | None] = []
        real = socket.socket.connect

        def connect(stream: socket.socket, place: tuple[str, int]) -> None:
            self.seconds.append(stream.gettimeout())
            if len(self.seconds) == 1:
                raise socket.timeout("timed out")
            real(stream, place)

        monkeypatch.setattr(socket.socket, "connect", connect)


def test_no_time_left_is_a_timeout() -> None:
    with pytest.raises(ConnectTimedOut, match="no time left"):
        dial(target(), [address(1)], Deadline(0))


def test_a_bind_address_that_is_not_ours_is_told() -> None:
    with pytest.raises(HostUnreachable, match="assign"):
        dial(target(bind_address="192.0.2.1"), [address(1)], Deadline(60))


def test_a_bind_address_is_used() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        bound = target(port=port, bind_address="127.0.0.2")
        with dial(bound, [address(port)], Deadline(60)) as stream:
            assert stream.getsockname()[0] == "127.0.0.2"


def test_a_proxy_is_a_socket_to_the_commands_standard_streams() -> None:
    proxy = start_proxy(target(proxy_command="cat"))
    proxy.socket.settimeout(60)
    proxy.socket.sendall(b"hello")
    assert proxy.socket.recv(10) == b"hello"
    proxy.close()
    assert proxy._process.returncode is not None


def test_a_proxy_that_ignores_its_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialling, "PROXY_END_SECONDS", 0.05)
    proxy = start_proxy(target(proxy_command="sleep 60"))
    proxy.close()
    assert proxy._process.returncode == -9


def test_what_a_proxy_complains_is_kept() -> None:
    proxy = start_proxy(target(proxy_command="sh -c 'echo no way >&2'"))
    proxy._process.wait()
    assert proxy.noise == "no way"
    proxy.close()


def test_a_proxy_that_cannot_be_started_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more(*_arguments: object, **_keywords: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("subprocess.Popen", no_more)
    threads = threading.active_count()
    with pytest.raises(SshFailed, match="cannot be run"):
        start_proxy(target(proxy_command="cat"))
    assert threading.active_count() == threads
