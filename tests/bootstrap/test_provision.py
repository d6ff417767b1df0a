"""To a head that is a directory of this machine, with the pyzmq that runs these tests."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from smartsim_bridge.bootstrap import provision as provision_module
from smartsim_bridge.bootstrap import shell as shell_module
from smartsim_bridge.bootstrap.artifact import build
from smartsim_bridge.bootstrap.facts import Build, PythonFound
from smartsim_bridge.bootstrap.plan import Provide
from smartsim_bridge.bootstrap.provision import provide
from smartsim_bridge.bootstrap.script import printing
from smartsim_bridge.bootstrap.wheel_tags import Tags
from smartsim_bridge.bootstrap.wheels import Wheel
from smartsim_bridge.deadline import Deadline
from smartsim_bridge.errors import ProvisionFailed
from smartsim_bridge.stages import Journey
from tests.bootstrap.samples import Head
from tests.support.shells import shell_command
from tests.support.wheels import make_wheel

BUILD = Build("cpython-39-x86_64-linux-gnu", "linux-x86_64", "x86_64", 64, "glibc 2.28")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Wheel:
    path = make_wheel(tmp_path_factory.mktemp("wheel"))
    if path is None:
        pytest.skip("this pyzmq was not installed from a wheel")
    return Wheel(path.name, path.read_bytes())


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch, wheel: Wheel) -> None:
    def fetch(tags: Tags, cache: str, *, deadline: Deadline) -> Wheel:
        assert tags.abi == "cp39"
        return wheel

    monkeypatch.setattr(provision_module, "fetch", fetch)


def run(
    head: Head,
    *directories: Path | str,
    python: str = sys.executable,
    built: Build | None = BUILD,
    journey: Journey | None = None,
) -> Path:
    far_half = head.home / build().name
    far_half.write_bytes(build().content)
    step = Provide(PythonFound(python, (3, 9), build=built), tuple(map(str, directories)))
    with head.shell() as shell:
        site = provide(
            shell,
            step,
            str(far_half),
            cache="/nowhere",
            deadline=Deadline(60),
            journey=journey or Journey("me@login1"),
        )
    return Path(site)


@pytest.mark.usefixtures("fetched")
def test_pyzmq_arrives_whole_and_the_stage_tells_weight_and_place(head: Head, wheel: Wheel) -> None:
    journey = Journey("me@login1")
    site = run(head, head.state, journey=journey)

    assert site == head.state / "far" / wheel.folder
    assert (site / "zmq/__init__.py").exists()
    (stage,) = journey.stages
    assert stage.name == "provision"
    assert f"{wheel.name}, to {site}" in stage.detail


@pytest.mark.usefixtures("fetched")
@pytest.mark.parametrize("shell", ["dash", "bash --posix", "busybox sh", "ksh", "mksh", "zsh"])
def test_every_shell_can_send_a_megabyte(
    head: Head, monkeypatch: pytest.MonkeyPatch, shell: str
) -> None:
    monkeypatch.setattr(shell_module, "COMMAND", shell_command(shell))

    assert (run(head, head.state) / "zmq/__init__.py").exists()


@pytest.mark.usefixtures("fetched")
def test_clients_that_race_get_the_same(head: Head) -> None:
    with ThreadPoolExecutor(3) as threads:
        found = set(threads.map(lambda _: run(head, head.state), range(3)))

    assert len(found) == 1
    assert len(list((head.state / "far").iterdir())) == 1


@pytest.mark.usefixtures("fetched")
def test_the_fault_of_each_directory_is_told_with_host_and_step(head: Head) -> None:
    journey = Journey("me@login1")
    with pytest.raises(ProvisionFailed) as raised:
        run(head, "/dev/null/a", "/dev/null/b", journey=journey)

    assert "host me@login1, step provision" in str(raised.value)
    assert "/dev/null/a: Cannot make" in raised.value.what
    assert "/dev/null/b: Cannot make" in raised.value.what
    assert journey.stages[0].failed
    assert journey.stages[0].detail == raised.value.what


@pytest.mark.usefixtures("fetched")
def test_a_python_that_breaks_off_is_quoted(head: Head) -> None:
    python = head.add_program("python3", "echo 'no room: Disk quota exceeded' >&2; exit 1")

    with pytest.raises(ProvisionFailed, match="did not arrive") as raised:
        run(head, head.state, python=python)
    assert "Disk quota exceeded" in raised.value.noise
    assert "quota is used up" in raised.value.advice


def test_for_a_python_without_wheels_nothing_is_fetched_or_sent(head: Head) -> None:
    python = head.add_program("pypy3", "echo must not run >&2; exit 9")
    built = Build("pypy39-pp73-x86_64-linux-gnu", "linux-x86_64", "x86_64", 64, "glibc 2.28")

    with pytest.raises(ProvisionFailed, match="pypy3 there: it is no CPython") as raised:
        run(head, head.state, python=python, built=built)
    assert raised.value.host == "me@login1"
    with pytest.raises(ProvisionFailed, match="does not tell what it was built for"):
        run(head, head.state, built=None)


@pytest.mark.usefixtures("fetched")
def test_what_arrives_in_part_is_not_unpacked(
    head: Head, monkeypatch: pytest.MonkeyPatch, wheel: Wheel
) -> None:
    def half(content: bytes, function: str) -> str:
        return printing(content[: len(content) // 2], function)

    monkeypatch.setattr(provision_module, "printing", half)
    with pytest.raises(ProvisionFailed, match="not what was sent"):
        run(head, head.state)
    assert not (head.state / "far").exists()
