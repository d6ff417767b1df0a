"""Real login shells with the start-up files that people and sites write.

Each is run as sshd runs it, `SHELL -c /bin/sh`, with our script on its input.  What matters
in the end: it works, or one sentence says what is wrong, soon.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from smartsim_bridge.bootstrap import shell as shell_module
from smartsim_bridge.bootstrap.facts import Facts
from smartsim_bridge.bootstrap.probe import probe
from smartsim_bridge.bootstrap.shell import Shell
from smartsim_bridge.deadline import Deadline
from smartsim_bridge.errors import CommandsForbidden, NoLoginShell, ProbeFailed
from smartsim_bridge.stages import Journey
from tests.bootstrap.samples import NONCE, Head, write_program
from tests.support.shells import shell_path

# bash reads its file where it is run by sshd; see Head.host.
FILES = {
    "bash": ".bashrc",
    "zsh": ".zshenv",
    "tcsh": ".cshrc",
    "fish": ".config/fish/config.fish",
    "ksh": None,
    "dash": None,
}
SSH = {"SSH_CLIENT": "10.0.0.1 5 22", "SSH_CONNECTION": "10.0.0.1 5 10.0.0.2 22"}


def login(
    head: Head, name: str, start_up: str = "", prelude: str = "", **environment: str
) -> Facts:
    """The probe's answer through that shell with that start-up file."""
    shell = shell_path(name)
    file = FILES[name]
    if file is not None:
        path = head.home / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(start_up)
    return asked(head, shell, prelude, **environment)


def asked(head: Head, shell: str | Path, prelude: str = "", **environment: str) -> Facts:
    host = head.host(str(shell), **{**SSH, **environment})
    with Shell(host, prelude=prelude, deadline=Deadline(60), nonce=NONCE) as opened:
        return probe(opened, journey=Journey("h"))


def refused(kind: type[ProbeFailed], head: Head, shell: str | Path) -> ProbeFailed:
    """The error of a login that must fail; it is of exactly that class."""
    with pytest.raises(ProbeFailed) as raised:
        asked(head, shell)
    assert type(raised.value) is kind, repr(raised.value)
    assert raised.value.host == "me@login1"
    assert raised.value.step == "probe"
    return raised.value


def failed(head: Head, name: str, start_up: str) -> ProbeFailed:
    with pytest.raises(ProbeFailed) as raised:
        login(head, name, start_up)
    return raised.value


@pytest.fixture(autouse=True)
def nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is told at once is told before all time is used up; who must wait shortens it."""
    monkeypatch.setattr(shell_module, "PATIENCE", 600.0)


@pytest.fixture(autouse=True)
def python(head: Head) -> None:
    """The search for one ends at once."""
    head.add_python("python3", "3.11.2", "27.3.0")


# --- what works ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_every_login_shell_does(head: Head, name: str) -> None:
    assert login(head, name).home == str(head.home)


LOUD = "echo welcome\nsh -c 'echo warning >&2'\nprintf 'no newline at the end'\n"


@pytest.mark.parametrize("name", [name for name, file in FILES.items() if file])
def test_a_loud_start_up_file_changes_nothing(head: Head, name: str) -> None:
    assert login(head, name, LOUD).uid == os.getuid()


@pytest.mark.parametrize("name", [name for name, file in FILES.items() if file])
def test_a_flood_before_us_is_read_to_its_end(head: Head, name: str) -> None:
    flood = f"sh -c 'dd if=/dev/zero bs=1000000 count=5 2>/dev/null; echo {NONCE} too'\n"

    assert login(head, name, flood).uid == os.getuid()


def test_an_endless_flood_is_left(head: Head, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell_module, "NOISE_LIMIT", 1_000_000)
    fault = failed(head, "bash", "while :; do echo flood; done\n")

    assert "talks without end" in str(fault)


@pytest.mark.parametrize("other", ["zsh", "ksh", "bash", "dash"])
def test_a_start_up_file_that_becomes_another_shell_of_the_family_is_no_trouble(
    head: Head, other: str
) -> None:
    start_up = f'[ -n "$BECAME" ] || BECAME=yes exec {shell_path(other)}\n'

    assert login(head, "bash", start_up).uid == os.getuid()


@pytest.mark.parametrize(
    "line",
    [
        "set -eu",
        "set -f -C -v",
        "umask 777",
        "export LC_ALL=xx_YY.no LANG=xx_YY",
        "export LC_ALL=tr_TR.UTF-8",
        "export IFS=/:n",
        "export PATH=",
        "alias cd=exit printf=false; shopt -s expand_aliases",
        "cd() { exit 9; }; printf() { exit 9; }; export -f cd printf",
        "set -euvx; shopt -s expand_aliases; export SHELLOPTS",
        "stty erase '^H'; tput setaf 1; mesg n",
        "export TMPDIR=/no/such/place",
        "export TMPDIR=/proc",
        "export ENV=/no/such/file BASH_ENV=/no/such/file",
        "export PYTHONSTARTUP=/no/such/file PYTHONHOME=",
        "export ssb_lines=x nonce=y prelude='exit 3' python=/bin/false chosen=/proc",
        "export POSIXLY_CORRECT=1 GREP_OPTIONS=-n CDPATH=/:/usr",
        "trap 'echo bye' EXIT",
        "ulimit -n 64",
        "exec 2>&1",
        "exec 2>/dev/null",
    ],
)
def test_a_strange_start_up_file_changes_nothing(head: Head, line: str) -> None:
    plain = login(head, "bash")
    strange = login(head, "bash", line + "\n")

    assert strange.state_dir == plain.state_dir
    assert strange.uid == os.getuid()
    assert strange.pythons or "PATH=" in line


def test_where_sh_is_bash_exported_options_and_functions_change_nothing(
    head: Head, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on Red Hat and its kin.
    sh = head.programs / "sh"
    sh.symlink_to(shell_path("bash"))
    monkeypatch.setattr(shell_module, "COMMAND", str(sh))
    start_up = """
        cd() { exit 9; }; printf() { exit 9; }; unalias() { exit 9; }
        export -f cd printf unalias
        set -euvx; shopt -s expand_aliases; export SHELLOPTS
    """
    assert login(head, "bash", start_up).uid == os.getuid()


def test_a_file_for_all_shells_that_is_loud_changes_nothing(head: Head) -> None:
    loud = head.home / "env"
    loud.write_text(LOUD)

    assert login(head, "bash", BASH_ENV=str(loud), ENV=str(loud)).uid == os.getuid()


def test_markers_like_ours_are_noise(head: Head) -> None:
    text = "\\n".join(["0123-HERE.", "0123-BEGIN", "0123 uid=0", "0123-END", "0123-DONE 0."])

    assert login(head, "bash", f"printf '{text}\\n'\n").uid == os.getuid()


def test_a_forced_command_that_is_a_shell_of_its_own_is_no_trouble(head: Head) -> None:
    for name, *options in (["bash", "-l"], ["bash", "--norc"], ["zsh"], ["ksh"]):
        line = " ".join(["exec", shell_path(name), *options])
        forced = write_program(head.programs / "forced", line)
        assert asked(head, forced).uid == os.getuid()


# --- what cannot work ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bash", "zsh", "tcsh"])
@pytest.mark.parametrize("questions", [1, 3])
def test_a_start_up_file_that_asks_a_question_is_told(
    head: Head, name: str, questions: int
) -> None:
    question = 'set project = "$<"\n' if name == "tcsh" else "read -r project\n"
    fault = failed(head, name, "echo 'Which project?'\n" + questions * question)

    assert type(fault) is ProbeFailed, str(fault)
    assert "read part of our script" in str(fault)
    assert "Which project?" in fault.noise


@pytest.mark.parametrize(
    "reader",
    ["cat", "head -n 1", *(f"dd bs=1 count={n} 2>&1" for n in (1, 99, 200, 230, 300, 999, 3000))],
)
def test_a_start_up_file_that_reads_our_script_is_told_and_no_part_of_it_runs(
    head: Head, monkeypatch: pytest.MonkeyPatch, reader: str
) -> None:
    monkeypatch.setattr(shell_module, "PATIENCE", 0.3)
    with pytest.raises(ProbeFailed) as raised:
        login(head, "bash", f"{reader} >/dev/null\n", 'touch "$HOME/one"\ntouch "$HOME/two"\n')

    assert type(raised.value) is ProbeFailed, str(raised.value)
    assert "at a terminal" in raised.value.advice
    assert sorted(path.name for path in head.home.iterdir()) == [".bashrc"]


@pytest.mark.parametrize("other", ["fish", "tcsh"])
def test_a_start_up_file_that_becomes_a_shell_of_another_kind_is_told(
    head: Head, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    monkeypatch.setattr(shell_module, "PATIENCE", 0.3)
    fault = failed(head, "bash", f"exec {shell_path(other)}\n")

    assert type(fault) is ProbeFailed, str(fault)
    assert f"{other[-3:] if other == 'tcsh' else other} read our script" in str(fault)


def test_a_start_up_file_that_ends_the_shell_is_told(head: Head) -> None:
    assert "at a terminal" in failed(head, "bash", "exit 0\n").advice
    assert "at a terminal" in failed(head, "bash", "exit 1\n").advice
    broken = failed(head, "bash", "no-such-command || exit 1\n")
    assert type(broken) is ProbeFailed
    assert "no-such-command" in broken.noise


NO_LOGIN = {
    "nologin": "echo 'This account is currently not available.'; exit 1",
    "nologin of a site": "echo 'alice: nologin on this host, use login2' >&2; exit 254",
    "false": "exit 1",
}


@pytest.mark.parametrize("script", NO_LOGIN.values(), ids=NO_LOGIN)
def test_an_account_without_a_login_shell_is_told(head: Head, script: str) -> None:
    shell = write_program(head.programs / "login", script)
    fault = refused(NoLoginShell, head, shell)

    assert "ended with status" in str(fault)
    assert "ask the site" in str(fault)


@pytest.mark.parametrize("path", ["/usr/sbin/nologin", "/bin/false"])
def test_the_systems_own_refuse(head: Head, path: str) -> None:
    refused(NoLoginShell, head, shell_path(path))


FORBIDDEN = {
    "a site's": "echo 'only transfer'; exit 1",
    "a site's, with status 0": "echo 'only rsync is allowed here' >&2",
    "a site's, unlike any other": "echo 'Go to the portal.'; exit 3",
    "internal-sftp": "echo 'This service allows sftp connections only.'; exit 1",
    "git-shell": "echo \"fatal: unrecognized command '/bin/sh'\" >&2; exit 128",
    "rssh": "echo 'This account is restricted by rssh.'; exit 1",
    "rbash": "exec bash --restricted --norc -c /bin/sh",
    "rrsync": "echo 'rrsync error: SSH_ORIGINAL_COMMAND does not run rsync.' >&2; exit 1",
    "with a welcome": "echo 'Authorized users only'; echo 'Please use the portal'; exit 1",
}


@pytest.mark.parametrize("script", FORBIDDEN.values(), ids=FORBIDDEN)
def test_a_site_that_forbids_commands_is_told(head: Head, script: str) -> None:
    fault = refused(CommandsForbidden, head, write_program(head.programs / "login", script))

    assert fault.noise
    assert fault.noise in str(fault)


def test_git_shell_refuses(head: Head) -> None:
    refused(CommandsForbidden, head, shell_path("git-shell"))


def test_a_menu_is_quoted(head: Head, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell_module, "PATIENCE", 0.3)
    menu = """
        while :; do
            echo 'Choose: 1) mail 2) password 3) quit'
            read -r choice || exit 1
            echo "$choice is not a choice"
        done
    """
    fault = refused(CommandsForbidden, head, write_program(head.programs / "menu", menu))
    assert "2) password" in fault.noise


def test_a_forced_program_that_waits_for_the_end_of_its_input_is_quoted(
    head: Head, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell_module, "PATIENCE", 0.3)
    forced = write_program(head.programs / "forced", "cat >/dev/null; echo 'rsync only'; exit 1")

    assert "rsync only" in refused(CommandsForbidden, head, forced).noise
