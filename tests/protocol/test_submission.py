from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartsim_bridge.protocol.submission import SUBMITTERS, submits


@pytest.mark.parametrize(
    "argv",
    [
        ("sbatch", "job.sh"),
        ("qsub",),
        ("bsub", "-q", "short"),
        ("/usr/bin/sbatch", "--wait", "job.sh"),
        ("./sbatch",),
    ],
)
def test_what_hands_in_a_job_is_known_by_its_program(argv: tuple[str, ...]) -> None:
    assert submits(argv)


@pytest.mark.parametrize(
    "argv",
    [
        (),
        ("",),
        ("srun", "sbatch"),
        ("salloc", "-N", "1"),
        ("squeue",),
        ("sbatch-wrapper",),
        ("mysbatch",),
        ("/opt/sbatch/bin/sinfo",),
        ("sbatch ", "job.sh"),  # that is the name of another program
        ("sbatch job.sh",),
        ("SBATCH",),
    ],
)
def test_what_lives_as_long_as_who_wants_it_does_not(argv: tuple[str, ...]) -> None:
    assert not submits(argv)


@pytest.mark.parametrize("line", ["sbatch job.sh", "  /opt/slurm/bin/sbatch\tjob.sh | cat", "qsub"])
def test_of_a_shell_line_the_first_word_counts(line: str) -> None:
    assert submits((line, "argument"), shell=True)


@pytest.mark.parametrize("line", ["", "   ", "echo sbatch", "squeue; sbatch job.sh"])
def test_of_a_shell_line_only_the_first_word_counts(line: str) -> None:
    assert not submits((line,), shell=True)


@given(st.lists(st.text(), max_size=3), st.booleans())
def test_any_words_have_an_answer(argv: list[str], shell: bool) -> None:
    assert submits(argv, shell) in (True, False)


@given(st.sampled_from(sorted(SUBMITTERS)), st.text("abc/.", max_size=10))
def test_directories_do_not_matter(program: str, directory: str) -> None:
    assert submits([f"{directory}/{program}"])
