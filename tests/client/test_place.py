from __future__ import annotations

import socket
from typing import Any

import pytest

from smartsim_bridge.client.place import Place
from smartsim_bridge.settings import Settings


def place(addr: str, **keywords: Any) -> Place:
    return Place.of(Settings(addr=addr, local_user="me", **keywords))


@pytest.mark.parametrize("addr", ["127.0.0.1", "localhost", "::1", "[::1]", "me@localhost"])
def test_loopback_is_here(addr: str) -> None:
    assert place(addr).is_here
    assert not place(addr).needs_ssh


def test_our_own_name_is_here() -> None:
    assert place(socket.gethostname()).is_here


@pytest.mark.parametrize("addr", ["login1", "me@login1", "10.1.2.3", "login1.site:2222"])
def test_another_name_is_elsewhere_and_needs_ssh(addr: str) -> None:
    assert not place(addr).is_here
    assert place(addr).needs_ssh


@pytest.mark.parametrize("addr", ["127.0.0.1:2222", "somebody@localhost", "ssh://localhost:2222"])
def test_loopback_with_an_ssh_detail_may_be_a_forwarded_port(addr: str) -> None:
    assert not place(addr).is_here
    assert place(addr).needs_ssh


@pytest.mark.parametrize("detail", ["ssh_config", "identity", "jump", "user"])
def test_loopback_with_an_ssh_keyword_is_not_here(detail: str) -> None:
    assert not place("localhost", **{detail: "x"}).is_here


@pytest.mark.parametrize("transport", ["tunnel", "stdio"])
def test_who_asks_for_ssh_gets_it_even_here(transport: str) -> None:
    assert place("localhost", transport=transport).needs_ssh


def test_local_never_needs_ssh() -> None:
    assert not place("login1", transport="local").needs_ssh


@pytest.mark.parametrize(
    ("addr", "host"),
    [
        ("me@login1:22", "login1"),
        ("ssh://me@login1:22", "login1"),
        ("[fe80::1]:22", "fe80::1"),
        ("fe80::1", "fe80::1"),
        ("me@[::1]", "::1"),
    ],
)
def test_the_host_is_what_lies_between_user_and_port(addr: str, host: str) -> None:
    assert place(addr).host == host
