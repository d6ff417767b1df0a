from __future__ import annotations

import pytest

from smartsim_bridge.client.endpoints import bracketed, forwarded, reachable
from tests.client.samples import beacon


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "laptop")


def test_loopback_of_another_host_leads_nowhere() -> None:
    found = beacon(endpoints=("tcp://127.0.0.1:41", "tcp://[::1]:41"))
    assert list(reachable(found, "login1")) == []


def test_a_private_address_leads_there() -> None:
    found = beacon(endpoints=("tcp://127.0.0.1:41", "tcp://10.0.0.1:41"))
    assert list(reachable(found, "login1")) == ["tcp://10.0.0.1:41"]


def test_all_addresses_means_the_one_that_the_user_named() -> None:
    assert list(reachable(beacon(endpoints=("tcp://0.0.0.0:41",)), "login1")) == ["tcp://login1:41"]


def test_loopback_of_this_host_leads_here() -> None:
    found = beacon(host="laptop", endpoints=("tcp://127.0.0.1:41",))
    assert list(reachable(found, "localhost")) == ["tcp://127.0.0.1:41"]


@pytest.mark.parametrize(
    ("endpoint", "seen"),
    [
        ("tcp://0.0.0.0:41", ("127.0.0.1", 41)),
        ("tcp://127.0.0.1:41", ("127.0.0.1", 41)),
        ("tcp://[::1]:41", ("::1", 41)),
        ("tcp://10.0.0.1:41", ("10.0.0.1", 41)),
    ],
)
def test_what_the_head_itself_connects_to(endpoint: str, seen: tuple[str, int]) -> None:
    assert forwarded(beacon(endpoints=(endpoint,)), elsewhere=False) == seen


@pytest.mark.parametrize(
    ("endpoints", "seen"),
    [
        (("tcp://127.0.0.1:41",), None),
        (("tcp://127.0.0.1:41", "tcp://10.0.0.1:41"), ("10.0.0.1", 41)),
        (("tcp://0.0.0.0:41",), ("login1", 41)),
        ((), None),
    ],
)
def test_what_another_head_of_the_site_connects_to(
    endpoints: tuple[str, ...], seen: tuple[str, int] | None
) -> None:
    assert forwarded(beacon(endpoints=endpoints), elsewhere=True) == seen


def test_ipv6_gets_brackets_and_nothing_else_does() -> None:
    assert (bracketed("::1"), bracketed("login1"), bracketed("10.0.0.1")) == (
        "[::1]",
        "login1",
        "10.0.0.1",
    )
