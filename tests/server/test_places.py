from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from smartsim_bridge.errors import UnsafeDirectory
from smartsim_bridge.server import places
from smartsim_bridge.server.places import STATE_VARIABLE, choose_places, private_directory
from tests.support.users import is_root

needs_root = pytest.mark.skipif(not is_root(), reason="giving files away needs root")
NOBODY = 65534


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode(path: str | Path) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands for /tmp."""
    path = tmp_path / "tmp"
    path.mkdir()
    path.chmod(0o1777)
    monkeypatch.setattr(places, "NODE_ROOTS", (str(path),))
    return path


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_every_directory_is_private_whatever_the_umask(
    tmp_path: Path, root: Path, mask: int
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with umask(mask):
        found = choose_places({"HOME": str(home)})
        assert os.umask(mask) == mask
    made = [path for path in home.rglob("*") if path.is_dir()]
    assert {mode(path) for path in (*made, *root.iterdir())} == {0o700}
    assert str(home / ".local/state/smartsim-bridge") == found.state
    assert {Path(found.servers), Path(found.logs)} <= set(made)


def test_state_directory_may_be_named(tmp_path: Path, root: Path) -> None:
    environ = {"HOME": str(tmp_path), STATE_VARIABLE: str(tmp_path / "variable")}
    assert choose_places(environ).state == str(tmp_path / "variable")
    assert choose_places(environ, str(tmp_path / "option")).state == str(tmp_path / "option")


def test_places_are_the_same_each_time(tmp_path: Path, root: Path) -> None:
    environ = {"HOME": str(tmp_path)}
    assert choose_places(environ) == choose_places(environ)


def test_each_state_directory_has_its_own_lock_and_socket(tmp_path: Path, root: Path) -> None:
    one, two = (choose_places({}, str(tmp_path / name)) for name in ("one", "two"))
    assert len({one.lock, two.lock, one.socket, two.socket}) == 4


def test_two_ways_to_one_state_directory_share_the_lock(tmp_path: Path, root: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "alias").symlink_to(tmp_path / "real")
    one, two = (choose_places({}, str(tmp_path / name / "s")) for name in ("real", "alias"))
    assert one.lock == two.lock


def test_socket_path_is_short_enough_for_the_kernel(tmp_path: Path) -> None:
    found = choose_places({}, str(tmp_path / ("x" * 200)))
    assert len(found.socket) < 100


def test_open_directory_of_ours_is_closed(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    private_directory(str(tmp_path / "open"))
    assert mode(tmp_path / "open") == 0o700


@needs_root
def test_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", NOBODY, NOBODY)
    with pytest.raises(UnsafeDirectory, match=f"belongs to uid {NOBODY}"):
        private_directory(str(tmp_path / "theirs"))


def test_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(UnsafeDirectory, match="link"):
        private_directory(str(tmp_path / "link"))


@pytest.mark.parametrize("content", ["file", "dangling"])
def test_what_is_no_directory_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / content
    if content == "file":
        path.touch()
    else:
        path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(UnsafeDirectory, match=content):
        private_directory(str(path))


def test_directory_that_cannot_be_made_is_named_with_advice(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UnsafeDirectory, match="file/sub") as refused:
        private_directory(str(tmp_path / "file" / "sub"))
    assert "--state-dir" in refused.value.advice


@needs_root
def test_squatter_does_not_stop_us(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    squatted = root / f"smartsim-bridge-{os.getuid()}"
    squatted.mkdir()
    os.chown(squatted, NOBODY, NOBODY)
    other = tmp_path / "other"
    other.mkdir()
    other.chmod(0o1777)
    monkeypatch.setattr(places, "NODE_ROOTS", (str(root), str(other)))
    assert choose_places({}, str(tmp_path / "s")).socket.startswith(str(other))


def test_squatting_everywhere_is_an_error_that_names_the_places(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / f"smartsim-bridge-{os.getuid()}").symlink_to(tmp_path)
    missing = str(tmp_path / "missing")
    monkeypatch.setattr(places, "NODE_ROOTS", (str(root), missing))
    with pytest.raises(UnsafeDirectory) as refused:
        choose_places({}, str(tmp_path / "s"))
    assert str(root) in refused.value.what
    assert missing in refused.value.what


def test_root_that_anybody_may_rearrange_is_not_used(tmp_path: Path, root: Path) -> None:
    root.chmod(0o777)
    with pytest.raises(UnsafeDirectory, match="not sticky"):
        choose_places({}, str(tmp_path / "s"))
