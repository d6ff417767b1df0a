"""Real pip, on wheels of nothing, in a directory that it is told to look into."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import stat
import sys
import tempfile
from pathlib import Path

import pytest

from smartsim_bridge.bootstrap.wheel_tags import Tags
from smartsim_bridge.bootstrap.wheels import Wheel, fetch
from smartsim_bridge.deadline import Deadline
from smartsim_bridge.errors import ProvisionFailed
from tests.bootstrap.samples import write_program
from tests.support.wheels import zip_of

TAGS = Tags("3.9", "cp39", ("manylinux_2_28_x86_64", "manylinux2014_x86_64"))


def write_wheel(directory: Path, version: str = "27.0.0", tags: str = "") -> Path:
    tags = tags or "cp39-cp39-manylinux2014_x86_64"
    info = f"pyzmq-{version}.dist-info"
    members = {
        "zmq/__init__.py": b"",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: pyzmq\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nTag: {tags}\n".encode(),
        f"{info}/RECORD": b"",
    }
    path = directory / f"pyzmq-{version}-{tags}.whl"
    path.write_bytes(zip_of(members))
    return path


@pytest.fixture
def links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where pip finds what it finds; nothing yet."""
    directory = tmp_path / "links"
    directory.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(directory))
    return directory


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def take(cache: Path, tags: Tags = TAGS, seconds: float = 240) -> Wheel:
    return fetch(tags, str(cache), deadline=Deadline(seconds))


def test_the_newest_that_fits_is_fetched(links: Path, cache: Path) -> None:
    write_wheel(links, "25.1.2")
    write_wheel(links, "26.4.0")
    newest = write_wheel(links, "27.3.0")
    write_wheel(links, "28.0.0", "cp39-cp39-manylinux_2_39_x86_64")
    write_wheel(links, "28.0.0", "cp310-cp310-manylinux2014_x86_64")
    write_wheel(links, "28.0.0", "cp39-cp39-manylinux2014_aarch64")
    wheel = take(cache)

    assert wheel.name == newest.name
    assert wheel.content == newest.read_bytes()
    assert wheel.digest == hashlib.sha256(wheel.content).hexdigest()
    assert wheel.folder == f"{newest.stem}-{wheel.digest[:12]}"


def test_the_stable_abi_will_do_for_a_newer_python(links: Path, cache: Path) -> None:
    path = write_wheel(links, tags="cp312-abi3-manylinux2014_x86_64")

    assert take(cache, Tags("3.13", "cp313", TAGS.platforms)).name == path.name


def test_the_stable_abi_will_not_do_without_the_lock(links: Path, cache: Path) -> None:
    write_wheel(links, tags="cp312-abi3-manylinux2014_x86_64")

    with pytest.raises(ProvisionFailed):  # an older pip takes it, a newer one finds none
        take(cache, Tags("3.13", "cp313t", TAGS.platforms))
    assert not cache.exists()


def test_what_was_fetched_is_kept_for_the_next_head(links: Path, cache: Path) -> None:
    path = write_wheel(links)
    first = take(cache)
    path.unlink()

    assert take(cache) == first
    kept = sorted((cache / "wheels" / TAGS.name).iterdir())
    assert [one.suffix for one in kept] == [".sha256", ".whl"]
    assert all(stat.S_IMODE(one.stat().st_mode) == 0o600 for one in kept)
    with pytest.raises(ProvisionFailed, match="No matching distribution"):
        take(cache, Tags("3.10", "cp310", TAGS.platforms))


@pytest.mark.parametrize("spoilt", [".whl", ".sha256"])
def test_what_was_spoilt_meanwhile_is_fetched_again(links: Path, cache: Path, spoilt: str) -> None:
    write_wheel(links)
    first = take(cache)
    (path,) = (cache / "wheels" / TAGS.name).glob(f"*{spoilt}")
    path.write_bytes(b"changed")

    assert take(cache) == first
    (whole,) = (cache / "wheels" / TAGS.name).glob("*.whl")
    assert whole.read_bytes() == first.content


@pytest.mark.parametrize("spoilt", [".whl", ".sha256"])
def test_a_pipe_in_its_place_is_not_waited_for(links: Path, cache: Path, spoilt: str) -> None:
    write_wheel(links)
    first = take(cache)
    (path,) = (cache / "wheels" / TAGS.name).glob(f"*{spoilt}")
    path.unlink()
    os.mkfifo(path)

    assert take(cache) == first
    assert path.is_file()


@pytest.mark.parametrize("mode", [0o770, 0o707])
def test_a_wheel_that_others_could_have_put_there_does_not_count(
    mode: int, links: Path, cache: Path
) -> None:
    write_wheel(links)
    take(cache)
    place = cache / "wheels" / TAGS.name
    (theirs,) = place.glob("*.whl")
    theirs.write_bytes(b"theirs")
    theirs.with_suffix(".sha256").write_text(hashlib.sha256(b"theirs").hexdigest())
    assert take(cache).content == b"theirs"  # the digest alone would let it pass
    place.chmod(mode)

    assert take(cache).content != b"theirs"


def test_a_wheel_without_its_digest_does_not_count(links: Path, cache: Path) -> None:
    write_wheel(links)
    place = cache / "wheels" / TAGS.name
    place.mkdir(mode=0o700, parents=True)
    (place / "pyzmq-99.0-cp39-cp39-any.whl").write_bytes(b"whoever wrote this")

    assert take(cache).name.startswith("pyzmq-27")


def test_a_cache_that_cannot_be_written_is_no_fault(links: Path) -> None:
    path = write_wheel(links)

    assert take(Path("/dev/null/cache")).content == path.read_bytes()


def test_pip_finds_none_and_its_words_and_the_way_by_hand_are_told(
    links: Path, cache: Path
) -> None:
    with pytest.raises(ProvisionFailed) as raised:
        take(cache)

    assert raised.value.step == "provision"
    assert "pip failed with status 1: ERROR: " in raised.value.what
    assert "No matching distribution found for pyzmq>=26" in raised.value.what
    assert "\n" not in raised.value.what
    assert "PIP_FIND_LINKS" in raised.value.advice
    assert "pip download --only-binary=:all:" in raised.value.advice
    assert "--platform manylinux2014_x86_64" in raised.value.advice


def test_a_setting_that_wants_a_virtual_environment_is_no_obstacle(
    links: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_wheel(links)
    monkeypatch.setenv("PIP_REQUIRE_VIRTUALENV", "1")
    monkeypatch.setattr(sys, "executable", os.path.realpath(sys.executable))

    assert take(cache).content


def test_a_pip_that_lies_about_is_not_run(
    links: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_wheel(links)
    (tmp_path / "here").mkdir()
    (tmp_path / "here/pip.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path / "here")

    assert take(cache).content


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("pyzmq-27.0.tar.gz", "no name of a wheel"),
        ("pyzmq-25.1.2-cp39-cp39-any.whl", "older than pyzmq>=26"),
        ("other-1-cp39-cp39-any.whl", "no name of a wheel"),
        ("pyzmq-27.0-cp39-cp310-any.whl", "not built for cp39"),
        ("pyzmq-27.0 $(x)-cp39-cp39-any.whl", "no name of a wheel"),
    ],
)
def test_what_pip_brings_is_looked_at(
    links: Path, cache: Path, pip: Pip, name: str, why: str
) -> None:
    pip.does(f"touch '{name}'")

    with pytest.raises(ProvisionFailed, match=why):
        take(cache)


def test_what_is_too_large_is_not_taken(links: Path, cache: Path, pip: Pip) -> None:
    pip.does("truncate -s 9M pyzmq-27.0-cp39-cp39-any.whl")

    with pytest.raises(ProvisionFailed, match="larger than 8 MiB"):
        take(cache)


def test_one_wheel_is_wanted_not_several(links: Path, cache: Path, pip: Pip) -> None:
    pip.does("touch a b")
    with pytest.raises(ProvisionFailed, match="2 files instead of one"):
        take(cache)


def test_a_pip_that_hangs_leaves_time_for_the_rest(links: Path, cache: Path, pip: Pip) -> None:
    pip.does("echo Looking for it; exec sleep 600")
    deadline = Deadline(2)

    with pytest.raises(ProvisionFailed, match="took too long: Looking for it"):
        fetch(TAGS, str(cache), deadline=deadline)
    assert deadline.left > 0.3


@pytest.mark.parametrize("limit", [0.01, 3600, None])
def test_any_time_limit_will_do(links: Path, cache: Path, limit: float | None) -> None:
    write_wheel(links)
    if limit == 0.01:
        with pytest.raises(ProvisionFailed, match="took too long"):
            fetch(TAGS, str(cache), deadline=Deadline(limit))
    else:
        assert fetch(TAGS, str(cache), deadline=Deadline(limit)).content


def test_a_full_temporary_directory_is_told(
    links: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/dev/null")
    with pytest.raises(ProvisionFailed, match="Not a directory"):
        take(cache)


def test_without_pip_it_is_told_how_to_get_one(
    links: Path, cache: Path, pip: Pip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ProvisionFailed, match="no pip to fetch pyzmq with") as raised:
        take(cache)
    assert "-m ensurepip" in raised.value.advice


class Pip:
    """The pip on PATH, for a Python that has none."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def does(self, script: str) -> None:
        write_program(self._directory / "pip3", script)


@pytest.fixture
def pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pip:
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    return Pip(tmp_path / "bin")
