"""What the other tests here rely on: that the cluster is one, and odd where it should be."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.waiting import wait_until

from .accounts import ACCOUNTS, TOTP_SECRET
from .cluster import Cluster
from .codes import one_time_code
from .host import Host
from .site import CLONE, EMPTY_PLACES
from .topology import HOSTS

pytestmark = pytest.mark.cluster

BATCH = ("-oBatchMode=yes", "-oConnectTimeout=60")
SSH = ("ssh", *BATCH)
IMPATIENT = ("-oConnectTimeout=1",)  # ssh takes the first that it is given
PORT = 5555

LISTEN = f"""
import socket
with socket.create_server(("", {PORT})) as server:
    print("listens", flush=True)
    while True:
        server.accept()[0].sendall(b"hello")
"""
CALL = f"""
import socket, sys
try:
    with socket.create_connection((sys.argv[1], {PORT}), float(sys.argv[2])) as link:
        print(link.recv(5).decode())
except OSError as failed:
    print(type(failed).__name__)
"""


def log_in(
    cluster: Cluster, user: str, *command: str, options: tuple[str, ...] = (), host: str = "login1"
) -> subprocess.CompletedProcess[str]:
    """The system's ssh, from the laptop."""
    return cluster.host("laptop").run(
        "ssh", *options, *BATCH, host, *command, user=user, check=False
    )


def answering(host: Host, *lines: str) -> dict[str, str]:
    """The environment in which ssh on that host answers its prompts with these lines, in turn."""
    script = host.path("/tmp/askpass")
    turn = "n=$(cat /tmp/turn 2>/dev/null || echo 1); echo $((n + 1)) >/tmp/turn"
    answers = "".join(f"{line}\n" for line in lines)
    script.write_text(f"#!/bin/sh\n{turn}\nsed -n ${{n}}p <<'.'\n{answers}.\n", encoding="ascii")
    script.chmod(0o755)
    return {"SSH_ASKPASS": "/tmp/askpass", "SSH_ASKPASS_REQUIRE": "force"}


# --- Slurm ------------------------------------------------------------------------------------


def test_a_job_runs_on_two_nodes_and_is_accounted_for(cluster: Cluster) -> None:
    login1 = cluster.host("login1")
    done = login1.run("srun", "-N2", "hostname", user="alice")
    assert sorted(done.stdout.split()) == ["compute1", "compute2"]
    batch = login1.run("sbatch", "--parsable", "-N2", "--wrap", "srun hostname", user="alice")
    job, output = batch.stdout.strip(), login1.path("/home/alice")
    wait_until(lambda: "COMPLETED" in state_of(login1, job))
    assert sorted((output / f"slurm-{job}.out").read_text().split()) == ["compute1", "compute2"]


def state_of(host: Host, job: str) -> str:
    return host.run("sacct", "-n", "-X", "-j", job, "-o", "State", user="alice").stdout


@pytest.mark.parametrize("host", ["login2", "login3", "compute1"])
def test_every_host_of_the_cluster_knows_the_queue(cluster: Cluster, host: str) -> None:
    assert cluster.host(host).run("squeue", user="bob").stdout.split()[0] == "JOBID"


@pytest.mark.parametrize("host", ["laptop", "remote", "gateway"])
def test_no_other_host_has_a_scheduler(cluster: Cluster, host: str) -> None:
    found = cluster.host(host).run("sh", "-c", "command -v sbatch squeue", check=False)
    assert (found.returncode, found.stdout) != (0, "")
    assert found.stdout == ""


def test_a_host_without_slurm_still_runs_jobs(cluster: Cluster) -> None:
    login1, compute1 = cluster.host("login1"), cluster.host("compute1")
    cluster.without_slurm("compute1")
    with pytest.raises(AssertionError, match="No such file"):
        compute1.run("squeue", user="alice")
    assert compute1.run("ls", "/etc/slurm").stdout == ""
    assert compute1.run("pwd", user="alice").stdout == "/home/alice\n"
    inner = "srun --overlap -w compute1 hostname"
    done = login1.run("srun", "-w", "compute1", "sh", "-c", inner, user="alice")
    assert done.stdout == "compute1\n"
    cluster.reset()
    assert compute1.run("squeue", user="alice").stdout.split()[0] == "JOBID"


# --- the firewall -----------------------------------------------------------------------------


def test_the_firewall_drops_rejects_or_opens(cluster: Cluster) -> None:
    server = cluster.host("login1").popen(sys.executable, "-c", LISTEN, user="alice")
    assert server.stdout is not None
    assert server.stdout.readline() == "listens\n"
    assert call(cluster, "compute1", 1.0) == "TimeoutError"
    cluster.firewall.strict(reject=True)
    assert call(cluster, "compute1") == "ConnectionRefusedError"
    cluster.firewall.open()
    assert call(cluster, "compute1") == "hello"
    assert call(cluster, "laptop", 1.0) == "TimeoutError"
    server.kill()
    server.communicate(timeout=60)


def call(cluster: Cluster, host: str, seconds: float = 60.0) -> str:
    code = ("-c", CALL, cluster.host("login1").address, str(seconds))
    # socket.timeout is another name of TimeoutError from Python 3.10 on only.
    said = cluster.host(host).run(sys.executable, *code, user="alice").stdout.strip()
    return "TimeoutError" if said == "timeout" else said


def test_a_cut_link_stops_what_is_open_until_it_heals(cluster: Cluster) -> None:
    talk = cluster.host("laptop").popen(*SSH, "login1", "cat", user="alice", stdin=subprocess.PIPE)
    assert talk.stdin is not None
    assert talk.stdout is not None
    talk.stdin.write("before\n")
    talk.stdin.flush()
    assert talk.stdout.readline() == "before\n"
    cluster.firewall.cut("laptop", "login1")
    assert "timed out" in log_in(cluster, "alice", "true", options=IMPATIENT).stderr
    talk.stdin.write("after\n")
    talk.stdin.flush()
    cluster.firewall.heal()
    assert talk.stdout.readline() == "after\n"
    talk.communicate(timeout=60)


def test_the_remote_host_gets_in_by_the_gateway_only(cluster: Cluster) -> None:
    remote = cluster.host("remote")
    refused = remote.run("ssh", *IMPATIENT, *BATCH, "login1", "true", user="bob", check=False)
    assert "timed out" in refused.stderr
    assert remote.run(*SSH, "-J", "gateway", "login1", "hostname", user="bob").stdout == "login1\n"


def test_the_alias_leads_to_one_head_and_then_to_the_other(cluster: Cluster) -> None:
    reached = [log_in(cluster, "bob", "hostname", host="login").stdout.strip() for _ in range(4)]
    assert reached == ["login1", "login3"] * 2


# --- accounts ---------------------------------------------------------------------------------


@pytest.mark.parametrize("user", sorted({*ACCOUNTS} - {"kim", "mfa", "jail", "nosh", "sloth"}))
def test_the_key_logs_in(cluster: Cluster, user: str) -> None:
    assert log_in(cluster, user, "hostname").stdout.endswith("login1\n")


@pytest.mark.parametrize(
    ("user", "said", "complained"),
    [
        ("tess", "WELCOME", "a word on the error stream"),
        ("noisy", "no newline at endlogin1", "a word on the error stream"),
        ("force", "NOTICE", ""),
        ("jail", "", "only transfer files"),
        ("nosh", "not available", ""),
        ("kim", "", "keyboard-interactive"),
        ("mfa", "", "keyboard-interactive"),
    ],
)
def test_an_account_is_odd_in_its_way(
    cluster: Cluster, user: str, said: str, complained: str
) -> None:
    done = log_in(cluster, user, "hostname")
    assert said in done.stdout
    assert complained in done.stderr


@pytest.mark.parametrize("user", ["tess", "fiona", "zoe", "kurt", "dora"])
def test_an_account_has_its_shell(cluster: Cluster, user: str) -> None:
    number = "$fish_pid" if user == "fiona" else "$$"
    done = log_in(cluster, user, f"readlink /proc/{number}/exe; true")
    program = Path(ACCOUNTS[user].shell).name
    assert Path(done.stdout.split()[-1]).name.startswith(program)  # ksh93 is called ksh, too


def test_a_slow_rc_file_is_slow(cluster: Cluster) -> None:
    bashrc = cluster.host("login1").path("/home/sloth/.bashrc")
    assert "sleep 3\n" in bashrc.read_text()


@pytest.mark.parametrize(
    ("user", "options", "answers"),
    [
        ("alice", ("-oPubkeyAuthentication=no",), ["alice-pw"]),
        ("alice", ("-i/home/alice/.ssh/id_locked", "-oIdentitiesOnly=yes"), ["sesame"]),
        ("kim", (), ["kim-pw"]),
        ("mfa", (), ["mfa-pw", "the code"]),
    ],
)
def test_prompts_are_answered(
    cluster: Cluster, user: str, options: tuple[str, ...], answers: list[str]
) -> None:
    laptop = cluster.host("laptop")
    lines = [one_time_code(TOTP_SECRET) if answer == "the code" else answer for answer in answers]
    done = laptop.run(
        "ssh", *options, "login1", "hostname", user=user, env=answering(laptop, *lines)
    )
    assert done.stdout == "login1\n"


# --- ports ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "port", "is_allowed"),
    [
        ("alice", "22", True),
        ("alice", "2200", False),
        ("alice", "2201", True),
        ("alice", "2202", False),
        ("nofwd", "22", False),
    ],
)
def test_forwarding_is_allowed_or_not(
    cluster: Cluster, user: str, port: str, is_allowed: bool
) -> None:
    done = log_in(cluster, user, options=("-p", port, "-W", "127.0.0.1:22"))
    assert done.stdout.startswith("SSH-2.0") is is_allowed
    assert ("prohibited" in done.stderr) is not is_allowed


def test_a_port_takes_one_session_per_connection(cluster: Cluster) -> None:
    shared = ("-p2201", "-oControlPath=/tmp/%C")
    laptop = cluster.host("laptop")
    master = laptop.popen(
        *SSH, *shared, "-oControlMaster=yes", "login1", "cat", user="alice", stdin=subprocess.PIPE
    )
    assert master.stdin is not None
    assert master.stdout is not None
    master.stdin.write("ready\n")
    master.stdin.flush()
    assert master.stdout.readline() == "ready\n"
    refused = log_in(cluster, "alice", "hostname", options=(*shared, "-oControlMaster=no"))
    assert "refused" in refused.stderr
    master.communicate(timeout=60)


# --- hosts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "said"), [("login1", "yes\n"), ("login2", ""), ("login3", "no\n")]
)
def test_a_head_has_the_python_that_it_should(cluster: Cluster, host: str, said: str) -> None:
    code = "import importlib.util as u; print('yes' if u.find_spec('zmq') else 'no')"
    done = log_in(cluster, "alice", f'python3 -c "{code}"', host=host)
    assert done.stdout == said


def test_homes_are_shared_in_the_cluster_and_tmp_is_not(cluster: Cluster) -> None:
    login1 = cluster.host("login1")
    login1.run("touch", "here", "/tmp/there", user="alice")
    assert "here" in cluster.host("compute2").run("ls", user="alice").stdout
    assert "here" not in cluster.host("laptop").run("ls", user="alice").stdout
    assert "there" not in cluster.host("compute2").run("ls", "/tmp").stdout


def test_the_clone_is_seen_but_not_changed(cluster: Cluster) -> None:
    laptop = cluster.host("laptop")
    assert laptop.run("cat", str(CLONE / "tox.ini"), user="alice").stdout
    assert laptop.run("touch", str(CLONE / "tox.ini"), check=False).returncode


def test_a_reboot_ends_processes_and_changes_the_boot_id(cluster: Cluster) -> None:
    host = cluster.host("login3")
    process = host.popen("sleep", "1000", user="alice")
    host.run("touch", "kept", user="alice")
    former = boot_id(host)
    host.reboot()
    assert process.wait(60) != 0
    process.communicate(timeout=60)
    assert boot_id(host) != former
    assert "kept" in log_in(cluster, "alice", "ls", host="login3").stdout


def test_every_host_has_a_boot_id_of_its_own(cluster: Cluster) -> None:
    assert len({boot_id(cluster.host(name)) for name in HOSTS}) == len(HOSTS)


def boot_id(host: Host) -> str:
    return host.run("cat", "/proc/sys/kernel/random/boot_id").stdout


def test_who_kills_what_popen_returned_kills_the_command(cluster: Cluster) -> None:
    host = cluster.host("compute1")
    process = host.popen("sleep", "1234.5", user="alice")
    wait_until(lambda: host.runs("sleep", "1234.5"))
    process.kill()
    process.communicate(timeout=60)
    wait_until(lambda: not host.runs("sleep", "1234.5"))


# --- between tests, and after the last ----------------------------------------------------------


def test_a_reset_leaves_no_trace(cluster: Cluster) -> None:
    login1 = cluster.host("login1")
    process = login1.popen("sleep", "1000", user="alice")
    login1.run("sh", "-c", "touch kept /tmp/kept /dev/shm/kept; mkdir .ssh/kept", user="alice")
    login1.run("sbatch", "--wrap", "sleep 1000", user="alice")
    log_in(cluster, "alice", "true")
    assert login1.sshd_log() != ""
    cluster.reset()
    assert process.wait(60) != 0
    process.communicate(timeout=60)
    assert "kept" not in login1.run("ls", "-R", "/home/alice", "/tmp", "/dev/shm").stdout
    assert login1.sshd_log() == ""
    assert login1.run("squeue", "-h").stdout == ""


ANOTHER_CLUSTER = """
import signal
from tests.cluster.cluster import Cluster
cluster = Cluster()
print(*(cluster.host(name).pid for name in ("login1", "laptop")), flush=True)
signal.pause()
"""


def test_a_second_cluster_dies_with_its_process_and_leaves_nothing(cluster: Cluster) -> None:
    before = traces()
    other = subprocess.Popen(
        [sys.executable, "-c", ANOTHER_CLUSTER], cwd=CLONE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    hosts = [Path(f"/proc/{pid}") for pid in other.stdout.readline().split()]
    assert len(hosts) == 2
    assert log_in(cluster, "alice", "hostname").stdout == "login1\n"  # ours is another
    other.send_signal(signal.SIGKILL)
    other.communicate(timeout=60)
    wait_until(lambda: not any(host.exists() for host in hosts))
    assert traces() == before


def traces() -> list[str]:
    """What a cluster could leave on the machine itself.

    By its own names: other tests make users and mount file systems there at the same time.
    """
    places = ("/run/netns", "/etc/netns", *EMPTY_PLACES)
    names = [str(path) for place in places for path in Path(place).glob("*")]
    homes = [account.home for account in ACCOUNTS.values() if Path(account.home).exists()]
    mounts = Path("/proc/self/mounts").read_text("utf-8").splitlines()
    ours = [one for one in mounts if one.split()[0] in {"cluster", "bare-bin", *HOSTS}]
    users = Path("/etc/passwd").read_text("utf-8").splitlines()
    accounts = [one for one in users if one.partition(":")[0] in ACCOUNTS]
    return sorted([*names, *homes, *ours, *accounts])
