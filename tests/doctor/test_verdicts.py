"""Facts in, findings out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from smartsim_bridge.bootstrap.facts import PythonFound
from smartsim_bridge.doctor import verdicts
from smartsim_bridge.doctor.answers import Answers, PlaceFound, Sacct
from smartsim_bridge.doctor.findings import Finding
from smartsim_bridge.doctor.verdicts import Crowd, Hearing
from smartsim_bridge.errors import ConnectTimedOut, ForwardingRefused, ProbeFailed

from .samples import NODE, PYTHON, STATE, answers, facts

OLD = PythonFound("/usr/bin/python3", (3, 6, 8))
BARE = PythonFound("/usr/bin/python3", (3, 9, 18), why_no_zmq="No module named 'zmq'")


def row(finding: Finding) -> tuple[str, str]:
    return finding.name, finding.verdict


def test_a_failure_has_the_words_of_its_error_and_what_the_host_said() -> None:
    told = verdicts.failure("TCP port", ConnectTimedOut("no answer", host="me@login1:22"))
    assert told.evidence == "no answer [me@login1:22]"
    assert told.advice == ConnectTimedOut.general_advice()
    told = verdicts.failure("login shell", ProbeFailed("no shell", noise="  go\n  away"))
    assert told.evidence.endswith("the host said: go away")


@pytest.mark.parametrize(
    ("seconds", "questions", "verdict", "part"),
    [
        (0.2, 0, "ok", "nobody was asked"),
        (0.2, 2, "ok", "2 questions"),
        (9.0, 0, "warn", "9.00 s"),
    ],
)
def test_login(seconds: float, questions: int, verdict: str, part: str) -> None:
    told = verdicts.login(seconds, questions)
    assert told.verdict == verdict
    assert part in told.evidence


@pytest.mark.parametrize(
    ("heard", "verdict", "part"),
    [
        (Hearing(0.1, "\n", "\n"), "ok", "silent"),
        (Hearing(0.1, "hello\n", ""), "warn", "stdout 'hello'"),
        (Hearing(0.1, "", "oops\n"), "ok", "stderr 'oops'"),
        (Hearing(0.1, "a" * 500, "b"), "warn", "..."),
        (Hearing(3.2, "", ""), "warn", "3.20 s"),
    ],
)
def test_login_shell(heard: Hearing, verdict: str, part: str) -> None:
    told = verdicts.login_shell("/bin/tcsh", heard)
    assert told.verdict == verdict
    assert told.evidence.startswith("/bin/tcsh")
    assert part in told.evidence
    assert len(told.evidence) < 200


@pytest.mark.parametrize(
    ("pythons", "python", "zmq"),
    [
        ((PYTHON,), "ok", "ok"),
        ((BARE,), "ok", "warn"),
        ((OLD,), "fail", "skipped"),
        ((OLD, PYTHON), "ok", "ok"),
        ((PythonFound("/usr/bin/python3", fault="Bus error"),), "fail", "skipped"),
        ((), "fail", "skipped"),
    ],
)
def test_pythons(pythons: tuple[PythonFound, ...], python: str, zmq: str) -> None:
    assert row(verdicts.pythons(facts(pythons=pythons))) == ("Python", python)
    assert row(verdicts.pyzmq(facts(pythons=pythons))) == ("pyzmq", zmq)


def test_a_prelude_that_failed_is_told() -> None:
    told = verdicts.pythons(facts(pythons=(OLD,), prelude_status=1))
    assert "the prelude ended with status 1" in told.evidence
    assert "--prelude" in told.advice


def test_a_state_directory_that_is_full_is_replaced_where_there_is_another() -> None:
    full = replace(STATE, fault="No space left on device")
    elsewhere = PlaceFound("/var/tmp/smartsim-bridge-1000", "/var/tmp")
    told = verdicts.state_directory(answers(places=(full, NODE, elsewhere)))
    assert told.verdict == "warn"
    assert elsewhere.path in told.advice
    told = verdicts.state_directory(answers(places=(full, replace(NODE, fault="Read-only"))))
    assert told.verdict == "fail"


@pytest.mark.parametrize(
    ("place", "verdict", "part"),
    [
        (STATE, "ok", "1.0 GiB free, nfs"),
        (replace(STATE, free_kib=100), "warn", "100.0 KiB free"),
        (replace(STATE, executes=False), "warn", "noexec"),
        (replace(STATE, free_kib=None, kind="", executes=None), "ok", "writable"),
    ],
)
def test_state_directory(place: PlaceFound, verdict: str, part: str) -> None:
    told = verdicts.state_directory(answers(places=(place, NODE)))
    assert told.verdict == verdict
    assert part in told.evidence


QUOTA = "Disk quotas for user me (uid 1000):"


@pytest.mark.parametrize(
    ("lines", "verdict", "part"),
    [
        (
            (QUOTA, "/dev/sda1 2048 4096 8192 10 0 0"),
            "ok",
            "quota of /dev/sda1: 2.0 MiB of 8.0 MiB",
        ),
        (("nas:/home 8192* 4096 8192 6days 10 0 0",), "warn", "8.0 MiB of 8.0 MiB"),
        ((QUOTA, "none"), "ok", "writable"),
        (("/dev/sda1 lots of words",), "ok", "writable"),
    ],
)
def test_quota(lines: tuple[str, ...], verdict: str, part: str) -> None:
    told = verdicts.state_directory(answers(quota=lines))
    assert told.verdict == verdict
    assert part in told.evidence


@pytest.mark.parametrize(
    ("places", "verdict", "part"),
    [
        ((NODE,), "ok", "a lock holds"),
        ((replace(NODE, locks=None),), "ok", "not checked"),
        ((replace(NODE, locks=False),), "warn", "NO lock"),
        (
            (replace(NODE, fault="it is no directory of yours"), NODE),
            "warn",
            "no directory of yours",
        ),
        ((replace(NODE, fault="Read-only file system"),), "fail", "Read-only"),
        ((), "skipped", "did not tell"),
    ],
)
def test_node_directory(places: tuple[PlaceFound, ...], verdict: str, part: str) -> None:
    told = verdicts.node_directory(answers(places=(STATE, *places)))
    assert told.verdict == verdict
    assert part in told.evidence


@pytest.mark.parametrize(
    ("outcome", "has_tunnel", "verdict", "part"),
    [
        ("open", True, "ok", "direct links work"),
        ("refused", True, "ok", "reject"),
        ("silent", True, "ok", "dropped"),
        ("silent", False, "warn", "dropped"),
        ("is answered by another program", False, "warn", "another program"),
    ],
)
def test_direct_port(outcome: str, has_tunnel: bool, verdict: str, part: str) -> None:
    told = verdicts.direct_port("10.0.0.5:4711", outcome, has_tunnel=has_tunnel)
    assert told.verdict == verdict
    assert part in told.evidence


def test_forwarding_that_is_refused_has_the_advice_of_its_error() -> None:
    told = verdicts.forwarding("", ForwardingRefused("the host refuses"))
    assert row(told) == ("forwarding", "warn")
    assert told.advice == ForwardingRefused.general_advice()


@pytest.mark.parametrize(
    ("survived", "kills", "lingers", "verdict", "part"),
    [
        (True, "", False, "ok", "not set"),
        (True, "yes", True, "ok", "Linger=yes"),
        (False, "yes", False, "warn", "KillUserProcesses=yes"),
        (None, "", False, "skipped", "would ask"),
        (None, "yes", False, "warn", "would ask"),
        (None, "yes", True, "skipped", "Linger=yes"),
    ],
)
def test_background(
    survived: bool | None, kills: str, lingers: bool, verdict: str, part: str
) -> None:
    told = verdicts.background(survived, "it would ask", answers(kills=kills, lingers=lingers))
    assert told.verdict == verdict
    assert part in told.evidence


@pytest.mark.parametrize(
    ("crowd", "verdict", "part"),
    [
        (Crowd(("10.0.0.5",), 1, ("login1",)), "ok", "reached login1"),
        (Crowd(("10.0.0.5",), 1, ("login1", "login1")), "ok", "reached login1"),
        (Crowd(("10.0.0.5",), 1, ("login1", "login3")), "ok", "login1 and login3"),
        (Crowd(("10.0.0.5", "10.0.0.6"), 1, ("login1",)), "ok", "2 addresses"),
        (Crowd(("10.0.0.5",), 2, ("login1",)), "ok", "2 keys"),
        (Crowd(("10.0.0.5",), 1, ("login1",), ("login1", "login2")), "ok", "a server on login2"),
    ],
)
def test_heads(crowd: Crowd, verdict: str, part: str) -> None:
    told = verdicts.heads(crowd)
    assert told.verdict == verdict
    assert part in told.evidence


@pytest.mark.parametrize(
    ("programs", "verdict", "part"),
    [
        (("sbatch", "squeue", "scancel", "sacct"), "ok", "Slurm"),
        (("qsub", "qstat", "qdel", "pbsnodes"), "ok", "PBS"),
        (("qsub", "qstat", "qdel", "qconf"), "ok", "SGE"),
        (("bsub", "bjobs", "bkill"), "ok", "LSF"),
        (("sbatch",), "warn", "sbatch"),
        ((), "warn", "none of"),
    ],
)
def test_scheduler(programs: tuple[str, ...], verdict: str, part: str) -> None:
    told = verdicts.scheduler(answers(programs=frozenset(programs)))
    assert told.verdict == verdict
    assert part in told.evidence


@pytest.mark.parametrize(
    ("found", "verdict", "part"),
    [
        (Sacct(0, "", 3, 7), "ok", "3 jobs of yours, 7 steps"),
        (Sacct(1, "Slurm accounting storage is disabled"), "warn", "storage is disabled"),
        (Sacct(124), "warn", "no answer in time"),
        (Sacct(), "skipped", "no sacct"),
    ],
)
def test_sacct(found: Sacct, verdict: str, part: str) -> None:
    told = verdicts.sacct(found)
    assert told.verdict == verdict
    assert part in told.evidence


def test_nothing_is_made_of_a_host_that_told_nothing() -> None:
    assert verdicts.state_directory(Answers()).verdict == "skipped"
    assert verdicts.node_directory(Answers()).verdict == "skipped"
