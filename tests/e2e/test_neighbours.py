"""A second user of the head tries its ports, sockets, files and `ps`: nothing is to be had."""

from __future__ import annotations

import json
import logging
import os
import shutil
import stat
import tempfile
import traceback
from pathlib import Path

import pytest

from smartsim_bridge import Bridge, errors
from smartsim_bridge.errors import CommandServerError
from smartsim_bridge.protocol import codec
from smartsim_bridge.protocol.beacon import Credentials
from smartsim_bridge.protocol.messages import Hello
from smartsim_bridge.stages import Stage
from tests.support.head_python import HeadPython
from tests.support.heads import NODE_ROOTS, Head, MakeHead
from tests.support.local_server import LocalServer
from tests.support.neighbour import Neighbour, watched_processes
from tests.support.users import User

pytestmark = [pytest.mark.sshd, pytest.mark.root]


@pytest.fixture
def neighbour(other_user: User, head_python: HeadPython, zmq_directory: str) -> Neighbour:
    return Neighbour(other_user, head_python.path, zmq_directory)


@pytest.fixture
def head(make_head: MakeHead) -> Head:
    """Its user keeps the home open to all, as many sites have it."""
    head = make_head()
    head.sshd.home.chmod(0o755)
    return head


@pytest.fixture
def bridge(head: Head) -> Bridge:
    return head.init(autostart=True)


@pytest.fixture
def credentials(bridge: Bridge, head: Head) -> Credentials:
    """The real ones, which root can read."""
    (file,) = head.state_dir.glob("servers/*.key")
    return Credentials.from_json(file.read_text("utf-8"))


def hello() -> list[list[str]]:
    """A greeting as our own client sends it."""
    return [[frame.decode() for frame in codec.encode(Hello(2, 2, "0", "f" * 32))]]


# --- the TCP port -------------------------------------------------------------------------


def test_plain_text_gets_no_answer(bridge: Bridge, head: Head, neighbour: Neighbour) -> None:
    (endpoint,) = head.beacon().endpoints
    came = neighbour.dial_zmq(endpoint, messages=hello())
    assert not came["answered"]
    assert "EVENT_HANDSHAKE_SUCCEEDED" not in came["events"]
    assert bridge.status().clients == 1


def test_keys_of_ones_own_get_no_answer(
    bridge: Bridge, head: Head, credentials: Credentials, neighbour: Neighbour
) -> None:
    # The server's public key is no secret: the neighbour may well know it.
    (endpoint,) = head.beacon().endpoints
    came = neighbour.dial_zmq(endpoint, server_key=credentials.server_key, messages=hello())
    assert not came["answered"]
    assert "EVENT_HANDSHAKE_FAILED_AUTH" in came["events"]
    assert bridge.status().clients == 1


def test_the_clients_public_key_alone_gets_no_answer(
    head: Head, credentials: Credentials, neighbour: Neighbour
) -> None:
    (endpoint,) = head.beacon().endpoints
    came = neighbour.dial_zmq(
        endpoint,
        server_key=credentials.server_key,
        client_key=credentials.client_key,
        messages=hello(),
    )
    assert not came["answered"]
    assert "EVENT_HANDSHAKE_SUCCEEDED" not in came["events"]


def test_the_right_keys_do_get_one(
    head: Head, credentials: Credentials, neighbour: Neighbour
) -> None:
    """The tests above would pass as well if nothing ever answered."""
    (endpoint,) = head.beacon().endpoints
    came = neighbour.dial_zmq(
        endpoint,
        server_key=credentials.server_key,
        client_key=credentials.client_key,
        client_secret=credentials.client_secret,
        messages=hello(),
    )
    assert came["answered"]


# --- socket and files ---------------------------------------------------------------------


def test_the_unix_socket_is_closed_to_others(
    bridge: Bridge, head: Head, neighbour: Neighbour
) -> None:
    path = head.beacon().socket
    assert "refused: PermissionError" in neighbour.dial_unix(path)
    directory = Path(path).parent
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600
    assert not neighbour.can("ls", str(directory))
    assert bridge.status().clients == 1


def test_the_unix_socket_asks_who_it_is_where_the_directory_was_opened(
    lonely_user: User, neighbour: Neighbour, make_head: MakeHead
) -> None:
    head = make_head(user=lonely_user)
    bridge = head.init(autostart=True)
    path = Path(head.beacon().socket)
    path.parent.chmod(0o755)
    path.chmod(0o666)
    said = neighbour.dial_unix(str(path))
    assert any(end in said for end in ("and was cut", "ConnectionReset", "BrokenPipe")), said
    assert bridge.status().clients == 1


def test_the_state_directory_is_closed_to_others(
    bridge: Bridge, head: Head, neighbour: Neighbour
) -> None:
    assert neighbour.can("ls", str(head.sshd.home)), "the home is open, or this shows nothing"
    assert not neighbour.can("ls", str(head.state_dir))
    assert not neighbour.can("ls", str(head.state_dir / "servers"))
    for file in head.state_dir.rglob("*"):
        if file.is_file():
            assert not neighbour.can("cat", str(file)), file
            assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file
        else:
            assert stat.S_IMODE(file.stat().st_mode) == 0o700, file


@pytest.mark.parametrize("mask", ["000", "022", "077"])
def test_modes_do_not_depend_on_the_umask(mask: str, make_head: MakeHead) -> None:
    head = make_head()
    head.init(autostart=True, prelude=f"umask {mask}")
    for file in [head.state_dir, *head.state_dir.rglob("*"), Path(head.beacon().socket)]:
        mode = stat.S_IMODE(file.lstat().st_mode)
        assert mode & 0o077 == 0, f"{file} {mode:o}"


def test_the_near_end_of_the_tunnel_is_closed_to_others(
    bridge: Bridge, neighbour: Neighbour
) -> None:
    endpoint = bridge.status().endpoint
    assert endpoint.startswith("ipc://")
    path = endpoint[len("ipc://") :]
    assert "refused: PermissionError" in neighbour.dial_unix(path)
    assert stat.S_IMODE(Path(path).parent.stat().st_mode) == 0o700


# --- secrets ------------------------------------------------------------------------------


def test_no_secret_is_seen_anywhere(
    head: Head, caplog: pytest.LogCaptureFixture, neighbour: Neighbour
) -> None:
    caplog.set_level(logging.DEBUG)
    stages: list[Stage] = []
    with watched_processes() as lines:
        bridge = head.init(autostart=True, on_stage=stages.append)
        bridge.run(["true"])
        listing = neighbour.says("ps", "axww", "-o", "args")
    (file,) = head.state_dir.glob("servers/*.key")
    keys = json.loads(file.read_text("utf-8"))
    secret = keys["client_secret"]
    assert "serve" in listing, "the server is to be seen, or this shows nothing"

    with pytest.raises(FileNotFoundError) as unknown:
        bridge.run(["no-such-program"])
    with pytest.raises(CommandServerError) as refused:
        head.init(python="/nonexistent", transport="direct", port=1)
    logs = [one.read_text("utf-8", "replace") for one in (head.state_dir / "logs").iterdir()]
    environments = [
        one.read_bytes().decode("utf-8", "replace")
        for one in [Path(f"/proc/{bridge.status().server_pid}/environ")]
    ]
    said = [
        *(line.decode("utf-8", "replace") for line in lines),
        listing,
        head.sshd.log,
        caplog.text,
        *logs,
        *environments,
        repr(bridge),
        repr(bridge.__dict__),
        repr(bridge.status()),
        str(bridge.status()),
        *(f"{stage!r} {stage}" for stage in stages),
        *("".join(traceback.format_exception(None, e.value, e.tb)) for e in (unknown, refused)),
        repr(Credentials(**keys)),
    ]
    assert not [text for text in said if secret in text]


def test_the_servers_secret_is_written_nowhere(
    bridge: Bridge, head: Head, credentials: Credentials
) -> None:
    import zmq

    words = set()
    for file in head.sshd.home.rglob("*"):
        if file.is_file() and file.stat().st_size < 1 << 20:
            text = file.read_text("utf-8", "replace")
            words |= {
                text[i : i + 40] for i in range(len(text) - 39) if " " not in text[i : i + 40]
            }
    secrets = set()
    for word in words:
        try:
            if zmq.curve_public(word.encode()).decode() == credentials.server_key:
                secrets.add(word)
        except (zmq.ZMQError, ValueError):
            continue
    assert not secrets


# --- squatters ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["directory", "link", "file"])
def test_a_squatter_in_tmp_is_passed_by(
    kind: str, lonely_user: User, neighbour: Neighbour, make_head: MakeHead
) -> None:
    squat = Path("/tmp", f"smartsim-bridge-{lonely_user.uid}")
    make = {
        "directory": ["mkdir", "-m", "777", str(squat)],
        "link": ["ln", "-s", "/var/tmp", str(squat)],
        "file": ["touch", str(squat)],
    }[kind]
    assert neighbour.can(*make)
    head = make_head(user=lonely_user)
    bridge = head.init(autostart=True)

    assert bridge.run(["echo", "works"]).stdout == "works\n"
    assert not head.beacon().socket.startswith("/tmp/")
    assert head.init(autostart=True).status().server_pid == bridge.status().server_pid
    assert neighbour.user.uid == squat.lstat().st_uid
    if kind == "directory":
        assert list(squat.iterdir()) == []


def test_a_squatter_everywhere_is_named(
    lonely_user: User, neighbour: Neighbour, make_head: MakeHead
) -> None:
    squats = [f"{root}/smartsim-bridge-{lonely_user.uid}" for root in NODE_ROOTS]
    assert neighbour.can("mkdir", *squats)
    head = make_head(user=lonely_user)
    with pytest.raises(errors.LaunchFailed) as caught:
        head.init(autostart=True)
    assert caught.value.host
    for squat in squats:
        assert squat in str(caught.value)
    assert head.server_pids() == []

    assert neighbour.can("rmdir", *squats)
    assert head.init(autostart=True).run(["echo", "works"]).stdout == "works\n"


def test_a_squatter_of_the_near_sides_directory_stops_nobody(
    head: Head, neighbour: Neighbour, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Path(tempfile.mkdtemp(prefix="ssb-tmp-"))
    try:
        place.chmod(0o1777)
        monkeypatch.setattr(tempfile, "tempdir", str(place))
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(place / "missing"))
        assert neighbour.can("mkdir", "-m", "777", f"{place}/runtime-{os.getuid()}")
        bridge = head.init(autostart=True)
        assert bridge.status().transport == "tunnel"
        assert bridge.run(["echo", "works"]).stdout == "works\n"
    finally:
        shutil.rmtree(place, ignore_errors=True)


def test_a_forged_beacon_is_not_believed(
    local_server: LocalServer, neighbour: Neighbour, make_head: MakeHead
) -> None:
    """Somebody who may write into the state directory still cannot be our server."""
    (beacon,) = local_server.state_dir.glob("servers/*.json")
    (key,) = local_server.state_dir.glob("servers/*.key")
    os.chown(beacon, neighbour.user.uid, neighbour.user.gid)
    with pytest.raises(errors.NoServer):
        local_server.init(transport="local")
    os.chown(beacon, os.getuid(), os.getgid())
    os.chown(key, neighbour.user.uid, neighbour.user.gid)
    with pytest.raises(errors.NoCredentials):
        local_server.init(transport="direct")
