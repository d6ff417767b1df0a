from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartsim_bridge.protocol.beacon import (
    MAX_BEACON_BYTES,
    Beacon,
    Credentials,
    beacon_name,
    credentials_name,
    find_ready_line,
    found_line,
    ready_line,
    says_found,
    state_and_start,
    state_directory,
)

BEACON = Beacon(
    host="login1",
    boot_id="0f3c9a52-77aa",
    uid=1000,
    pid=4711,
    pid_start=99,
    version="0.1",
    protocol=1,
    socket="/tmp/x.sock",
    endpoints=("tcp://127.0.0.1:41234", "tcp://[::1]:41234", "tcp://10.0.0.1:5"),
    started=1.5,
)
KEYS = Credentials("s" * 40, "c" * 40, "x" * 40)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


def test_beacon_survives_the_file() -> None:
    assert Beacon.from_json(BEACON.to_json()) == BEACON
    assert "\n" not in BEACON.to_json()


def test_credentials_survive_the_file() -> None:
    assert Credentials.from_json(KEYS.to_json()) == KEYS


def test_secret_is_not_shown() -> None:
    assert KEYS.client_secret not in repr(KEYS)


def test_newer_fields_are_ignored() -> None:
    content = {**json.loads(BEACON.to_json()), "colour": "red"}
    assert Beacon.from_json(json.dumps(content)) == BEACON


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        BEACON.to_json()[:-5],
        BEACON.to_json().replace('"format":1', '"format":2'),
        BEACON.to_json().replace('"pid":4711', '"pid":"4711"'),
        BEACON.to_json().replace('"pid":4711', '"pid":true'),
        BEACON.to_json().replace('"pid":4711', '"pid":-1'),
        BEACON.to_json().replace('"pid":4711,', ""),
        BEACON.to_json().replace(":41234", ":http"),
        BEACON.to_json().replace(":41234", ":70000"),
        "[" * 10_000,
        '{"format":1,"host":' * 800,
        " " * (MAX_BEACON_BYTES + 1),
    ],
    ids=lambda text: text[:30],
)
def test_what_is_no_beacon_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        Beacon.from_json(text)


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "tcp://",
        "tcp://127.0.0.1",
        "tcp://127.0.0.1:0",
        "tcp://127.0.0.1:65536",
        "tcp://127.0.0.1:+5",
        "tcp://127.0.0.1: 5",
        "tcp://127.0.0.1:5\n",
        "tcp://127.0.0.1:\u0665",
        "tcp://127.0.0.1:" + "9" * 5000,
        "tcp://login1:5",
        "tcp://*:5",
        "tcp://300.0.0.1:5",
        "tcp://::1:5",
        "tcp://[127.0.0.1]:5",
        "tcp://[::g]:5",
        "tcp://[fe80::1%\n]:5",
        "127.0.0.1:5",
        "ipc://x:5",
    ],
    ids=lambda endpoint: ascii(endpoint)[:30],
)
def test_endpoint_that_is_none_is_a_value_error(endpoint: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        Beacon.from_json(replace(BEACON, endpoints=(endpoint,)).to_json())


@pytest.mark.parametrize(
    "endpoint",
    ["tcp://0.0.0.0:1", "tcp://10.0.0.1:65535", "tcp://[::]:5", "tcp://[fe80::1%eth0]:5"],
)
def test_endpoint_with_an_address_is_one(endpoint: str) -> None:
    beacon = replace(BEACON, endpoints=(endpoint,))
    assert Beacon.from_json(beacon.to_json()) == beacon


@pytest.mark.parametrize("path", ["/tmp/\udcff.sock", "/tmp/\0.sock"], ids=ascii)
def test_socket_that_cannot_be_named_is_a_value_error(path: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        Beacon.from_json(replace(BEACON, socket=path).to_json())


@given(st.sampled_from(sorted(json.loads(BEACON.to_json()))), JSON)
def test_field_of_any_json_is_a_beacon_or_a_value_error(name: str, value: object) -> None:
    content = {**json.loads(BEACON.to_json()), name: value}
    try:
        beacon = Beacon.from_json(json.dumps(content))
    except ValueError:
        return
    assert all(0 < port < 65536 for port in beacon.ports)


@pytest.mark.parametrize("text", ["{}", "null", KEYS.to_json().replace("ss", "s"), "[" * 9000])
def test_what_are_no_credentials_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        Credentials.from_json(text)


@pytest.mark.parametrize("name", ["server_key", "client_key", "client_secret"])
@pytest.mark.parametrize(
    "key",
    ["", "s" * 39, "s" * 41, "s" * 39 + "\n", "s" * 39 + "~", "\u0665" * 40, "#" * 40],
    ids=ascii,
)
def test_key_that_is_not_z85_is_a_value_error(name: str, key: str) -> None:
    with pytest.raises(ValueError, match="Z85"):
        Credentials.from_json(replace(KEYS, **{name: key}).to_json())


def test_ports_are_named_once() -> None:
    assert BEACON.ports == (41234, 5)
    assert replace(BEACON, endpoints=()).ports == ()


def test_file_names_keep_hosts_and_boots_apart() -> None:
    names = {beacon_name(host, boot) for host in ("login1", "login2") for boot in ("a1", "b2")}
    assert len(names) == 4
    assert credentials_name("login1", "a1") not in names


def test_file_names_stay_in_their_directory() -> None:
    assert "/" not in beacon_name("../../etc/passwd", "a/b")


def test_state_lies_in_the_home_unless_chosen() -> None:
    assert state_directory("/home/me/") == "/home/me/.local/state/smartsim-bridge"
    assert state_directory("/home/me", "/scratch/me") == "/scratch/me"


@pytest.mark.parametrize("keys", [KEYS, None])
def test_ready_line_is_found_among_noise(keys: Credentials | None) -> None:
    stale = ready_line("old", replace(BEACON, pid=1), None)
    noise = f"Welcome!\r\n{stale}\nprompt$ {ready_line('n1', BEACON, keys)}\nBye"
    assert find_ready_line(noise, "n1") == (BEACON, keys)


def test_found_line_counts_with_our_nonce_only() -> None:
    ready = ready_line("n1", BEACON, KEYS)
    assert says_found(f"motd\nprompt$ {found_line('n1')}\r\n{ready}\n", "n1")
    assert find_ready_line(f"{found_line('n1')}\n{ready}\n", "n1") == (BEACON, KEYS)
    for other in ("", found_line("n2"), found_line("n11"), ready):
        assert not says_found(f"{other}\n{ready}\n", "n1")


def test_ready_line_that_is_not_there_is_none() -> None:
    assert find_ready_line("Welcome!\n" + ready_line("n2", BEACON, None), "n1") is None
    assert find_ready_line("", "n1") is None


@given(st.integers(0, len(ready_line("n1", BEACON, KEYS)) - 1))
def test_half_a_ready_line_is_none_or_a_value_error(length: int) -> None:
    half = ready_line("n1", BEACON, KEYS)[:length]
    try:
        assert find_ready_line(half, "n1") is None
    except ValueError:
        pass


@pytest.mark.parametrize("rest", ["[" * 100_000, "{}", "garbage"])
def test_broken_ready_line_is_a_value_error(rest: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        find_ready_line(f"SMARTSIM-BRIDGE-READY n1 {rest}", "n1")


def test_a_processs_name_does_not_disturb_its_state_and_start() -> None:
    fields = ["S", *map(str, range(4, 22)), "4711", "23"]
    for name in ("python3", "a) Z (b", ") 1 2 3"):
        assert state_and_start(f"17 ({name}) {' '.join(fields)}") == ("S", 4711)
