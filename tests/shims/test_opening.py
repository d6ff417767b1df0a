"""What init finds out about the head, and what it says of it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from smartsim_bridge import AsyncBridge, Bridge, remote
from smartsim_bridge.client.listing import CommandInfo
from smartsim_bridge.protocol.environment import SHIM_MARKER
from smartsim_bridge.shims import opening
from smartsim_bridge.shims.survey import QUESTIONER, Survey, question, read_answer
from smartsim_bridge.stages import Stage
from tests.shims.conftest import Session
from tests.shims.test_reception import run
from tests.support.local_server import LocalServer, MakeLocalServer
from tests.support.scheduler import make_scheduler


def ask(tmp_path: Path, path: str, *names: str) -> Survey:
    token = tmp_path / "token"
    token.write_text("0123abcd\n", "ascii")
    done = subprocess.run(
        QUESTIONER,
        input=question(names, str(token), SHIM_MARKER),
        env={"PATH": path},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stderr == ""
    return read_answer(done.stdout, "0123abcd")


def known(bridge: Bridge) -> set[str]:
    """The commands of now; those of tests before are forgotten by and by."""
    return {one.id for one in bridge.commands()}


def new(bridge: Bridge, before: set[str]) -> list[CommandInfo]:
    return [one for one in bridge.commands() if one.id not in before]


def test_the_head_says_what_it_has_less_what_is_a_shim(tmp_path: Path) -> None:
    for place in ("shims", "two words"):
        (tmp_path / place).mkdir()
        for name in ("squeue", "sbatch"):
            (tmp_path / place / name).write_text("#!/bin/sh\n", "ascii")
            (tmp_path / place / name).chmod(0o755)
    (tmp_path / "shims" / "srun").symlink_to("squeue")
    (tmp_path / "shims" / SHIM_MARKER).touch()
    real = str(tmp_path / "two words")
    found = ask(tmp_path, f"{tmp_path}/shims:{real}", "squeue", "sbatch", "srun", "cd")
    assert found == Survey({"squeue": f"{real}/squeue", "sbatch": f"{real}/sbatch"}, real, True)


@pytest.mark.parametrize("answer", ["", "token other\n", "path /bin\ntoken \n"])
def test_without_our_token_files_are_not_shared(answer: str) -> None:
    assert not read_answer(answer, "0123abcd").files_are_shared


def test_init_runs_no_command(session: Session) -> None:
    onlooker = session(shims=False)
    before, polls = known(onlooker), onlooker.status().polls
    session()
    assert run("squeue").returncode == 0
    (told,) = new(onlooker, before)
    assert os.path.basename(told.argv[0]) == "squeue"
    assert onlooker.status().polls == polls + 1


def test_a_server_that_knows_no_better_is_asked_by_a_command(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask_head = opening.ask_head
    found = []

    def ask_twice(*asked: Any) -> Survey:
        found.append(ask_head(*asked))
        bridge = asked[0]
        talk = bridge.core._session.talk
        talk.welcome = dataclasses.replace(talk.welcome, locates=False)
        found.append(ask_head(*asked))
        return found[-1]

    monkeypatch.setattr(opening, "ask_head", ask_twice)
    onlooker = session(shims=False)
    before = known(onlooker)
    session()
    assert run("squeue").returncode == 0
    assert found[0] == found[1]
    assert found[0].files_are_shared
    assert new(onlooker, before)[0].argv[0] == "/bin/sh"


def test_a_stage_tells_what_came_of_it(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("PMI_RANK", "0")
    stages: list[Stage] = []
    bridge = session(on_stage=stages.append)
    assert stages[-1].name == "shims"
    assert "files shared, 2 variables of the enclosing job stay here" in stages[-1].detail
    status = bridge.status()
    assert status.left_behind == ("PMI_RANK", "SLURM_JOB_ID")
    assert status.stages[-1] == stages[-1]
    assert status.notices == ()


def test_a_head_without_accounting_is_told_by_init(
    make_local_server: MakeLocalServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    programs = make_scheduler(tmp_path / "bin")
    (programs / "broken").touch()
    conf = tmp_path / "slurm.conf"
    conf.write_text("ClusterName=c\n", "ascii")
    with monkeypatch.context() as there:
        there.setenv("PATH", f"{programs}:{os.environ['PATH']}")
        there.setenv("SLURM_CONF", str(conf))
        server = make_local_server()
    with caplog.at_level(logging.WARNING, "smartsim_bridge.shims"):
        bridge = server.init()
    (notice,) = bridge.status().notices
    assert notice == f"sacct on {bridge.core.host} knows of no job: {conf} asks for no accounting"
    assert notice in str(bridge.status())
    (told,) = caplog.records
    assert notice in told.getMessage()
    assert "slurmdbd" in told.getMessage()
    assert run("sacct").returncode == 1
    assert bridge.status().notices == (notice,)  # not once more


def test_a_head_whose_sacct_fails_is_told(
    session: Session, scheduler: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (scheduler / "broken").touch()
    try:
        with caplog.at_level(logging.WARNING, "smartsim_bridge"):
            bridge = session()
            assert bridge.status().notices == ()
            for _ in range(2):
                assert run("sacct").returncode == 1
        (notice,) = bridge.status().notices
        assert "sacct: error: no storage" in notice
        assert notice in caplog.text
        assert notice in str(bridge.status())
    finally:
        (scheduler / "broken").unlink()


def test_a_sacct_that_somebody_ended_says_nothing_of_accounting(
    session: Session, scheduler: Path
) -> None:
    (scheduler / "stopped").touch()
    try:
        bridge = session()
        assert run("sacct").returncode == -signal.SIGTERM
        assert bridge.status().notices == ()
    finally:
        (scheduler / "stopped").unlink()


def test_a_server_with_a_list_has_shims_of_what_is_in_it(
    make_local_server: MakeLocalServer, scheduler: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as there:
        there.setenv("PATH", f"{scheduler}:{os.environ['PATH']}")
        server = make_local_server(
            *["--allow", "sbatch", "--allow", "squeue", "--allow", "bsub", "--allow", "env"]
        )
    bridge = server.init()
    assert bridge.status().shims == ("sbatch", "squeue")
    assert run("squeue", "--me").stdout == b"JOBID --me\n"


def test_where_there_can_be_no_shims_the_bridge_is_as_good(
    session: Session, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "/state/shims")

    monkeypatch.setattr(opening, "make_folder", refuse)
    before = dict(os.environ)
    bridge = session()
    assert bridge.run(["echo", "yes"]).stdout == "yes\n"
    assert dict(os.environ) == before
    assert "Permission denied" in bridge.status().notices[0]
    assert bridge.status().shims == ()
    assert bridge.status().stages[-1].failed


def test_the_old_names_bring_shims_as_well(session: Session, head: LocalServer) -> None:
    with remote.init_command_server("127.0.0.1", head.port, timeout=60):
        assert run("squeue").returncode == 0


def test_an_async_bridge_leaves_the_process_alone(session: Session) -> None:
    session(shims=False)
    before = dict(os.environ)

    async def connect() -> None:
        async with await AsyncBridge.connect(transport="local"):
            assert dict(os.environ) == before

    asyncio.run(connect())


def test_of_a_server_with_a_list_there_are_shims_of_what_it_names(
    session: Session, scheduler: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SMARTSIM_BRIDGE_STATE_DIR", str(tmp_path / "other"))
    with monkeypatch.context() as there:
        there.setenv("PATH", f"{scheduler}:{os.environ['PATH']}")
        server = LocalServer(tmp_path / "other", "--port", "0", "--allow", "squeue")
        server.__enter__()
    with contextlib.ExitStack() as ends:
        ends.push(server.__exit__)
        bridge = server.init(transport="local")
        assert (bridge.status().shims, bridge.status().notices) == (("squeue",), ())
        assert run("squeue").returncode == 0


# --- with which variables, and where


def test_a_job_from_within_a_job_sees_nothing_of_it(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    session()
    for name in ("SLURM_JOB_ID", "SLURM_NTASKS", "SBATCH_OUTER"):
        monkeypatch.setenv(name, "7")
    monkeypatch.setenv("OUTER", "mine")
    done = run("sbatch", "--wrap", "x")
    assert b"OUTER=mine\n" in done.stdout
    assert b"SLURM" not in done.stdout
    assert b"SBATCH_OUTER" not in done.stdout


def test_a_step_is_one_of_the_callers_allocation_and_of_no_other(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    session()
    words = ("srun", "sh", "-c", "env | grep ^SLURM; env | grep -c ^SMARTSIM_BRIDGE; echo $PATH")
    monkeypatch.setenv("SLURM_JOB_ID", "2")
    monkeypatch.setenv("SLURM_NTASKS", "2")
    job, ours, path = run(*words).stdout.decode().splitlines()
    assert (job, ours) == ("SLURM_JOB_ID=2", "0")
    assert not any(os.path.exists(f"{one}/{SHIM_MARKER}") for one in path.split(":"))
    monkeypatch.delenv("SLURM_JOB_ID")
    assert b"SLURM_JOB_ID" not in run(*words).stdout


def test_what_keep_env_names_passes(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    session(keep_env=("SLURM_NT*",))
    monkeypatch.setenv("SLURM_NTASKS", "2")
    monkeypatch.setenv("SLURM_NNODES", "1")
    assert b"SLURM_NTASKS=2\n" in run("sbatch", "--wrap", "x").stdout
    assert b"SLURM_NNODES" not in run("sbatch", "--wrap", "x").stdout


def test_a_servers_commands_find_no_shims(
    head: LocalServer, session: Session, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    session()  # with its folder on the PATH that this server starts with
    monkeypatch.setenv("SMARTSIM_BRIDGE_STATE_DIR", str(tmp_path / "other"))
    with LocalServer(tmp_path / "other") as server:
        bridge = server.init(transport="local", shims=False)
        told = bridge.run("echo $PATH; echo $SMARTSIM_BRIDGE_SOCKET", shell=True).stdout
    path, variable, _ = told.split("\n")
    assert not any(os.path.exists(f"{one}/{SHIM_MARKER}") for one in path.split(":"))
    assert variable == ""


def _unshared(found: Survey) -> Survey:
    return dataclasses.replace(found, files_are_shared=False)


def test_where_files_are_not_shared_a_script_goes_along(
    session: Session, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ask_head = opening.ask_head
    monkeypatch.setattr(opening, "ask_head", lambda *asked: _unshared(ask_head(*asked)))
    session()
    (tmp_path / "job.sh").write_text("#!/bin/sh\necho hello\n", "ascii")
    done = run("sbatch", "-n1", "job.sh", cwd=tmp_path)
    assert b"args: -n1 --job-name=job.sh\n" in done.stdout
    assert done.stdout.endswith(b"#!/bin/sh\necho hello\n")
    assert b"script:" not in done.stdout


def test_where_they_are_shared_the_head_reads_it(session: Session, tmp_path: Path) -> None:
    onlooker = session(shims=False)
    before = known(onlooker)
    session()
    (tmp_path / "job.sh").write_text("#!/bin/sh\necho hello\n", "ascii")
    done = run("sbatch", "-n1", "job.sh", cwd=tmp_path)
    assert b"args: -n1 job.sh\n" in done.stdout
    assert b"cwd: %s\n" % os.fsencode(tmp_path) in done.stdout
    assert len(new(onlooker, before)) == 1


def test_in_a_directory_that_the_head_lacks_it_runs_at_home(
    session: Session, tmp_path: Path
) -> None:
    session()
    gone = tmp_path / "gone"
    gone.mkdir()
    done = run("sh", "-c", f"rmdir {gone}; sbatch --wrap x", cwd=gone)
    assert done.returncode == 0
    assert b"gone" not in done.stdout
