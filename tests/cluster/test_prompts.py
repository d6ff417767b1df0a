"""What a site asks of a person, through PAM: each thing once, and what is wrong counts once."""

from __future__ import annotations

import base64
import re
import subprocess
import sys

import pytest

from tests.support.waiting import wait_until

from .accounts import ACCOUNTS, TOTP_SECRET
from .cluster import Cluster
from .codes import one_time_code
from .host import Host
from .near_side import SOON, Outcome

pytestmark = pytest.mark.cluster

LOCKED = "~/.ssh/id_locked"
PASSPHRASE = ("passphrase", "sesame")


def password(user: str) -> tuple[str, str]:
    return ("assword", ACCOUNTS[user].password)


WHO_AND_QUEUE = [["id", "-un"], ["squeue"]]


def logins(host: Host) -> tuple[int, int, int]:
    """Connections, failures and successes, as one who reads sshd's log counts them."""
    starts = ("Connection from ", r"Failed \S+ for ", r"Accepted \S+ for ")
    lines = host.sshd_log().splitlines()
    counted = [sum(bool(re.match(start, line)) for line in lines) for start in starts]
    return counted[0], counted[1], counted[2]


def assert_one_login(outcome: Outcome, host: Host, user: str) -> None:
    assert outcome.error is None
    assert outcome.transport == "tunnel"
    name, squeue = outcome.completed
    assert name["stdout"] == f"{user}\n"
    assert "JOBID" in squeue["stdout"]
    assert logins(host) == (1, 0, 1)


def assert_refused(outcome: Outcome, host: Host, kind: str, *, failures: int) -> None:
    assert outcome.error is not None
    assert outcome.error["kind"] == kind, outcome.error["text"]
    assert outcome.error["step"] == "authenticate"
    assert outcome.seconds < SOON
    wait_until(lambda: logins(host) == (1, failures, 0))
    secrets = [account.password for account in ACCOUNTS.values()] + ["sesame", "not-it"]
    assert not any(secret in outcome.error["what"] for secret in secrets)


def test_codes_are_those_of_the_standard() -> None:
    secret = base64.b32encode(b"12345678901234567890").decode()
    # The last six digits of RFC 6238, appendix B.
    assert [one_time_code(secret, now) for now in (59, 1111111109, 20000000000)] == [
        "287082",
        "081804",
        "353130",
    ]


def test_a_site_that_takes_dialogues_only_asks_once(cluster: Cluster) -> None:
    outcome = cluster.near("laptop", "kim").connect(
        addr="login1", autostart=True, answers=[password("kim")], run=WHO_AND_QUEUE
    )
    assert_one_login(outcome, cluster.host("login1"), "kim")
    assert outcome.asked == ["(kim@login1) Password: "]


@pytest.mark.parametrize("answer", ["not-it", ""])
@pytest.mark.parametrize("ssh", ["paramiko", "openssh"])
def test_a_wrong_answer_is_one_failure(ssh: str, answer: str, cluster: Cluster) -> None:
    outcome = cluster.near("laptop", "kim").connect(
        addr="login1", ssh=ssh, autostart=True, answers=[("assword", answer)]
    )
    assert_refused(outcome, cluster.host("login1"), "AuthenticationFailed", failures=1)
    assert len(outcome.asked) == 1


def test_key_password_and_code_are_one_login(cluster: Cluster) -> None:
    outcome = cluster.near("laptop", "mfa").connect(
        addr="login1",
        autostart=True,
        answers=[password("mfa"), ("code", one_time_code(TOTP_SECRET))],
        run=WHO_AND_QUEUE,
    )
    assert_one_login(outcome, cluster.host("login1"), "mfa")
    assert [prompt.split(") ")[1] for prompt in outcome.asked] == [
        "Password: ",
        "Verification code: ",
    ]


@pytest.mark.parametrize("wrong", ["assword", "code"])
def test_one_wrong_answer_of_two_is_one_failure(wrong: str, cluster: Cluster) -> None:
    code = one_time_code(TOTP_SECRET)
    answers = {"assword": ACCOUNTS["mfa"].password, "code": code}
    answers[wrong] = f"{(int(code) + 500_000) % 1_000_000:06}"
    outcome = cluster.near("laptop", "mfa").connect(
        addr="login1", autostart=True, answers=list(answers.items())
    )
    assert_refused(outcome, cluster.host("login1"), "AuthenticationFailed", failures=1)
    assert len(outcome.asked) == 2


@pytest.mark.parametrize("ssh", ["paramiko", "openssh"])
def test_a_question_that_nobody_answers_is_no_failure(ssh: str, cluster: Cluster) -> None:
    outcome = cluster.near("laptop", "mfa").connect(
        addr="login1", ssh=ssh, autostart=True, answers=[password("mfa")]
    )
    assert_refused(outcome, cluster.host("login1"), "AuthenticationRequired", failures=0)
    assert "Verification code:" in str(outcome.error)


def test_without_a_terminal_the_command_line_tells_the_question(cluster: Cluster) -> None:
    done = cluster.near("laptop", "kim").cli("run", "--addr", "login1", "--", "true")
    assert done.returncode == 255
    assert "(kim@login1) Password:" in done.stderr
    wait_until(lambda: logins(cluster.host("login1")) == (1, 0, 0))


def test_a_locked_key_is_unlocked_once(cluster: Cluster) -> None:
    outcome = cluster.near("laptop", "alice").connect(
        addr="login1", identity=LOCKED, autostart=True, answers=[PASSPHRASE], run=WHO_AND_QUEUE
    )
    assert_one_login(outcome, cluster.host("login1"), "alice")
    assert len(outcome.asked) == 1


def test_a_wrong_passphrase_is_no_attempt(cluster: Cluster) -> None:
    outcome = cluster.near("laptop", "alice").connect(
        addr="login1", identity=LOCKED, autostart=True, answers=[("passphrase", "not-it")]
    )
    assert_refused(outcome, cluster.host("login1"), "AuthenticationFailed", failures=0)
    assert len(outcome.asked) == 1


def test_a_locked_key_for_gateway_and_head_is_unlocked_once(cluster: Cluster) -> None:
    outcome = cluster.near("remote", "alice").connect(
        addr="login1",
        jump="gateway",
        identity=LOCKED,
        autostart=True,
        answers=[PASSPHRASE],
        run=WHO_AND_QUEUE,
    )
    assert_one_login(outcome, cluster.host("login1"), "alice")
    assert logins(cluster.host("gateway")) == (1, 0, 1)
    assert len(outcome.asked) == 1


@pytest.mark.parametrize("way", ["password", "keyboard-interactive"])
def test_a_password_is_asked_for_once_whichever_way_it_goes(way: str, cluster: Cluster) -> None:
    laptop = cluster.host("laptop")
    config = laptop.path("/home/alice/.ssh/config")
    config.write_text(f"PreferredAuthentications {way}\n")
    outcome = cluster.near("laptop", "alice").connect(
        addr="login1", autostart=True, answers=[password("alice")], run=WHO_AND_QUEUE
    )
    assert_one_login(outcome, cluster.host("login1"), "alice")
    assert len(outcome.asked) == 1
    assert f"Accepted {way}" in cluster.host("login1").sshd_log()


# --- an outage ----------------------------------------------------------------------------

HOLDS_ON = """
import sys, time
from smartsim_bridge import CommandServerError, init_command_server
bridge = init_command_server("login1", autostart=True, ask=lambda prompt, secret: sys.argv[1])
command = bridge.popen(["cat"])
print("running", flush=True)
while "not connected" not in repr(bridge):
    time.sleep(0.05)
print("lost", flush=True)
for call in [command.wait, *[lambda: bridge.run(["true"])] * 20]:
    try:
        call()
    except CommandServerError as fault:
        told = type(fault).__name__
        print(told, flush=True)
sys.stdin.readline()
bridge.reconnect()
print(bridge.run(["echo", "back"]).stdout.strip(), flush=True)
bridge.close()
"""


def test_an_outage_costs_one_connection_until_the_user_wants_another(cluster: Cluster) -> None:
    head = cluster.host("login1")
    program = cluster.host("laptop").popen(
        *[sys.executable, "-c", HOLDS_ON, ACCOUNTS["kim"].password],
        user="kim",
        stdin=subprocess.PIPE,
    )
    try:
        assert program.stdout is not None
        assert program.stdin is not None
        assert program.stdout.readline() == "running\n"
        # Not the network: it would take the heartbeats of both sides to see that.
        head.run("pkill", "-KILL", "-u", "kim", "-x", "sshd")
        assert program.stdout.readline() == "lost\n"
        assert {program.stdout.readline() for _ in range(21)} == {"AuthenticationRequired\n"}
        assert logins(head) == (2, 0, 1)
        print(file=program.stdin, flush=True)
        assert program.stdout.readline() == "back\n"
        assert logins(head) == (3, 0, 2)
        assert program.wait(60) == 0
    finally:
        program.kill()
        program.communicate(timeout=60)
