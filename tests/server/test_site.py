"""The far half takes a wheel: as the program that it is on the head, and as a function."""

from __future__ import annotations

import base64
import hashlib
import os
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from smartsim_bridge.bootstrap.artifact import build
from smartsim_bridge.server.site import DRAFT, is_safe_site, unpack
from tests.support.heads import is_running
from tests.support.waiting import wait_until
from tests.support.wheels import zip_of

NAME = "pyzmq-1-cp39-abi-0123"
INIT = b"""__version__ = "1"
def has(what): return True
def zmq_version_info(): return (4, 3, 5)
def zmq_version(): return "4.3.5"
NOBLOCK = EVENTS = POLLIN = SRCFD = RCVMORE = EVENT_ACCEPTED = EVENT_DISCONNECTED = 1
ZMQError = OSError
"""
HANGS = b"import os, time; open(os.path.dirname(__file__) + '/up', 'w'); time.sleep(600)"
# As much of pyzmq as the far half imports.
PYZMQ = {
    "zmq/__init__.py": INIT,
    "zmq/auth/__init__.py": b"",
    "zmq/auth/thread.py": b"ThreadAuthenticator = object",
    "zmq/utils/__init__.py": b"",
    "zmq/utils/monitor.py": b"parse_monitor_message = id",
    "pyzmq.libs/libzmq.so": b"\x7fELF",
    "pyzmq-1.dist-info/METADATA": b"Name: pyzmq",
}


@dataclass(frozen=True)
class Done:
    status: int
    said: str

    @property
    def site(self) -> Path:
        word, _, path = self.said.strip().removeprefix("n0nce ").partition(" ")
        assert word == "STORED", self.said
        return Path(path)

    @property
    def fault(self) -> str:
        word, _, why = self.said.strip().removeprefix("n0nce ").partition(" ")
        assert word == "REFUSED", self.said
        assert self.status == 1
        return why


@pytest.fixture
def far_half(tmp_path: Path) -> Path:
    path = tmp_path / "far.pyz"
    path.write_bytes(build().content)
    return path


def command(far_half: Path, wheel: bytes, *directories: Path) -> list[str]:
    digest = hashlib.sha256(wheel).hexdigest()
    return [
        *(sys.executable, str(far_half), "unpack", "--nonce", "n0nce", "--name", NAME),
        *("--size", str(len(wheel)), "--digest", digest, *map(str, directories)),
    ]


def take(far_half: Path, wheel: bytes, *directories: Path, umask: int = -1) -> Done:
    done = subprocess.run(
        command(far_half, wheel, *directories),
        input=base64.b64encode(wheel),
        capture_output=True,
        timeout=60,
        check=False,
        umask=umask,
    )
    assert done.stderr == b""
    return Done(done.returncode, done.stdout.decode())


def left_in(directory: Path) -> list[str]:
    return os.listdir(directory / "far") if (directory / "far").exists() else []


# --- what is taken ------------------------------------------------------------------------


def test_it_is_unpacked_and_works(far_half: Path, tmp_path: Path) -> None:
    site = take(far_half, zip_of(PYZMQ), tmp_path / "state").site

    assert site == tmp_path / "state" / "far" / NAME
    for name, content in PYZMQ.items():
        assert (site / name).read_bytes() == content
    assert left_in(tmp_path / "state") == [NAME]
    assert is_safe_site(str(site))


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_all_of_it_is_private_whatever_the_umask(
    far_half: Path, tmp_path: Path, umask: int
) -> None:
    wheel = zip_of(PYZMQ, {"pyzmq.libs/libzmq.so": 0o100755, "zmq/__init__.py": 0o104777})
    site = take(far_half, wheel, tmp_path / "state", umask=umask).site

    modes = {path.relative_to(site): path.stat().st_mode & 0o7777 for path in site.rglob("*")}
    assert modes[Path("zmq")] == 0o700
    assert modes[Path("zmq/auth/thread.py")] == 0o600
    assert modes[Path("pyzmq.libs/libzmq.so")] == 0o700
    assert modes[Path("zmq/__init__.py")] == 0o700  # nothing set-uid
    assert all(mode & 0o077 == 0 for mode in modes.values())


def test_many_at_once_get_the_same(far_half: Path, tmp_path: Path) -> None:
    wheel = zip_of(PYZMQ)
    with ThreadPoolExecutor(6) as threads:
        done = list(threads.map(lambda _: take(far_half, wheel, tmp_path / "state"), range(6)))

    assert {one.site for one in done} == {tmp_path / "state" / "far" / NAME}
    assert left_in(tmp_path / "state") == [NAME]


def test_what_a_cleaner_has_left_is_replaced(far_half: Path, tmp_path: Path) -> None:
    site = take(far_half, zip_of(PYZMQ), tmp_path / "state").site
    (site / "zmq/auth/thread.py").unlink()
    (site / "mark").touch()

    assert take(far_half, zip_of(PYZMQ), tmp_path / "state").site == site
    assert (site / "zmq/auth/thread.py").exists()
    assert not (site / "mark").exists()
    assert left_in(tmp_path / "state") == [NAME]


def test_drafts_of_the_dead_are_removed_and_those_of_the_living_are_not(
    far_half: Path, tmp_path: Path
) -> None:
    for name, age in ((f"{DRAFT}old", 7200), (f"{DRAFT}new", 60), ("far.pyz.part", 7200)):
        path = tmp_path / "state/far" / name
        path.mkdir(parents=True)
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - age))
    take(far_half, zip_of(PYZMQ), tmp_path / "state")

    assert sorted(left_in(tmp_path / "state")) == [f"{DRAFT}new", "far.pyz.part", NAME]


# --- directories that will not do ---------------------------------------------------------


def test_each_directory_that_will_not_do_is_passed_over(far_half: Path, tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    places = (Path("/dev/null/state"), tmp_path / "link", tmp_path / "good")

    assert take(far_half, zip_of(PYZMQ), *places).site == tmp_path / "good" / "far" / NAME
    assert list((tmp_path / "target").iterdir()) == []

    fault = take(far_half, zip_of(PYZMQ), *places[:2]).fault
    assert "/dev/null/state: Cannot make /dev/null/state" in fault
    assert f"{tmp_path}/link: {tmp_path}/link is no directory, or a link" in fault


def test_what_cannot_be_imported_is_not_left(far_half: Path, tmp_path: Path) -> None:
    broken = {**PYZMQ, "zmq/__init__.py": b"raise ImportError('failed to map segment')"}

    fault = take(far_half, zip_of(broken), tmp_path / "a", tmp_path / "b").fault

    for directory in (tmp_path / "a", tmp_path / "b"):
        assert f"{directory}: it cannot be imported there: failed to map segment" in fault
        assert left_in(directory) == []


@pytest.mark.parametrize(
    ("init", "why"),
    [
        (INIT.replace(b"return True", b"return False"), "lacks CURVE"),
        (INIT.replace(b"(4, 3, 5)", b"(4, 3, 4)"), "libzmq"),
        (b"import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "status -11"),
    ],
    ids=["no CURVE", "too old", "crash"],
)
def test_what_the_server_could_not_use_is_not_left(
    far_half: Path, tmp_path: Path, init: bytes, why: str
) -> None:
    wheel = zip_of({**PYZMQ, "zmq/__init__.py": init})

    assert why in take(far_half, wheel, tmp_path).fault
    assert left_in(tmp_path) == []


def test_a_write_that_fails_half_way_leaves_nothing(far_half: Path, tmp_path: Path) -> None:
    wheel = zip_of({**PYZMQ, "zmq/large.py": os.urandom(100_000)})
    done = subprocess.run(
        ["sh", "-c", 'ulimit -f 64; exec "$@"', "sh", *command(far_half, wheel, tmp_path)],
        input=base64.b64encode(wheel),
        capture_output=True,
        check=False,
    )
    assert b"File too large" in done.stdout
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_who_is_ended_midway_leaves_nothing(
    far_half: Path, tmp_path: Path, number: signal.Signals
) -> None:
    wheel = zip_of({**PYZMQ, "zmq/__init__.py": HANGS})
    with subprocess.Popen(
        command(far_half, wheel, tmp_path), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        process.stdin.write(base64.b64encode(wheel))
        process.stdin.close()
        wait_until(lambda: any((tmp_path / "far").glob(f"{DRAFT}*/zmq/up")))
        trial = _child_of(process.pid)
        process.send_signal(number)
        assert process.wait(30) == 1
    wait_until(lambda: not is_running(trial))
    assert left_in(tmp_path) == []


def test_who_is_killed_midway_leaves_nothing_under_its_name(far_half: Path, tmp_path: Path) -> None:
    wheel = zip_of({**PYZMQ, "zmq/__init__.py": HANGS})
    with subprocess.Popen(command(far_half, wheel, tmp_path), stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(base64.b64encode(wheel))
        process.stdin.close()
        wait_until(lambda: any((tmp_path / "far").glob(f"{DRAFT}*/zmq/up")))
        trial = _child_of(process.pid)
        process.kill()
    os.kill(trial, signal.SIGKILL)
    assert NAME not in left_in(tmp_path)


def _child_of(pid: int) -> int:
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


# --- wheels that will not do --------------------------------------------------------------


def refuse(wheel: bytes, directory: Path, **changes: str) -> str:
    facts = {"size": str(len(wheel)), "digest": hashlib.sha256(wheel).hexdigest(), **changes}
    with pytest.raises(ValueError, match=r".+") as raised:
        unpack(
            *(NAME, int(facts["size"]), facts["digest"], [str(directory)]),
            base64.b64encode(wheel),
        )
    assert left_in(directory) == []
    return str(raised.value)


@pytest.mark.parametrize(
    "name",
    [
        "../evil.py",
        "zmq/../../evil.py",
        "/etc/evil.py",
        "zmq//evil.py",
        "zmq/./evil.py",
        "zmq\\..\\..\\evil.py",
        "zmq/a\nb.py",
        "sitecustomize.py",
        "os.py",
        "evil.pth",
        "other/__init__.py",
        "pyzmq-1.data/scripts/evil",
    ],
)
def test_nothing_may_leave_the_directory_or_be_more_than_pyzmq(tmp_path: Path, name: str) -> None:
    why = refuse(zip_of({**PYZMQ, name: b"evil"}), tmp_path / "state")

    assert "does not belong to pyzmq" in why
    assert sorted(path.name for path in tmp_path.iterdir()) in ([], ["state"])


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFDIR])
def test_what_is_no_regular_file_is_refused(tmp_path: Path, kind: int) -> None:
    wheel = zip_of({**PYZMQ, "zmq/evil": b"/etc/passwd"}, {"zmq/evil": kind | 0o777})

    assert "no regular file" in refuse(wheel, tmp_path)


def test_a_file_beside_the_packages_is_refused(tmp_path: Path) -> None:
    assert "of a package" in refuse(zip_of({**PYZMQ, "zmq": b""}), tmp_path)


def test_a_name_that_comes_twice_is_refused(tmp_path: Path) -> None:
    both = zip_of({**PYZMQ, "zmq/a.py": b"1", "zmq/b.py": b"2"})

    assert "twice" in refuse(both.replace(b"zmq/b.py", b"zmq/a.py"), tmp_path)


def test_what_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    many = {f"zmq/{number}.py": b"" for number in range(2001)}
    assert "more than pyzmq" in refuse(zip_of({**PYZMQ, **many}), tmp_path)

    bomb = zip_of({**PYZMQ, "zmq/bomb": bytes(65 << 20)})
    assert len(bomb) < 100_000
    assert "more than pyzmq" in refuse(bomb, tmp_path)


def test_a_wheel_of_something_else_is_refused(tmp_path: Path) -> None:
    assert "no zmq" in refuse(zip_of({"pyzmq-1.dist-info/METADATA": b""}), tmp_path)


def test_what_is_no_wheel_is_refused(tmp_path: Path) -> None:
    assert "no wheel" in refuse(b"PK\3\4 nothing", tmp_path)
    assert "no wheel" in refuse(zip_of(PYZMQ)[:-30], tmp_path)


def test_a_member_that_is_broken_leaves_nothing(tmp_path: Path) -> None:
    wheel = bytearray(zip_of({**PYZMQ, "zmq/large.py": os.urandom(5000)}))
    at = wheel.index(b"zmq/large.py") + 2000
    wheel[at] ^= 0xFF

    assert "broken" in refuse(bytes(wheel), tmp_path)


@pytest.mark.parametrize("name", ["../pyzmq-1", "pyzmq-1/..", ".draft-1", "/pyzmq-1", ""])
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="no name"):
        unpack(name, 0, "", [str(tmp_path)], b"")


@pytest.mark.parametrize("changes", [{"size": "1"}, {"digest": "0" * 64}])
def test_what_is_not_what_was_sent_is_refused(tmp_path: Path, changes: dict[str, str]) -> None:
    assert "not what was sent" in refuse(zip_of(PYZMQ), tmp_path, **changes)


# --- into use -----------------------------------------------------------------------------


def test_a_directory_that_others_can_change_is_not_used(tmp_path: Path) -> None:
    site = tmp_path / "far" / NAME
    site.mkdir(parents=True, mode=0o700)
    assert is_safe_site(str(site))
    assert not is_safe_site(f"far/{NAME}")
    assert not is_safe_site(str(tmp_path / "far" / "other"))
    assert not is_safe_site("/far\0")

    site.chmod(0o770)
    assert not is_safe_site(str(site))
    site.chmod(0o700)
    site.parent.chmod(0o777)
    assert not is_safe_site(str(site))
    site.parent.chmod(0o700)
    (tmp_path / "link").symlink_to(site)
    assert not is_safe_site(str(tmp_path / "link"))
