"""Which variables of a shim go along with its command."""

from __future__ import annotations

import pytest

from smartsim_bridge.protocol.environment import left_behind
from smartsim_bridge.shims.environment import goes_along, merged_path

JOB = ["SLURM_JOB_ID", "SLURM_NTASKS", "SBATCH_PARTITION", "SRUN_DEBUG", "PMI_RANK", "PMIX_RANK"]
OURS = ["SMARTSIM_BRIDGE_SOCKET", "SMARTSIM_BRIDGE_TIMEOUT", "SMARTSIM_REMOTE"]
HOST = ["SSH_AUTH_SOCK", "DISPLAY", "XDG_RUNTIME_DIR", "TMPDIR", "HOSTNAME", "DBUS_SESSION_BUS_X"]
FILES = ["HOME", "USER", "SHELL", "PWD", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV"]
CALLERS = ["SQUEUE_FORMAT", "OMP_NUM_THREADS", "SMARTSIM_LOG_LEVEL", "LANG"]


def going(names: list[str], *, files_are_shared: bool = True, keep: tuple[str, ...] = ()) -> set:  # type: ignore[type-arg]
    environ = dict.fromkeys(names, "x")
    return set(goes_along(environ, files_are_shared=files_are_shared, keep=keep))


@pytest.mark.parametrize("files_are_shared", [True, False])
def test_what_is_the_jobs_the_bridges_or_this_hosts_stays(files_are_shared: bool) -> None:
    assert not going(JOB + OURS + HOST, files_are_shared=files_are_shared)


@pytest.mark.parametrize("files_are_shared", [True, False])
def test_what_the_caller_has_set_goes_along(files_are_shared: bool) -> None:
    assert going(CALLERS, files_are_shared=files_are_shared) == set(CALLERS)


def test_what_names_files_goes_where_they_are_shared() -> None:
    assert going(FILES) == set(FILES)
    assert not going([*FILES, "PATH", "CONDA_PREFIX", "MODULEPATH"], files_are_shared=False)


def test_what_is_to_be_kept_goes_all_the_same_but_never_ours() -> None:
    keep = ("SLURM_*", "DISPLAY", "HOME", "SMARTSIM_*")
    found = going([*JOB, *OURS, *HOST, *FILES], files_are_shared=False, keep=keep)
    assert found == {"SLURM_JOB_ID", "SLURM_NTASKS", "DISPLAY", "HOME"}


def test_path_is_ours_without_shims_then_what_only_the_head_has() -> None:
    is_ours = {"/home/a/shims/1"}.__contains__
    own = "/home/a/shims/1:/home/a/venv/bin::bin:/usr/bin"
    head = "/opt/slurm/bin:/usr/bin:/home/a/shims/1"
    assert merged_path(own, head, is_ours) == "/home/a/venv/bin:/usr/bin:/opt/slurm/bin"
    assert goes_along({"PATH": own}, files_are_shared=True, head_path=head, is_ours=is_ours) == {
        "PATH": "/home/a/venv/bin:/usr/bin:/opt/slurm/bin"
    }


def test_what_stays_behind_is_told_by_name() -> None:
    environ = dict.fromkeys([*JOB, *HOST, "SQUEUE_FORMAT"], "secret")
    assert left_behind(environ) == tuple(sorted(JOB))
    assert left_behind(environ, ("SLURM_*", "PMI*")) == ("SBATCH_PARTITION", "SRUN_DEBUG")
