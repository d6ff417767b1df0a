"""`smartsim-bridge shell`: a program whose squeue is the head's."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from smartsim_bridge.cli.interactive import path_line
from tests.support.command_line import PROGRAM, Terminal, typed
from tests.support.heads import is_running
from tests.support.local_server import LocalServer, MakeLocalServer
from tests.support.waiting import wait_until

from .installed import SECONDS

needs_head = pytest.mark.usefixtures("queueing_head")


def where(shell: str) -> str:
    path = shutil.which(shell)
    if path is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"this host has no {shell}")
    return path


@needs_head
def test_a_program_finds_the_heads_commands() -> None:
    done = typed("shell", "--", "sh", "-c", "squeue a 'b c'; exit 3")
    assert (done.stdout, done.stderr, done.returncode) == (b"head: a b c\n", b"", 3)


@needs_head
def test_the_program_may_be_a_shim_itself() -> None:
    assert typed("shell", "--", "squeue", "fail").returncode == 7


@needs_head
def test_options_behind_the_program_are_its_own() -> None:
    assert typed("shell", "--", "echo", "--addr", "-v").stdout == b"--addr -v\n"


@needs_head
def test_a_program_that_is_not_there_is_127() -> None:
    done = typed("shell", "--", "no-such-program")
    assert done.returncode == 127
    assert b"no-such-program" in done.stderr


def test_a_head_without_a_scheduler_is_named(
    make_local_server: MakeLocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as there:
        there.setenv("PATH", str(tmp_path))
        make_local_server()
    done = typed("shell", "--", "true")
    assert b"no scheduler's command is on the PATH of " in done.stderr
    assert b"--addr" in done.stderr
    assert done.returncode == 0


@needs_head
def test_without_a_program_it_is_the_users_shell() -> None:
    done = typed("shell", env={**os.environ, "SHELL": "/bin/sh"}, input=b"squeue here\nexit 4\n")
    assert (done.stdout, done.returncode) == (b"head: here\n", 4)


@needs_head
def test_at_a_terminal_the_prompt_is_the_users(tmp_path: Path) -> None:
    profile = {"HOME": str(tmp_path), "TERM": "dumb", "HISTFILE": "", "SHELL": "/bin/bash"}
    (tmp_path / ".bashrc").write_text("PS1='mine> '\n", "utf-8")
    with Terminal("shell", env={**os.environ, **profile}) as terminal:
        terminal.expect("mine> ")
        terminal.type("squeue he''re\n")
        terminal.expect("head: here\n")
        terminal.type(f"squeue wait {tmp_path}/go\n")
        wait_until(Path(f"{tmp_path}/go.began").exists, SECONDS)
        prompts = terminal.shown.count("mine> ")
        terminal.press_ctrl_c()  # for squeue alone
        # What is typed while the shell takes the terminal back may be lost, as at every prompt.
        wait_until(lambda: terminal.shown.count("mine> ") > prompts, SECONDS)
        terminal.type("echo sta''tus $?; exit 5\n")
        terminal.expect("status 130\n")
        assert terminal.wait() == 5


@needs_head
@pytest.mark.parametrize(
    ("shell", "file", "text"),
    [
        ("bash", ".bashrc", "PS1='mine> '; PATH=/usr/bin:/bin; [ -n \"$PS1\" ] && return\n"),
        ("zsh", ".zshrc", "PS1='mine> '; PATH=/usr/bin:/bin\n"),
        ("zsh", ".zshenv", "PS1='mine> '; PATH=/usr/bin:/bin; ZDOTDIR=$HOME/none\n"),
        ("tcsh", ".tcshrc", "set prompt='mine> '; setenv PATH /usr/bin:/bin\n"),
    ],
)
def test_start_up_files_that_set_path_anew_do_not_take_the_commands_away(
    shell: str, file: str, text: str, tmp_path: Path
) -> None:
    path = where(shell)
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(text, "utf-8")
    own = {name: value for name, value in os.environ.items() if name != "ZDOTDIR"}
    own.update(HOME=str(tmp_path), TERM="dumb", SHELL=path, TMPDIR=str(tmp_path / "empty"))
    (tmp_path / "empty").mkdir()
    with Terminal("shell", env=own) as terminal:
        shown = terminal.expect("mine> ")
        if shell == "tcsh":  # which has no way for it
            _, _, line = shown.partition("until: ")
            terminal.type(f"{line.splitlines()[0]}\n")
        if shell == "zsh":
            terminal.type("echo di''r=$ZDOTDIR\n")
        terminal.type("squeue he''re; exit 5\n")
        assert terminal.wait() == 5, terminal.shown
        assert "head: here\n" in terminal.shown
    if file == ".zshrc":
        assert "dir=\n" in terminal.shown
    assert not list((tmp_path / "empty").glob("smartsim-bridge-*"))


@needs_head
def test_nor_do_those_of_fish(tmp_path: Path) -> None:
    """Without a terminal: at one, its first run takes many seconds."""
    path = where("fish")
    file = tmp_path / ".config" / "fish" / "config.fish"
    file.parent.mkdir(parents=True)
    file.write_text("set -gx PATH /usr/bin /bin\n", "utf-8")
    own = {**os.environ, "HOME": str(tmp_path), "SHELL": path, "XDG_CONFIG_HOME": ""}
    done = typed("shell", env=own, input=b"squeue here; exit 5\n")
    assert (done.stdout, done.returncode) == (b"head: here\n", 5), done.stderr


def test_what_it_started_is_told_when_it_is_killed(
    queueing_head: LocalServer, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    script = f"echo $$; squeue wait {go} >&2; echo $?"
    with subprocess.Popen(
        [*PROGRAM, "shell", "--", "sh", "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as shell:
        assert shell.stdout is not None
        pid = int(shell.stdout.readline())
        wait_until(Path(f"{go}.began").exists, SECONDS)
        shell.send_signal(signal.SIGKILL)
        assert shell.stdout.readline() == "255\n"
        wait_until(lambda: not is_running(pid))


@pytest.mark.parametrize(
    ("shell", "line"),
    [
        ("/bin/bash", "export PATH='/a b':\"$PATH\""),
        ("/bin/tcsh", "setenv PATH '/a b':\"$PATH\""),
        ("/usr/bin/fish", "set -gx PATH '/a b' $PATH"),
        ("", "export PATH='/a b':\"$PATH\""),
    ],
)
def test_the_line_for_path_is_in_the_words_of_the_shell(shell: str, line: str) -> None:
    assert path_line(Path("/a b"), shell) == line
