"""The script that a shim is, under every shell that may be /bin/sh."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
from pathlib import Path

import pytest

from smartsim_bridge.protocol.environment import SHIM_MARKER
from smartsim_bridge.shims.stub import stub_text
from tests.support.shells import shell_command

SECONDS = 60.0
ODD = ["", "two words", "new\nline", "'\"$HOME`id`\\*", "-n", "ü"]

# What a program of the test says of itself.
REAL = """#!/bin/sh
printf '<%s>' real "$0" "$@"
printf '%s' "${SMARTSIM_BRIDGE_SOCKET-unset}"
exit 6
"""
PYTHON = """#!/bin/sh
for one; do printf '<%s>' "$one"; done
exit 7
"""


@pytest.fixture(params=["dash", "bash", "bash --posix", "ksh", "busybox sh", "mksh"])
def shell(request: pytest.FixtureRequest) -> list[str]:
    return shlex.split(shell_command(request.param))


class Site:
    """Directories with names that shells stumble over, a folder of shims among them."""

    def __init__(self, root: Path, shell: list[str]) -> None:
        self.root = root / "a b'c\"$d"
        self.shell = shell
        self.folder = self.root / "shims *"
        self.python = self.root / "py thon"
        self.socket = self.root / "socket"
        self.folder.mkdir(parents=True)
        (self.folder / SHIM_MARKER).touch()
        self.write(self.python, PYTHON)
        self.shim = self.make_shim()

    def make_shim(self, **more: object) -> Path:
        text = stub_text("sbatch", folder=str(self.folder), python=str(self.python), **more)  # type: ignore[arg-type]
        return self.write(self.folder / "sbatch", text)

    def write(self, file: Path, text: str, mode: int = 0o700) -> Path:
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        file.chmod(mode)
        return file

    def listen(self, path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as listener:
            # Of any length: bound by a name in its directory.
            here = os.open(path.parent, os.O_RDONLY)
            listener.bind(f"/proc/self/fd/{here}/{path.name}")
            os.close(here)

    def run(self, *arguments: str, path: str, **env: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": path, **env}
        return subprocess.run(
            [*self.shell, self.shim, *arguments],
            env=environment,
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    def path(self, *places: str) -> str:
        return ":".join([str(self.folder), *places])


@pytest.fixture
def site(tmp_path: Path, shell: list[str]) -> Site:
    return Site(tmp_path, shell)


def real_output(file: str, *arguments: str, session: str = "unset") -> str:
    return "".join(f"<{one}>" for one in ("real", file, *arguments)) + session


def test_without_a_session_it_becomes_the_real_command(site: Site) -> None:
    real = site.write(site.root / "bin" / "sbatch", REAL)
    done = site.run(*ODD, path=site.path("/nowhere", str(real.parent)))

    assert (done.stdout, done.stderr) == (real_output(str(real), *ODD), "")
    assert done.returncode == 6


def test_folders_of_shims_are_passed_over_whoever_made_them(site: Site) -> None:
    other = site.write(site.root / "other" / "sbatch", "#!/bin/sh\necho wrong")
    (other.parent / SHIM_MARKER).mkdir()  # whatever it is
    (site.root / "link").symlink_to(site.folder)
    named = site.root / "named"
    named.mkdir()
    (named / "sbatch").symlink_to(site.shim)  # a link to the shim itself
    real = site.write(site.root / "bin" / "sbatch", REAL)
    places = [other.parent, site.root / "link", named, real.parent]
    site.shim = named / "sbatch"

    done = site.run(path=site.path(*map(str, places)))
    assert (done.stdout, done.stderr) == (real_output(str(real)), "")


def test_what_cannot_be_run_is_passed_over(site: Site) -> None:
    site.write(site.root / "data" / "sbatch", REAL, 0o600)
    (site.root / "tree" / "sbatch").mkdir(parents=True)
    real = site.write(site.root / "bin" / "sbatch", REAL)
    if os.geteuid() == 0:  # who runs nothing that has no x anywhere, either
        assert not os.access(site.root / "data" / "sbatch", os.X_OK)
    places = [str(site.root / one) for one in ("data", "tree", "bin")]

    assert site.run(path=site.path(*places)).stdout == real_output(str(real))


@pytest.mark.parametrize("path", ["{}:", ":{}", "{}::/nowhere", "{}:.", "."])
def test_an_empty_entry_of_path_is_the_directory_one_is_in(site: Site, path: str) -> None:
    site.write(site.root / "sbatch", REAL)
    done = site.run("x", path=path.format(site.folder))

    # bash has it run by its whole path.
    whole = str(site.root / "sbatch")
    assert done.stdout in [real_output(one, "x") for one in ("./sbatch", whole)]
    assert done.stderr == ""


@pytest.mark.parametrize("session", [None, "", "gone", "/nowhere/socket"])
def test_where_there_is_neither_one_line_says_what_to_do(site: Site, session: str | None) -> None:
    more = {} if session is None else {"SMARTSIM_BRIDGE_SOCKET": session}
    done = site.run(path=str(site.folder), **more)

    why = "its bridge to the head has ended" if session else "no bridge to a head is open"
    assert done.stderr == (
        f"sbatch: not on this host, and {why};"
        " call init_command_server(), or use smartsim-bridge shell\n"
    )
    assert (done.returncode, done.stdout) == (127, "")


def test_a_session_that_has_ended_gives_way_to_the_real_command(site: Site) -> None:
    real = site.write(site.root / "bin" / "sbatch", REAL)
    done = site.run(path=site.path(str(real.parent)), SMARTSIM_BRIDGE_SOCKET="/nowhere")

    assert done.stdout == real_output(str(real))


def test_in_a_session_it_becomes_the_stand_in(site: Site) -> None:
    site.listen(site.socket)
    site.write(site.root / "bin" / "sbatch", REAL)
    done = site.run(
        *ODD,
        path=site.path(str(site.root / "bin")),
        SMARTSIM_BRIDGE_SOCKET=str(site.socket),
        LC_CTYPE="x=y z",
    )
    assert (done.returncode, done.stderr) == (7, "")
    options, folder = "<-I><-S><-X><utf8><-c>", f"<{site.folder}><sbatch><=x=y z><first>"
    assert done.stdout.startswith(options)
    assert done.stdout.endswith(folder + "".join(f"<{one}>" for one in ODD))


def test_an_interpreter_that_is_no_more_gives_way_to_the_real_command(site: Site) -> None:
    site.listen(site.socket)
    site.python.unlink()
    real = site.write(site.root / "bin" / "sbatch", REAL)
    path = site.path(str(real.parent))

    assert site.run(path=path, SMARTSIM_BRIDGE_SOCKET=str(site.socket)).returncode == 6


# --- shims that are installed for good


def with_agent(site: Site, text: str) -> Path:
    agent = site.write(site.root / "agent's", f"#!/bin/sh\n{text}\n")
    site.make_shim(agent=[str(agent), "two words"], agent_socket=str(site.socket))
    return agent


def test_an_agent_is_started_where_there_is_none(site: Site) -> None:
    with_agent(site, 'read x; echo "<$1>$x"; exit 0')
    done = site.run("a", path=str(site.folder))

    assert done.returncode == 7
    assert done.stdout.endswith(f"<{site.folder}><sbatch><><last><a>")
    assert done.stderr == "<two words>\n"  # what it says is no output of the command's


def test_an_agent_that_runs_is_asked_at_once(site: Site) -> None:
    with_agent(site, "exit 9")
    site.listen(site.socket)

    assert site.run("a", path=str(site.folder)).stdout.endswith("<first><a>")
    stale = site.run("a", path=str(site.folder), SMARTSIM_BRIDGE_SOCKET="gone")
    assert (stale.returncode, stale.stdout) == (9, "")  # asked to see to it, and could not


def test_the_real_command_comes_before_an_agent(site: Site) -> None:
    with_agent(site, "exit 9")
    real = site.write(site.root / "bin" / "sbatch", REAL)

    assert site.run(path=site.path(str(real.parent))).returncode == 6
