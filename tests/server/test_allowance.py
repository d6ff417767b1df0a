from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from smartsim_bridge.protocol.messages import Start
from smartsim_bridge.server.allowance import Allowance, Refused, is_program_name

EVIL = b"#!/bin/sh\necho evil\n"


def program(directory: Path, name: str, content: bytes = b"#!/bin/sh\necho good\n") -> Path:
    directory.mkdir(exist_ok=True)
    path = directory / name
    path.write_bytes(content)
    path.chmod(0o755)
    return path


def asked(*argv: str, **options: object) -> Start:
    return Start("c", argv, **options)  # type: ignore[arg-type]


@pytest.fixture
def sbatch(tmp_path: Path) -> Path:
    return program(tmp_path / "bin", "sbatch")


@pytest.fixture
def allowance(sbatch: Path) -> Allowance:
    return Allowance(["sbatch", "squeue"], str(sbatch.parent))


def refusal(allowance: Allowance, request: Start) -> Refused:
    with pytest.raises(Refused) as refused:
        allowance.check(request)
    return refused.value


def test_name_of_the_list_is_run_from_where_the_server_finds_it(
    allowance: Allowance, sbatch: Path
) -> None:
    assert allowance.check(asked("sbatch", "job.sh")) == str(sbatch)
    assert allowance.check(asked(str(sbatch), "job.sh")) == str(sbatch)


def test_anything_else_is_refused_by_name_and_told_what_is_allowed(allowance: Allowance) -> None:
    refused = refusal(allowance, asked("rm", "-rf", "x"))
    assert (refused.errno, refused.filename) == (errno.EPERM, "rm")
    assert refused.strerror == "'rm' is not allowed; this server runs only: sbatch, squeue"


def test_empty_list_allows_nothing() -> None:
    assert "runs only: nothing" in str(refusal(Allowance([], "/usr/bin:/bin"), asked("true")))


@pytest.mark.parametrize(
    "spelling",
    ["", ".", "..", "/", "./sbatch", "bin/sbatch", "../bin/sbatch", "SBATCH", "sbatch ", "sbatch\n",
     "sbatch\0", "-sbatch", "/sbatch", "sbatch/", "~/sbatch", "$(sbatch)", "sbatch;true", "sbatc?"],
)  # fmt: skip
def test_spellings_that_are_neither_the_name_nor_its_path_are_refused(
    allowance: Allowance, spelling: str
) -> None:
    assert refusal(allowance, asked(spelling)).errno == errno.EPERM


def test_other_paths_to_the_same_file_are_refused(allowance: Allowance, sbatch: Path) -> None:
    link = sbatch.parent.parent / "sbatch"
    link.symlink_to(sbatch)
    for path in (f"{sbatch.parent}/../bin/sbatch", f"{sbatch.parent}//sbatch", str(link)):
        assert str(sbatch) in str(refusal(allowance, asked(path)))


def test_request_without_a_program_is_refused(allowance: Allowance) -> None:
    assert refusal(allowance, asked()).errno == errno.EPERM


def test_shell_line_is_refused_though_it_begins_with_an_allowed_name(allowance: Allowance) -> None:
    assert "shell" in str(refusal(allowance, asked("sbatch", shell=True)))


def test_other_program_of_the_same_name_is_refused(allowance: Allowance, tmp_path: Path) -> None:
    evil = program(tmp_path / "evil", "sbatch", EVIL)
    assert refusal(allowance, asked(str(evil))).filename == str(evil)


@pytest.fixture
def in_evil_directory(tmp_path: Path) -> Iterator[Path]:
    before = os.getcwd()
    evil = program(tmp_path / "evil", "sbatch", EVIL)
    os.chdir(evil.parent)
    try:
        yield evil
    finally:
        os.chdir(before)


@pytest.mark.parametrize("path", ["{bin}", ":{bin}", ".:{bin}", "bin:{bin}:", "../evil:{bin}"])
def test_directories_that_are_not_absolute_do_not_count(
    sbatch: Path, in_evil_directory: Path, path: str
) -> None:
    found = Allowance(["sbatch"], path.format(bin=sbatch.parent)).check(asked("sbatch"))
    assert found == str(sbatch)


@pytest.mark.parametrize("path", ["", ":", ".", "relative"])
def test_without_an_absolute_directory_nothing_is_found(in_evil_directory: Path, path: str) -> None:
    with pytest.raises(FileNotFoundError):
        Allowance(["sbatch"], path).check(asked("sbatch"))


def test_name_of_the_list_that_is_not_installed_is_told_as_missing(allowance: Allowance) -> None:
    with pytest.raises(FileNotFoundError) as missing:
        allowance.check(asked("squeue"))
    assert missing.value.filename == "squeue"


def test_program_that_is_installed_later_is_found(allowance: Allowance, sbatch: Path) -> None:
    squeue = program(sbatch.parent, "squeue")
    assert allowance.check(asked("squeue")) == str(squeue)


def test_what_is_no_program_is_not_run(allowance: Allowance, sbatch: Path) -> None:
    (sbatch.parent / "squeue").mkdir()
    with pytest.raises(FileNotFoundError):
        allowance.check(asked("squeue"))


@pytest.mark.parametrize("name", ["", ".", "..", "/usr/bin/sbatch", "bin/sbatch", "sba\0tch"])
def test_list_takes_bare_names_only(name: str) -> None:
    assert not is_program_name(name)
    with pytest.raises(ValueError, match="bare name"):
        Allowance(["sbatch", name], "/usr/bin")


def test_repeated_names_are_told_once() -> None:
    allowance = Allowance(["b", "a", "b"], "/usr/bin")
    assert allowance.names == ("b", "a")
    assert repr(allowance) == "<Allowance: b, a>"


@pytest.mark.parametrize(
    "name",
    ["LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "PATH", "PYTHONPATH", "PYTHONSTARTUP", "BASH_ENV",
     "BASH_FUNC_sbatch%%", "ENV", "IFS", "SHELLOPTS", "PERL5LIB", "PERL5OPT", "PERLLIB", "HOME",
     "GCONV_PATH", "GLIBC_TUNABLES", "SLURM_CONF", "EDITOR", "PS4"],
)  # fmt: skip
def test_variables_that_would_choose_the_code_are_dropped(name: str) -> None:
    assert Allowance.clean({name: "x", "MINE": "1"}) == {"MINE": "1"}


def test_variables_of_the_users_own_pass() -> None:
    ordinary = {"OMP_NUM_THREADS": "4", "SLURM_JOB_ID": "7", "LANG": "C", "MYPATH": "x", "TERM": ""}
    assert Allowance.clean(ordinary) == ordinary


def test_cleaned_variables_do_not_reach_into_a_real_program(tmp_path: Path) -> None:
    """What an allowed script in sh, run as the server would run it, looks up and sources."""
    evil = program(tmp_path / "evil", "true", EVIL)
    trap = program(tmp_path / "evil", "trap", EVIL)
    script = program(tmp_path / "bin", "sbatch", b"#!/bin/bash\ntrue && echo good\n")
    env = {"PATH": f"{evil.parent}:/bin", "BASH_ENV": str(trap), "BASH_FUNC_true%%": "() { trap; }"}
    own = {"PATH": "/usr/bin:/bin"}

    def said(asked_for: dict[str, str]) -> str:
        found = Allowance(["sbatch"], str(script.parent)).check(asked("sbatch"))
        out = subprocess.run(
            [found], env={**own, **asked_for}, stdout=subprocess.PIPE, text=True, check=False
        )
        return out.stdout

    assert "evil" in said(env)  # or the test would prove nothing
    assert said(Allowance.clean(env)) == "good\n"
