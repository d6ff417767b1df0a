"""Job scripts that only this host has."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from smartsim_bridge.shims.errand import Errand
from smartsim_bridge.shims.job_script import SCRIPT_LIMIT, brought, find_script


def errand(directory: Path, *argv: str) -> Errand:
    return Errand(argv, str(directory), {}, {}, wants_input=False)


def bring(directory: Path, *argv: str) -> tuple[str, ...]:
    asked = errand(directory, *argv)
    script = find_script(asked)
    assert script is not None
    done = brought(asked, script)
    assert (done.input is None) == (done == asked)
    return done.argv


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "job.sh").write_text("#!/bin/sh\n#SBATCH -n 1\nhostname\n", "ascii")
    return tmp_path


def test_it_goes_on_stdin_under_its_own_name(directory: Path) -> None:
    assert bring(directory, "/usr/bin/sbatch", "--parsable", "job.sh") == (
        *("/usr/bin/sbatch", "--parsable", "--job-name=job.sh"),
    )
    path = str(directory / "job.sh")
    assert bring(directory, "bsub", "-n", "2", path) == ("bsub", "-n", "2", "-J", "job.sh")
    assert bring(directory, "qsub", path) == ("qsub", "-N", "job.sh")


def test_its_arguments_stay_with_it_where_the_scheduler_can(directory: Path) -> None:
    assert bring(directory, "sbatch", "job.sh", "-n", "two words") == (
        *("sbatch", "--job-name=job.sh", "/dev/stdin", "-n", "two words"),
    )
    assert bring(directory, "qsub", "job.sh", "1") == ("qsub", "job.sh", "1")
    asked = errand(directory, "qsub", "-N", "it", "job.sh", "1")
    script = find_script(asked)
    assert script is not None
    done = brought(asked, script, has_grid_engine=True)
    assert done.argv == ("qsub", "-N", "it", "--", "1")


@pytest.mark.parametrize("option", ["-Jname", "--job-name=name"])
def test_a_name_that_was_given_holds(directory: Path, option: str) -> None:
    assert bring(directory, "sbatch", option, "job.sh") == ("sbatch", option)
    (directory / "job.sh").write_text(f"#!/bin/sh\n#SBATCH -n 1 {option}\n", "ascii")
    assert bring(directory, "sbatch", "job.sh") == ("sbatch",)


def test_what_is_no_script_of_this_host_is_left_to_the_head(directory: Path) -> None:
    os.mkfifo(directory / "fifo")
    with open(directory / "huge", "wb") as file:
        file.truncate(SCRIPT_LIMIT + 1)
    for name in ("absent.sh", ".", "fifo", "huge"):
        assert find_script(errand(directory, "sbatch", name)) is None
    assert find_script(errand(directory, "sbatch", "--wrap", "job.sh")) is None
