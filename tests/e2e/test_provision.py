"""A head whose Python has no pyzmq: it is brought there, and no internet is needed for it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from smartsim_bridge import BridgeStatus, Rung, __version__, shutdown_command_server
from smartsim_bridge.errors import CommandServerError, ProvisionFailed
from tests.support.command_line import typed
from tests.support.heads import Head, MakeHead, processes_with
from tests.support.users import User
from tests.support.wheels import Links

pytestmark = pytest.mark.sshd

# Seconds for an init: pip has half of them, and takes most of a minute on a busy machine.
PATIENCE = 300.0


def rung(status: BridgeStatus, name: str) -> Rung:
    return [one for one in status.rungs if one.name == name][-1]


def stages(status: BridgeStatus) -> list[str]:
    return [stage.name for stage in status.stages]


def sites(state_dir: Path) -> list[Path]:
    """All directories with a pyzmq, finished and not."""
    return [path for path in (state_dir / "far").iterdir() if path.is_dir()]


def environ_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/environ").read_bytes().decode("utf-8", "replace").split("\0")
    return dict(line.split("=", 1) for line in lines if "=" in line)


@pytest.fixture
def lonely_head(make_head: MakeHead, lonely_user: User) -> Head:
    """One whose directories outside the home are nobody else's business."""
    return make_head(zmq=False, user=lonely_user)


@pytest.mark.usefixtures("links")
def test_a_head_without_pyzmq_gets_it_and_the_tunnel_holds(make_head: MakeHead) -> None:
    head = make_head(zmq=False)
    bridge = head.init(autostart=True, provision=True, timeout=PATIENCE)

    status = bridge.status()
    assert status.transport == "tunnel", status
    assert stages(status).index("provision") < stages(status).index("launch")
    assert status.server_zmq
    assert bridge.run(["echo", "hello"]).stdout == "hello\n"
    (site,) = sites(head.state_dir)
    assert site.name.startswith(f"pyzmq-{status.server_zmq}-cp")
    assert {path.name.split("-")[0] for path in site.iterdir()} <= {"zmq", "pyzmq", "pyzmq.libs"}
    for path in (site, *site.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path


@pytest.mark.usefixtures("links")
def test_no_command_learns_of_it(make_head: MakeHead) -> None:
    head = make_head(zmq=False)
    bridge = head.init(autostart=True, provision=True, timeout=PATIENCE)
    (site,) = sites(head.state_dir)

    assert str(site) not in bridge.run(["env"]).stdout
    pid = bridge.status().server_pid
    assert not any(str(site) in value for value in environ_of(pid).values())
    assert processes_with("--site", str(site)) == [pid]


@pytest.mark.usefixtures("links")
def test_where_forwarding_is_forbidden_direct_holds(make_head: MakeHead) -> None:
    bridge = make_head("AllowTcpForwarding no", zmq=False).init(
        autostart=True, provision=True, timeout=PATIENCE
    )
    assert bridge.status().transport == "direct"
    assert bridge.run(["echo", "hello"]).stdout == "hello\n"


@pytest.mark.usefixtures("links")
def test_what_was_brought_once_is_used_unasked(make_head: MakeHead) -> None:
    head = make_head(zmq=False)
    first = head.init(autostart=True, provision=True, timeout=PATIENCE)
    first.run(["true"])
    shutdown_command_server(first)
    status = head.init(autostart=True).status()

    assert status.transport == "tunnel"
    assert "provision" not in stages(status)
    assert len(sites(head.state_dir)) == 1


@pytest.mark.usefixtures("links")
def test_a_far_half_that_the_disk_damaged_is_sent_again_first(make_head: MakeHead) -> None:
    head = make_head(zmq=False)
    shutdown_command_server(head.init(autostart=True))
    (far,) = head.state_dir.glob("far/*.pyz")
    far.write_bytes(bytes(far.stat().st_size))

    assert (
        head.init(autostart=True, provision=True, timeout=PATIENCE, transport="tunnel")
        .status()
        .server_zmq
    )


def test_the_wheel_of_another_day_is_used_without_pip(
    make_head: MakeHead, links: Links, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_head(zmq=False).init(autostart=True, provision=True, timeout=PATIENCE)
    monkeypatch.setenv("PIP_FIND_LINKS", "")

    assert (
        make_head(zmq=False)
        .init(autostart=True, provision=True, timeout=PATIENCE)
        .status()
        .server_zmq
    )


def test_where_pip_finds_none_stdio_holds_and_it_is_told(
    make_head: MakeHead, links: Links, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    bridge = make_head(zmq=False).init(autostart=True, provision=True, timeout=PATIENCE)

    status = bridge.status()
    assert status.transport == "stdio"
    assert "No wheel of pyzmq" in rung(status, "tunnel").reason
    assert "No matching distribution" in rung(status, "tunnel").reason
    (stage,) = [stage for stage in status.stages if stage.name == "provision"]
    assert stage.failed
    assert bridge.run(["echo", "hello"]).stdout == "hello\n"


def test_the_command_line_says_in_one_line_that_it_could_not_be_brought(
    make_head: MakeHead, links: Links, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    head = make_head(zmq=False)
    words = ["start", "--provision"]
    for name, value in {**head.keywords, "timeout": PATIENCE}.items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    done = typed(*words)

    assert done.returncode == 0
    (line,) = [line for line in done.stderr.decode().splitlines() if "pyzmq" in line]
    assert line.startswith("smartsim-bridge: pyzmq could not be brought along: No wheel")


@pytest.mark.parametrize("transport", ["tunnel", "direct"])
def test_where_nothing_else_will_do_no_server_is_started_without(
    make_head: MakeHead,
    links: Links,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    transport: str,
) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    head = make_head(zmq=False)
    with pytest.raises(ProvisionFailed, match="No wheel of pyzmq") as raised:
        head.init(autostart=True, provision=True, timeout=PATIENCE, transport=transport)

    assert raised.value.host == "head"
    assert "pip download" in raised.value.advice
    assert head.server_pids() == []


@pytest.mark.usefixtures("links")
def test_a_server_that_runs_without_gets_it_and_its_commands_go_on(make_head: MakeHead) -> None:
    head = make_head(zmq=False)
    bridge = head.init(autostart=True)
    assert bridge.status().transport == "stdio"
    with bridge.popen(["sh", "-c", "read line; echo $line"]) as command:
        assert command.stdin is not None
        assert command.stdout is not None
        for transport in ("tunnel", "direct"):
            with pytest.raises(CommandServerError, match="has no ZMQ") as raised:
                head.init(provision=True, timeout=PATIENCE, transport=transport)
            assert "--replace --provision" in raised.value.advice

        wishing = head.init(provision=True, timeout=PATIENCE)
        assert "ran already" in rung(wishing.status(), "tunnel").reason
        status = wishing.replace_server()
        assert status.server_zmq
        assert status.version == __version__
        print("still here", file=command.stdin, flush=True)
        assert command.stdout.read() == "still here\n"

    assert head.init(transport="tunnel").status().server_pid == status.server_pid


@pytest.mark.usefixtures("links")
def test_a_server_that_gives_way_keeps_it(make_head: MakeHead) -> None:
    head = make_head(zmq=False)
    bridge = head.init(autostart=True, provision=True, timeout=PATIENCE)
    before = bridge.status()
    for _ in range(2):
        status = bridge.replace_server()
        assert (status.server_pid, status.server_zmq) == (before.server_pid, before.server_zmq)
    assert bridge.run(["echo", "hello"]).stdout == "hello\n"
    assert head.init(transport="tunnel").status().server_pid == before.server_pid


@pytest.mark.usefixtures("links")
def test_a_home_that_cannot_be_written_is_passed_over(lonely_head: Head) -> None:
    lonely_head.sshd.home.chmod(0o500)
    status = lonely_head.init(autostart=True, provision=True, timeout=PATIENCE).status()
    assert status.server_zmq
    assert not lonely_head.state_dir.exists()


@contextmanager
def mounted(user: User, options: str, *paths: Path) -> Iterator[None]:
    """A file system of the user's own at each of these, for as long as the block."""
    own = f"mode=0700,uid={user.uid},gid={user.gid},{options}"
    with ExitStack() as stack:
        for path in paths:
            path.mkdir(parents=True, exist_ok=True)
            subprocess.run(["mount", "-t", "tmpfs", "-o", own, "tmpfs", str(path)], check=True)
            stack.callback(subprocess.run, ["umount", "-l", str(path)], check=True)
        yield


@pytest.fixture
def state_dir(lonely_head: Head, lonely_user: User) -> Path:
    """Where the lonely user's state will be; what is above it exists, and is hers."""
    for part in (".local", ".local/state"):
        (lonely_head.sshd.home / part).mkdir()
        os.chown(lonely_head.sshd.home / part, lonely_user.uid, lonely_user.gid)
    return lonely_head.state_dir


@pytest.mark.root
@pytest.mark.usefixtures("links")
@pytest.mark.parametrize("options", ["noexec", "size=1500k"], ids=["noexec", "full"])
def test_where_the_home_does_not_do_another_directory_is_taken(
    lonely_head: Head, lonely_user: User, state_dir: Path, options: str
) -> None:
    with mounted(lonely_user, options, state_dir):
        status = lonely_head.init(autostart=True, provision=True, timeout=PATIENCE).status()
        assert status.server_zmq
        assert sites(state_dir) == []
        (site,) = sites(Path(f"/var/tmp/smartsim-bridge-{lonely_user.uid}"))
        assert processes_with("--site", str(site)) == [status.server_pid]
        lonely_head.close()
        # It is found there the next time.
        assert lonely_head.init(autostart=True).status().server_zmq
        lonely_head.close()


@pytest.mark.root
@pytest.mark.usefixtures("links")
def test_where_no_directory_does_each_is_named_and_nothing_is_left(
    lonely_head: Head, lonely_user: User, state_dir: Path
) -> None:
    places = [Path(f"{root}/smartsim-bridge-{lonely_user.uid}") for root in ("/var/tmp", "/tmp")]
    with mounted(lonely_user, "noexec", state_dir, *places):
        with pytest.raises(ProvisionFailed) as raised:
            lonely_head.init(autostart=True, provision=True, timeout=PATIENCE, transport="tunnel")
        for place in (state_dir, *places):
            assert f"{place}: it cannot be imported there: " in raised.value.what
            assert not (place / "far").exists() or sites(place) == []
        assert lonely_head.server_pids() == []
