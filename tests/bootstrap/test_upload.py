from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest

from smartsim_bridge.bootstrap import shell as shell_module
from smartsim_bridge.bootstrap.artifact import Artifact, build
from smartsim_bridge.bootstrap.plan import Upload
from smartsim_bridge.bootstrap.upload import upload
from smartsim_bridge.errors import UploadFailed
from smartsim_bridge.stages import Journey
from tests.bootstrap.samples import Head, modern_pythons, write_program
from tests.support.shells import shell_command


def send(
    head: Head,
    *directories: Path | str,
    artifact: Artifact | None = None,
    python: str = sys.executable,
    prelude: str = "",
    shell: str = "/bin/sh",
) -> str:
    sent = artifact or build()
    step = Upload(python, sent.name, tuple(str(directory) for directory in directories))
    with head.shell(shell, prelude=prelude) as opened:
        return upload(opened, step, sent, journey=Journey("me@login1"))


def test_the_far_half_arrives_whole(head: Head) -> None:
    path = Path(send(head, head.state))

    assert path == head.state / "far" / build().name
    assert path.read_bytes() == build().content
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("size", [1, 49_151, 49_152, 49_153, 1_000_000])
def test_any_size_arrives_whole(head: Head, size: int) -> None:
    content = (bytes(range(256)) * (size // 256 + 1))[:size]
    artifact = Artifact("x.pyz", hashlib.sha256(content).hexdigest(), content)

    assert Path(send(head, head.state, artifact=artifact)).read_bytes() == content


@pytest.mark.parametrize("shell", ["dash", "bash --posix", "busybox sh", "ksh", "mksh"])
def test_every_shell_can_send(head: Head, monkeypatch: pytest.MonkeyPatch, shell: str) -> None:
    monkeypatch.setattr(shell_module, "COMMAND", shell_command(shell))

    assert Path(send(head, head.state)).read_bytes() == build().content


@pytest.mark.parametrize("python", modern_pythons())
def test_every_python_can_receive(head: Head, python: str) -> None:
    assert Path(send(head, head.state, python=python)).read_bytes() == build().content


def test_a_directory_with_an_odd_name_is_no_trouble(head: Head) -> None:
    assert Path(send(head, head.home / "it's $HOME; ü")).read_bytes() == build().content


def test_a_noisy_shell_is_no_trouble(head: Head) -> None:
    shell = write_program(head.programs / "noisy", 'printf "welcome"; eval "$2"; echo bye')
    path = send(head, head.state, shell=str(shell), prelude="echo loading")

    assert Path(path).read_bytes() == build().content


def test_a_home_that_refuses_leads_to_the_next_directory(head: Head, tmp_path: Path) -> None:
    assert send(head, "/dev/null/home", tmp_path / "next").startswith(str(tmp_path / "next"))


def test_a_write_that_fails_half_way_leaves_nothing(head: Head) -> None:
    with pytest.raises(UploadFailed, match="File too large"):
        send(head, head.state, prelude="ulimit -f 8")

    assert list((head.state / "far").iterdir()) == []


def test_no_directory_at_all_names_host_step_and_each_fault(head: Head) -> None:
    with pytest.raises(UploadFailed) as raised:
        send(head, "/dev/null/a", "/dev/null/b")

    said = str(raised.value)
    assert "host me@login1, step upload" in said
    assert "/dev/null/a: Not a directory; /dev/null/b: Not a directory" in said


def test_a_python_that_breaks_off_is_quoted(head: Head) -> None:
    python = head.add_program("python3", "echo 'write: No space left on device' >&2; exit 1")

    with pytest.raises(UploadFailed, match="did not arrive") as raised:
        send(head, head.state, python=python)
    assert raised.value.noise == "  write: No space left on device"
    assert "The disk is full" in str(raised.value)


def test_a_vanished_python_is_an_upload_failure(head: Head) -> None:
    with pytest.raises(UploadFailed, match="not found"):
        send(head, head.state, python="/no/such/python")


def test_the_stage_tells_weight_and_place(head: Head) -> None:
    journey = Journey("me@login1")
    step = Upload(sys.executable, build().name, (str(head.state),))
    with head.shell() as shell:
        upload(shell, step, build(), journey=journey)
    (stage,) = journey.stages
    assert stage.name == "upload"
    assert f"kB to {head.state}" in stage.detail
