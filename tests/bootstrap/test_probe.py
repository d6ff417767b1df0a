"""The script itself, run by the shells that are here."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from smartsim_bridge.bootstrap import probe as probe_module
from smartsim_bridge.bootstrap import shell as shell_module
from smartsim_bridge.bootstrap.facts import Facts
from smartsim_bridge.bootstrap.host import LocalHost
from smartsim_bridge.bootstrap.probe import probe
from smartsim_bridge.bootstrap.script import text_of
from smartsim_bridge.bootstrap.shell import Shell
from smartsim_bridge.deadline import Deadline
from smartsim_bridge.errors import CommandsForbidden, NoLoginShell, ProbeFailed
from smartsim_bridge.protocol.beacon import state_directory
from smartsim_bridge.stages import Journey
from tests.bootstrap.samples import (
    CREDENTIALS,
    NONCE,
    Head,
    beacon_of_process,
    modern_pythons,
    old_pythons,
    write_program,
)
from tests.support.shells import shell_command, shell_path

ROOT = Path(__file__).parents[2]
LOGIN_SHELLS = ["sh", "bash", "dash", "busybox", "tcsh", "csh", "fish", "zsh", "ksh", "mksh"]
SCRIPT_SHELLS = ["dash", "bash --posix", "bash", "busybox sh", "ksh", "mksh", "zsh"]


def ask(host: LocalHost, prelude: str = "", **wishes: object) -> Facts:
    arguments = {"journey": Journey("h"), **wishes}
    with Shell(host, prelude=prelude, deadline=Deadline(60), nonce=NONCE) as shell:
        return probe(shell, **arguments)  # type: ignore[arg-type]


@contextmanager
def running(program: str | Path = "/bin/cat") -> Iterator[int]:
    """The pid of a process that lives as long as the block."""
    with subprocess.Popen([program], stdin=subprocess.PIPE) as process:
        try:
            yield process.pid
        finally:
            process.kill()


# --- the head ------------------------------------------------------------------------------


def test_a_head_is_described(head: Head) -> None:
    head.add_python("python3", "3.11.2", "27.3.0")

    facts = ask(head.host(SSH_CONNECTION="10.0.0.1 5 10.0.0.2 22"))

    assert facts.host == os.uname().nodename
    assert facts.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert (facts.uid, facts.user) == (os.getuid(), "alice")
    assert facts.home == str(head.home)
    assert facts.ssh_connection == "10.0.0.1 5 10.0.0.2 22"
    assert (facts.system, facts.arch) == (os.uname().sysname, os.uname().machine)
    assert facts.prelude_status is None
    assert facts.beacons == ()
    assert facts.artifacts == ()


@pytest.mark.parametrize("shell", SCRIPT_SHELLS)
def test_every_shell_finds_the_same(
    head: Head, monkeypatch: pytest.MonkeyPatch, shell: str
) -> None:
    head.add_python("python3", "3.11.2", "27.3.0")
    expected = ask(head.host())
    monkeypatch.setattr(shell_module, "COMMAND", shell_command(shell))

    with running() as pid:
        head.add_server(beacon_of_process(pid))
        found = ask(head.host(), search=True)

    assert replace(found, beacons=()) == expected
    assert [beacon.alive for beacon in found.beacons] == [True]


@pytest.mark.parametrize("shell", LOGIN_SHELLS)
def test_every_login_shell_gets_the_script_to_sh(head: Head, shell: str) -> None:
    path: str | Path = shell_path(shell)
    if shell == "busybox":
        path = head.add_program("ash", f'exec {path} sh "$@"')

    assert ask(head.host(shell=str(path))).home == str(head.home)


def test_start_up_files_may_say_anything(head: Head) -> None:
    noisy = write_program(
        head.programs / "noisy-shell",
        f"""echo 'uid=0'; echo "{NONCE} is no secret"; printf 'no newline at the end'
        echo warning >&2; printf '\\033[31m\\200\\201' ; eval "$2"; echo bye; printf '\\377'""",
    )
    facts = ask(head.host(shell=str(noisy)))

    assert facts.uid == os.getuid()
    assert facts == ask(head.host())


# --- directories ---------------------------------------------------------------------------


def test_the_state_directory_is_where_everybody_looks_for_it(head: Head) -> None:
    facts = ask(head.host())

    assert facts.state_dir == state_directory(str(head.home))
    assert facts.state_writable
    assert not head.state.exists()


def test_a_home_with_a_slash_at_its_end_names_the_same_directory(head: Head) -> None:
    assert ask(head.host(HOME=f"{head.home}/")).state_dir == state_directory(str(head.home))


def test_the_heads_environment_names_the_state_directory(head: Head) -> None:
    facts = ask(head.host(SMARTSIM_BRIDGE_STATE_DIR="/scratch/alice/state"))

    assert facts.state_dir == "/scratch/alice/state"


@pytest.mark.parametrize(
    ("chosen", "meant"),
    [("/a b/c'd", "/a b/c'd"), ("~/x", "{home}/x"), ("x", "{home}/x"), ("/ü", "/ü")],
)
def test_a_chosen_state_directory_wins(head: Head, chosen: str, meant: str) -> None:
    facts = ask(head.host(SMARTSIM_BRIDGE_STATE_DIR="/other"), state_dir=chosen)

    assert facts.state_dir == meant.format(home=head.home)


def test_a_directory_that_cannot_be_made_is_reported(head: Head) -> None:
    assert not ask(head.host(), state_dir="/dev/null/state").state_writable


def test_a_far_half_of_the_right_size_is_found(head: Head) -> None:
    (head.state / "far").mkdir(parents=True)
    file = head.state / "far" / "far.pyz"
    file.write_bytes(b"12345")

    assert ask(head.host(), artifact="far.pyz", size=5).artifacts == (str(file),)
    assert ask(head.host(), artifact="far.pyz", size=6).artifacts == ()
    assert ask(head.host(), artifact="other.pyz", size=5).artifacts == ()


def test_a_far_half_that_is_a_link_is_not_taken(head: Head) -> None:
    (head.state / "far").mkdir(parents=True)
    (head.home / "elsewhere").write_bytes(b"12345")
    (head.state / "far" / "far.pyz").symlink_to(head.home / "elsewhere")

    assert ask(head.host(), artifact="far.pyz", size=5).artifacts == ()


# --- servers -------------------------------------------------------------------------------


def test_a_live_server_is_found_and_spares_the_search_for_pythons(head: Head) -> None:
    head.add_program("python3", "echo must not run >&2; exit 9")
    with running() as pid:
        beacon = beacon_of_process(pid)
        path = head.add_server(beacon)
        facts = ask(head.host())

    (only,) = facts.beacons
    assert only.path == str(path)
    assert only.text == beacon.to_json()
    assert only.key_text == CREDENTIALS.to_json()
    assert (only.alive, only.start) == (True, beacon.pid_start)
    assert not facts.searched
    assert facts.pythons == ()


def test_a_program_name_with_spaces_and_parentheses_is_no_trap(head: Head, tmp_path: Path) -> None:
    odd = tmp_path / "a) S 1 (b c"
    shutil.copy("/bin/cat", odd)
    with running(odd) as pid:
        beacon = beacon_of_process(pid)
        head.add_server(beacon)
        facts = ask(head.host())

    assert facts.beacons[0].start == beacon.pid_start


def test_a_dead_server_is_reported_and_pythons_are_looked_for(head: Head) -> None:
    with running() as pid:
        beacon = beacon_of_process(pid)
    head.add_server(beacon)
    facts = ask(head.host())

    assert [found.alive for found in facts.beacons] == [False]
    assert facts.searched


def test_a_zombie_is_no_server(head: Head) -> None:
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE) as process:
        head.add_server(beacon_of_process(process.pid))
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        facts = ask(head.host())

    assert [found.alive for found in facts.beacons] == [False]


@pytest.mark.parametrize(
    "change", [{"pid_start": 1}, {"boot_id": "0ld"}], ids=["reused pid", "old boot"]
)
def test_a_leftover_does_not_spare_the_search(head: Head, change: dict[str, str | int]) -> None:
    with running() as pid:
        head.add_server(replace(beacon_of_process(pid), **change))  # type: ignore[arg-type]
        facts = ask(head.host())

    assert len(facts.beacons) == 1
    assert facts.searched


@pytest.mark.parametrize("pid", [0, 1, -1, 2**70])
def test_no_pid_of_a_beacon_can_harm(head: Head, pid: int) -> None:
    head.add_server(replace(beacon_of_process(os.getpid()), pid=pid))

    assert [found.alive for found in ask(head.host()).beacons] == [False]


@pytest.mark.parametrize(
    "content",
    [b"", b"\n\n", b"\0\1\2\xff" * 300, b"{" * 1_000_000, b'{"pid":"$(touch owned)"}', b"a\nb=c"],
    ids=["empty", "newlines", "binary", "huge", "shell", "lines"],
)
def test_a_garbage_beacon_is_carried_as_one_harmless_line(head: Head, content: bytes) -> None:
    path = head.add_server(beacon_of_process(os.getpid()))
    path.write_bytes(content)
    facts = ask(head.host())

    assert [found.alive for found in facts.beacons] == [False]
    assert len(facts.beacons[0].text) < 20_000
    assert not (head.home / "owned").exists()


def test_servers_of_other_hosts_are_not_read(head: Head) -> None:
    head.add_server(replace(beacon_of_process(os.getpid()), host="another"))

    assert ask(head.host()).beacons == ()


def test_servers_of_other_hosts_with_a_young_heartbeat_are_told_the_youngest_first(
    head: Head,
) -> None:
    ours = beacon_of_process(os.getpid())
    paths = {name: head.add_server(replace(ours, host=name)) for name in ("a", "b", "old", "c")}
    now = time.time()
    for name, age in (("a", 100), ("b", 10), ("old", 3000), ("c", -3000)):
        os.utime(paths[name], (now - age, now - age))
    facts = ask(head.host())

    assert [found.path for found in facts.neighbours] == [str(paths[name]) for name in "cba"]
    assert facts.neighbours[1].text == replace(ours, host="b").to_json()
    assert facts.neighbours[1].key_text == CREDENTIALS.to_json()
    assert facts.beacons == ()


def test_a_host_whose_name_begins_like_ours_is_another(head: Head) -> None:
    name = f"{os.uname().nodename}-1"
    head.add_server(replace(beacon_of_process(os.getpid()), host=name))
    facts = ask(head.host())

    assert facts.beacons == ()
    assert [found.path.rpartition("/")[2][: len(name)] for found in facts.neighbours] == [name]


@pytest.mark.parametrize("content", [b"", b"\0\xff\n" * 99, b"{" * 1_000_000])
def test_garbage_of_a_neighbour_is_carried_as_one_harmless_line(head: Head, content: bytes) -> None:
    path = head.add_server(replace(beacon_of_process(os.getpid()), host="another"))
    path.write_bytes(content)

    assert len(ask(head.host()).neighbours[0].text) < 20_000


def test_a_neighbour_that_is_a_link_or_of_another_user_is_not_read(head: Head) -> None:
    path = head.add_server(replace(beacon_of_process(os.getpid()), host="another"))
    path.rename(head.home / "elsewhere")
    path.symlink_to(head.home / "elsewhere")
    stranger = head.add_server(replace(beacon_of_process(os.getpid()), host="stranger"))
    if os.getuid() == 0:
        os.chown(stranger, 12345, 12345)
    else:
        stranger.unlink()

    assert ask(head.host()).neighbours == ()


def test_a_hundred_neighbours_do_not_make_the_answer_long(head: Head) -> None:
    for number in range(100):
        head.add_server(replace(beacon_of_process(os.getpid()), host=f"login{number}"))

    assert len(ask(head.host()).neighbours) == 8


def test_without_find_there_are_no_neighbours(head: Head) -> None:
    head.add_server(replace(beacon_of_process(os.getpid()), host="another"))
    head.add_program("find", "echo 'find: unrecognized: -mmin' >&2; exit 1")

    assert ask(head.host()).neighbours == ()


def test_keys_behind_a_link_are_not_read(head: Head) -> None:
    path = head.add_server(beacon_of_process(os.getpid()), None)
    (head.home / "keys").write_text(CREDENTIALS.to_json())
    path.with_suffix(".key").symlink_to(head.home / "keys")

    assert [found.key_text for found in ask(head.host()).beacons] == [""]


# --- Pythons -------------------------------------------------------------------------------


def test_the_search_ends_at_the_first_python_that_can_do_everything(head: Head) -> None:
    old = head.add_python("python3", "3.6.8")
    without = head.add_python("python3.13", "3.13.0", why="No module named 'zmq'")
    having = head.add_python("python3.12", "3.12.1", "27.3.0")
    head.add_program("python3.11", "echo must not run >&2; exit 9")
    facts = ask(head.host())

    assert [python.path for python in facts.pythons] == [old, without, having]
    assert facts.pythons[1].why_no_zmq == "No module named 'zmq'"
    assert facts.pythons[2].zmq == "27.3.0"


def test_a_broken_python_is_passed_over_with_its_words(head: Head) -> None:
    head.add_program("python3", "echo 'error while loading shared libraries: libx' >&2; exit 127")
    having = head.add_python("python3.13", "3.13.0", "27.3.0")
    facts = ask(head.host())

    assert facts.pythons[0].fault == "error while loading shared libraries: libx"
    assert facts.pythons[1].path == having


@pytest.mark.parametrize(
    ("left", "patience"), [(0.5, 1), (8.0, 2), (39.0, 9), (41.0, 10), (float("inf"), 10)]
)
def test_a_python_has_a_quarter_of_the_time_and_no_more_than_it_may_need(
    left: float, patience: int
) -> None:
    assert probe_module._patience(left) == patience


@pytest.fixture
def two_seconds(head: Head, monkeypatch: pytest.MonkeyPatch) -> str:
    """A Python that works; the first one that hangs has two seconds.

    The one that works has as many as a busy machine takes.
    """
    monkeypatch.setattr(probe_module, "PYTHON_SECONDS", 2.0)
    having = head.add_python("python3.12", "3.12.0", "27.3.0")
    real = shutil.which("timeout")
    unlimited = f'[ "$4" != {having} ] || {{ shift 3; exec "$@"; }}'
    head.add_program("timeout", f'{unlimited}\nexec {real} "$@"')
    return having


def test_a_python_that_hangs_is_ended_and_the_next_one_taken(head: Head, two_seconds: str) -> None:
    hanging = head.add_program("python3", "echo loading; exec sleep 1000")
    facts = ask(head.host())

    assert [python.path for python in facts.pythons] == [hanging, two_seconds]
    assert facts.pythons[0].fault == "loading did not answer within 2 s"


def test_a_pyzmq_that_hangs_does_not_end_the_search(
    head: Head, tmp_path: Path, two_seconds: str
) -> None:
    (tmp_path / "zmq.py").write_text("import time\ntime.sleep(1000)\n")
    hanging = head.add_program("python3", f'PYTHONPATH={tmp_path} exec {sys.executable} "$@"')
    facts = ask(head.host())

    assert [python.path for python in facts.pythons] == [hanging, two_seconds]
    assert "did not answer" in facts.pythons[0].fault


def test_a_search_through_what_hangs_has_an_end(head: Head, two_seconds: str) -> None:
    for name in ("python3", "python3.14", "python3.13"):
        head.add_program(name, "exec sleep 1000")
    pythons = ask(head.host()).pythons

    assert [python.fault for python in pythons] == [
        *(f"did not answer within {seconds} s" for seconds in (2, 1, 1)),
        "",
    ]
    assert pythons[-1].path == two_seconds


def test_without_the_program_timeout_pythons_are_asked_all_the_same(head: Head) -> None:
    path = head.add_python("python3", "3.11.2", "27.3.0")
    finds_only_that = f"command() {{ case $2 in python3) echo '{path}' ;; *) return 1 ;; esac; }}"

    assert [python.zmq for python in ask(head.host(), prelude=finds_only_that).pythons] == [
        "27.3.0"
    ]


@pytest.mark.parametrize(
    ("script", "fault"),
    [
        ("echo 'pyenv: python3: command not found' >&2; exit 127", "pyenv: python3: command not"),
        ("printf 'Which version? '; read -r answer; echo $answer; exit 1", "Which version?"),
        ("exec /no/such/venv/bin/python", "not found"),
        ("kill -SEGV $$", "Segmentation fault|ended with status 139"),
        ("exit 1", "ended with status 1"),
    ],
    ids=["shim", "question", "broken venv", "crash", "silent"],
)
def test_a_python_that_is_none_is_recorded_with_its_fault(
    head: Head, script: str, fault: str
) -> None:
    head.add_program("python3", script)
    having = head.add_python("python3.11", "3.11.4", "27.3.0")
    facts = ask(head.host())

    assert re.search(fault, facts.pythons[0].fault)
    assert facts.pythons[1].path == having


def test_an_old_python_before_a_new_one_is_passed_over(head: Head) -> None:
    head.add_python("python3", "3.6.8")
    having = head.add_python("python3.11", "3.11.4", "27.3.0")

    assert ask(head.host()).pythons[-1].path == having


@pytest.mark.parametrize("place", [".local", "miniforge3", "miniconda3", "mambaforge", "anaconda3"])
def test_a_python_in_the_home_is_found_without_a_path_to_it(head: Head, place: str) -> None:
    folder = head.home / place / "bin"
    folder.mkdir(parents=True)
    path = write_program(folder / "python3", "echo 'PYTHON|3.12.0|27.3.0|'")
    for name in ("python3", "python"):
        head.add_python(name, "3.6.8")

    assert str(path) in [python.path for python in ask(head.host()).pythons]


def test_the_search_is_in_the_documented_order() -> None:
    """The numbered list of the page and the loop of the script, name by name."""
    page = (ROOT / "docs/how-it-works/bootstrap.md").read_text("utf-8")
    listed = page.partition("## The search for a Python\n")[2].partition("Nothing is looked for")[0]
    items = re.split(r"\n1\. ", listed)[1]
    promised = re.findall("`([^`]+)`", items)
    loop = text_of("probe.sh").partition("for candidate in ")[2].partition("; do")[0]
    tried = [
        word.strip('"').replace("${HOME%/}", "~") for word in loop.replace("\\\n", " ").split()
    ]

    assert tried == promised


def test_a_python_that_chatters_is_understood(head: Head) -> None:
    head.add_program("python3", "echo hello from sitecustomize; echo 'PYTHON|3.11.2|27.3.0|'")

    assert ask(head.host()).pythons[0].version == (3, 11, 2)


def test_a_named_python_is_the_only_one_tried(head: Head) -> None:
    head.add_python("python3", "3.11.2", "27.3.0")
    named = head.add_python("my python", "3.9.1")

    assert [python.path for python in ask(head.host(), python=named).pythons] == [named]
    assert [python.path for python in ask(head.host(), python="my python").pythons] == [named]
    assert ask(head.host(), python="/no/such/python").pythons == ()


def test_a_named_python_may_lie_in_the_home(head: Head) -> None:
    path = write_program(head.home / "python", "echo 'PYTHON|3.9.1||'")

    assert [python.path for python in ask(head.host(), python="~/python").pythons] == [str(path)]


def test_this_python_says_what_it_is(head: Head) -> None:
    python = ask(head.host(), python=sys.executable).pythons[0]

    assert python.version == sys.version_info[:3]
    assert python.zmq or python.why_no_zmq


@pytest.mark.parametrize("path", modern_pythons())
def test_a_python_without_pyzmq_says_what_it_is_built_for(head: Head, path: str) -> None:
    python = ask(head.host(PYTHONPATH=_without_zmq(head)), python=path).pythons[0]

    assert not python.zmq
    assert python.build is not None
    assert python.build.soabi.startswith(f"cpython-3{python.version[1]}")
    assert python.build.machine == os.uname().machine
    assert python.build.bits == 64
    assert python.build.libc


def test_a_pyzmq_beside_the_far_half_is_taken_where_there_is_no_other(head: Head) -> None:
    broken = head.state / "far/pyzmq-1-broken"
    old, works = head.state / "far/pyzmq-2-old", head.state / "far/pyzmq-3-works"
    for site, text in (
        (broken, "raise ImportError('of another Python')"),
        (old, "__version__ = '2'; has = bool; zmq_version_info = lambda: (4, 3, 4)"),
        (works, "__version__ = '3'; has = bool; zmq_version_info = lambda: (4, 3, 5)"),
    ):
        (site / "zmq").mkdir(parents=True)
        (site / "zmq/__init__.py").write_text(text)
    host = head.host(PYTHONPATH=_without_zmq(head))

    python = ask(host, python=sys.executable).pythons[0]
    assert (python.zmq, python.site) == ("3", str(works))
    assert "beside the far half" in str(python)

    shutil.rmtree(works)
    python = ask(host, python=sys.executable).pythons[0]
    assert (python.zmq, python.site, python.why_no_zmq) == ("", "", "there is none here")


def test_a_link_beside_the_far_half_is_not_taken(head: Head) -> None:
    (head.home / "other/zmq").mkdir(parents=True)
    (head.home / "other/zmq/__init__.py").write_text("__version__ = '3'; has = bool")
    (head.state / "far").mkdir(parents=True)
    (head.state / "far/pyzmq-1-link").symlink_to(head.home / "other")

    assert not ask(head.host(PYTHONPATH=_without_zmq(head)), python=sys.executable).pythons[0].zmq


def _without_zmq(head: Head) -> str:
    """A directory that stands before an installed pyzmq, and has none."""
    directory = head.home / "none"
    directory.mkdir()
    (directory / "zmq.py").write_text("raise ImportError('there is none here')")
    return str(directory)


def test_a_module_in_the_home_is_not_taken_for_pyzmq(head: Head) -> None:
    (head.home / "zmq.py").write_text("__version__ = 'false'\nhas = bool\n")

    assert ask(head.host(), python=sys.executable).pythons[0].zmq != "false"


@pytest.mark.parametrize("path", old_pythons())
def test_an_old_python_can_say_so(head: Head, path: str) -> None:
    python = ask(head.host(), python=path).pythons[0]

    assert (2, 7) <= python.version < (3, 9)
    assert not python.fault


def test_the_prelude_can_bring_a_python(head: Head, tmp_path: Path) -> None:
    (tmp_path / "module").mkdir()
    path = write_program(tmp_path / "module" / "python3", "echo 'PYTHON|3.12.0|27.3.0|'")
    facts = ask(head.host(), prelude=f"echo loading\nPATH='{path.parent}':$PATH")

    assert facts.pythons[0].path == str(path)
    assert facts.prelude_status == 0


def test_module_is_defined_for_a_prelude_that_needs_it(head: Head, tmp_path: Path) -> None:
    (tmp_path / "init").mkdir()
    (tmp_path / "init" / "sh").write_text("module() { LOADED=$*; }\n")
    facts = ask(
        head.host(MODULESHOME=str(tmp_path)), prelude='module load x; [ "$LOADED" = "load x" ]'
    )
    assert facts.prelude_status == 0


# --- what goes wrong -----------------------------------------------------------------------


def test_a_nologin_shell_is_recognised(head: Head) -> None:
    shell = write_program(
        head.programs / "nologin", "echo 'This account is currently not available.'; exit 1"
    )
    with pytest.raises(NoLoginShell, match="may not log in there") as raised:
        ask(head.host(shell=str(shell)))

    assert raised.value.host == "me@login1"
    assert raised.value.step == "probe"
    assert raised.value.noise == "  This account is currently not available."


def test_a_forced_command_that_reads_everything_is_quoted(
    head: Head, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell_module, "PATIENCE", 0.1)
    shell = write_program(head.programs / "forced", "echo 'rsync only'; cat >/dev/null")

    with pytest.raises(CommandsForbidden, match="rsync only"):
        ask(head.host(shell=str(shell)))


def test_a_prelude_that_traces_itself_is_no_trouble(head: Head) -> None:
    assert ask(head.host(), prelude="set -x") == replace(ask(head.host()), prelude_status=0)


def test_a_prelude_that_ends_the_shell_is_told(head: Head) -> None:
    with pytest.raises(ProbeFailed, match="no such module"):
        ask(head.host(), prelude="echo no such module >&2; exit 1")


def test_the_stage_is_reported_with_its_detail(head: Head) -> None:
    head.add_python("python3", "3.11.2", "27.3.0")
    journey = Journey("login1")
    ask(head.host(), journey=journey)

    (stage,) = journey.stages
    assert (stage.name, stage.failed) == ("probe", False)
    assert "alice@" in stage.detail


def test_a_prelude_that_fails_is_told_in_the_stage(head: Head) -> None:
    journey = Journey("login1")
    ask(head.host(), journey=journey, prelude="no-such-module load python")

    assert "the prelude ended with status 127" in journey.stages[0].detail
