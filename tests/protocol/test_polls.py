from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartsim_bridge.protocol.environment import command_environment
from smartsim_bridge.protocol.messages import NULL, PIPE, TO_STDOUT, Start
from smartsim_bridge.protocol.polls import POLLS, Key, is_brief, is_poll, key_of

SQUEUE = Start("1", ("squeue", "-h"), stdin=NULL)


def key(request: Start, directory: str) -> Key | None:
    """As the server asks for it."""
    program = request.argv[0] if request.argv else ""
    env = command_environment(program, {}, request.env, request.keep_env)
    return key_of(request, directory, env)


@pytest.mark.parametrize(
    "line",
    [
        "squeue",
        "/usr/bin/squeue -h -u alice",
        "squeue -o %i",
        "squeue -o%i",  # the value of -o, and no -i
        "squeue -hj12i",
        "squeue --user irene --long",
        "sinfo -h -o %i",
        "sinfo -Nel",
        "sacct -j 5 --iterations",  # no such option: it fails, and changes nothing
        "sacct -i 1-2",  # another -i: how many nodes
        "sstat -j 5 -i",
        "scontrol show job 5",
        "scontrol -o show nodes",
        "scontrol ping",
        "sdiag",
        "qstat -f",
        "pbsnodes -a",
        "bjobs -u all",
        "bhosts",
        "qhost",
    ],
)
def test_what_only_asks_once_is_a_poll(line: str) -> None:
    assert is_poll(line.split())


@pytest.mark.parametrize(
    "line",
    [
        "",
        "sbatch job.sh",
        "srun squeue",
        "squeue -i 5",
        "squeue -i5",
        "squeue -hi5",
        "squeue -h --iterate=5",
        "squeue --it 5",
        "sinfo -Ni 2",
        "sinfo --iterate 2",
        "scontrol",  # asks on its stdin
        "scontrol update JobId=5 TimeLimit=1",
        "scontrol hold show",
        "scontrol -M show update",  # what is no word of its own is not looked for
        "sdiag -r",
        "sdiag --reset",
        "pbsnodes -o node1",
        "scancel 5",
        "qdel 5",
        "squeue-wrapper",
        "watch squeue",
        "squeue;",
    ],
)
def test_what_changes_something_or_goes_on_is_none(line: str) -> None:
    assert not is_poll(line.split())


def test_what_asks_or_ends_jobs_is_brief_and_nothing_else() -> None:
    brief = [["squeue", "--me"], ["/usr/bin/scancel", "5"], ["qdel", "5"], ["bkill", "5"]]
    assert all(map(is_brief, brief))
    long = [["srun", "true"], ["sbatch", "job.sh"], ["squeue", "-i5"], []]
    assert not any(map(is_brief, long))
    assert not is_brief(["scancel"], shell=True)


def test_a_shell_line_may_do_anything() -> None:
    assert not is_poll(["squeue"], shell=True)


@given(st.lists(st.text(), max_size=4), st.booleans())
def test_any_words_have_an_answer(argv: list[str], shell: bool) -> None:
    assert is_poll(argv, shell) in (True, False)


@given(
    st.sampled_from(["squeue", "sinfo"]),
    st.lists(st.sampled_from(["-h", "-l", "--long", "-o%T", "job"]), max_size=3),
    st.sampled_from(["-i", "-i3", "-hi", "-lhi3", "--iterate", "--iterate=3", "--iter", "--i"]),
    st.integers(0, 3),
)
def test_iterating_is_seen_wherever_it_stands(
    program: str, words: list[str], iterate: str, where: int
) -> None:
    words.insert(where, iterate)

    assert not is_poll([program, *words])


@pytest.mark.parametrize(
    "other",
    [
        replace(SQUEUE, command="2", number=7, timeout=3.0, announce=False, keep=True, grace=1.0),
        replace(SQUEUE, env={"SHLVL": "3", "SSH_CLIENT": "a b", "_": "/usr/bin/squeue"}),
        replace(SQUEUE, env={"SLURM_JOB_ID": "5"}),  # stays behind in any case
    ],
)
def test_what_makes_no_difference_to_the_answer_is_not_in_the_key(other: Start) -> None:
    assert key(SQUEUE, "/home/alice") == key(other, "/home/alice") is not None


@pytest.mark.parametrize(
    "other",
    [
        replace(SQUEUE, argv=("squeue", "-l")),
        replace(SQUEUE, argv=("/usr/bin/squeue", "-h")),
        replace(SQUEUE, env={"SQUEUE_FORMAT": "%i"}),
        replace(SQUEUE, env={"TZ": "UTC"}),
        replace(SQUEUE, env={"SLURM_JOB_ID": "5"}, keep_env=("SLURM_*",)),
        replace(SQUEUE, stderr=TO_STDOUT),
        replace(SQUEUE, stdout=NULL),
    ],
)
def test_what_may_make_a_difference_is(other: Start) -> None:
    assert key(SQUEUE, "/") != key(other, "/") is not None


def test_another_directory_is_another_question() -> None:
    assert key(SQUEUE, "/home/alice") != key(SQUEUE, "/home/alice/run")


@pytest.mark.parametrize(
    "none",
    [
        replace(SQUEUE, stdin=PIPE),
        replace(SQUEUE, shell=True),
        replace(SQUEUE, argv=("squeue", "-i", "5")),
        replace(SQUEUE, argv=("sbatch",)),
        replace(SQUEUE, argv=()),
    ],
)
def test_what_may_not_be_shared_has_no_key(none: Start) -> None:
    assert key(none, "/") is None


@pytest.mark.parametrize("program", sorted(POLLS))
def test_every_program_is_known_by_its_path_too(program: str) -> None:
    assert is_poll([program, "show"])
    assert is_poll([f"/opt/bin/{program}", "show"])
