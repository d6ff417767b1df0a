"""What the script says, on this very machine and in pieces."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest

from smartsim_bridge.bootstrap.host import LocalHost
from smartsim_bridge.bootstrap.script import assignments
from smartsim_bridge.bootstrap.shell import Shell
from smartsim_bridge.deadline import Deadline
from smartsim_bridge.doctor.answers import Answers, PlaceFound, Sacct, parse_answers
from smartsim_bridge.errors import ProbeFailed

NONCE = "abc123"


def said(*lines: str) -> str:
    return "noise\n" + "".join(f"{NONCE} {line}\n" for line in lines) + "more noise\n"


def test_lines_without_the_nonce_are_passed_over() -> None:
    text = f"shell=/bin/evil\nother shell=x\n{said('shell=/bin/sh')}"
    assert parse_answers(text, NONCE) == Answers(shell="/bin/sh")


def test_records_belong_to_the_place_before_them() -> None:
    text = said(
        "place=/a", "place_in=/", "place_free=12", "place_executes=yes",
        "place=/b", "place_fault=Permission denied", "end yes", "end=yes",
    )  # fmt: skip
    found = parse_answers(text, NONCE)
    assert found.is_whole
    assert found.places == (
        PlaceFound("/a", "/", free_kib=12, executes=True),
        PlaceFound("/b", fault="Permission denied"),
    )


@pytest.mark.parametrize("text", ["", said("place_in=/"), said("sacct_status=many")])
def test_what_makes_no_sense_is_nothing(text: str) -> None:
    assert parse_answers(text, NONCE) == Answers()


def ask(home: Path, path: str, **values: str) -> Answers:
    environment = {"HOME": str(home), "PATH": path, "USER": "me"}
    with Shell(LocalHost(home=str(home), environment=environment), deadline=Deadline(30)) as shell:
        script = files("smartsim_bridge.doctor").joinpath("questions.sh").read_text("utf-8")
        body = assignments(nonce=shell.nonce, state=f"{home}/state", **values) + script
        text = shell.ask(body, "answer", step="questions", failure=ProbeFailed).text
        return parse_answers(text, shell.nonce)


@pytest.fixture
def stubs(tmp_path: Path) -> Path:
    directory = tmp_path / "bin"
    directory.mkdir()
    return directory


def stub(directory: Path, name: str, script: str) -> None:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n", "utf-8")
    path.chmod(0o755)


def test_a_host_with_slurm_is_read(tmp_path: Path, stubs: Path) -> None:
    stub(stubs, "sbatch", "exit 9")
    stub(stubs, "sacct", "printf '12|\\n12.batch|\\n12.0|\\n13_1|\\n'")
    stub(stubs, "quota", "echo 'Disk quotas for user me:'; echo '  /dev/sda1 1 2 3 4'")
    (tmp_path / "state" / "servers").mkdir(parents=True)
    found = ask(tmp_path, f"{stubs}:/usr/bin:/bin")
    assert found.is_whole
    assert found.shell.startswith("/")
    assert {"sbatch", "sacct"} <= found.programs
    assert found.sacct == Sacct(0, "", 2, 2)
    assert found.quota[1] == "/dev/sda1 1 2 3 4"
    assert len(found.places) == 4
    state = found.places[0]
    assert state.path == state.nearest == f"{tmp_path}/state"
    assert (state.fault, state.executes, state.locks) == ("", True, True)
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == ["servers"]


def test_an_accounting_that_fails_says_why(tmp_path: Path, stubs: Path) -> None:
    stub(stubs, "sacct", "echo 'Slurm accounting storage is disabled' >&2; exit 1")
    found = ask(tmp_path, f"{stubs}:/usr/bin:/bin")
    assert found.sacct == Sacct(1, "Slurm accounting storage is disabled")


def test_a_place_that_is_no_directory_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    assert ask(tmp_path, "/usr/bin:/bin").places[0].fault == "it is no directory of yours"
