from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from smartsim_bridge.errors import InvalidSettings, ShimsUnavailable
from smartsim_bridge.protocol.environment import SHIM_MARKER
from smartsim_bridge.shims.folder import (
    fill_folder,
    make_folder,
    shims_in,
)
from tests.support.users import User

COMMANDS = ["squeue", "sbatch", "sbatch"]
SECONDS = 60.0


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "state" / "shims", COMMANDS, sys.executable)


def state(folder: Path) -> dict[str, tuple[int, int, int]]:
    return {
        one.name: (one.stat().st_mode, one.stat().st_ino, one.stat().st_mtime_ns)
        for one in folder.iterdir()
    }


def test_it_holds_the_shims_the_program_and_the_marker(made: Path) -> None:
    modes = {name: mode & 0o7777 for name, (mode, _, _) in state(made).items()}

    assert modes == {"sbatch": 0o700, "squeue": 0o700, "stand_in.py": 0o600, SHIM_MARKER: 0o600}
    assert (made.stat().st_mode & 0o7777, made.parent.stat().st_mode & 0o7777) == (0o700, 0o700)
    assert os.listdir(made.parent) == [made.name]
    assert shims_in(made) == ["sbatch", "squeue"]


def test_made_again_it_is_left_as_it_is(made: Path) -> None:
    before = state(made)
    again = make_folder(made.parent, reversed(COMMANDS), sys.executable)

    assert again == made
    assert state(made) == before


def test_other_commands_and_other_interpreters_have_folders_of_their_own(made: Path) -> None:
    more = make_folder(made.parent, [*COMMANDS, "sinfo"], sys.executable)
    other = make_folder(made.parent, COMMANDS, "/usr/bin/python3")

    assert len({made, more, other}) == 3
    assert shims_in(made) == ["sbatch", "squeue"]


def test_what_was_removed_or_changed_is_mended(made: Path) -> None:
    before = {one.name: one.read_bytes() for one in made.iterdir()}
    (made / "sbatch").unlink()
    (made / "squeue").write_text("half")
    (made / "stand_in.py").write_text("")
    (made / SHIM_MARKER).unlink()
    make_folder(made.parent, COMMANDS, sys.executable)
    assert {one.name: one.read_bytes() for one in made.iterdir()} == before

    (made / "sbatch").chmod(0o600)
    make_folder(made.parent, COMMANDS, sys.executable)
    assert (made / "sbatch").stat().st_mode & 0o7777 == 0o700


def test_processes_that_make_it_at_once_agree(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from smartsim_bridge.shims.folder import make_folder, shims_in\n"
        "print(flush=True); input()\n"
        "made = make_folder(Path(sys.argv[1]), ['sbatch', 'squeue'], sys.executable)\n"
        "print(made, shims_in(made))"
    )
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "shims")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]
    for racer in racers:
        assert racer.stdout is not None
        racer.stdout.readline()
    said = {racer.communicate("\n", timeout=SECONDS)[0] for racer in racers}

    assert len(said) == 1
    assert "['sbatch', 'squeue']" in said.pop()
    (folder,) = (tmp_path / "shims").iterdir()
    assert sorted(one.name for one in folder.iterdir()) == [
        SHIM_MARKER, "sbatch", "squeue", "stand_in.py"
    ]  # fmt: skip


def test_a_disk_without_room_is_told_and_nothing_stays(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk's."""
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from smartsim_bridge.shims.folder import make_folder\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "make_folder(Path(sys.argv[1]), ['sbatch'], sys.executable)"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert f"ShimsUnavailable: Cannot make the shims in {tmp_path}: File too large" in done.stderr
    assert "step shims" in done.stderr
    assert os.listdir(tmp_path) == []


@pytest.mark.root
@pytest.mark.parametrize(
    ("options", "what"),
    [("size=8k", "No space left on device"), ("noexec", "Programs in .* cannot be run")],
)
def test_a_file_system_that_will_not_do_is_told(tmp_path: Path, options: str, what: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    code = (
        "import sys; from pathlib import Path\n"
        "from smartsim_bridge.shims.folder import make_folder\n"
        "make_folder(Path(sys.argv[1]), ['sbatch', 'srun', 'squeue'], sys.executable)"
    )
    line = 'mount -t tmpfs -o "$1,mode=700" none "$2" && exec "$3" -c "$4" "$2"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", line, "sh", options, str(tmp_path), sys.executable, code],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert re.search(f"ShimsUnavailable: .*{what}", done.stderr), done.stderr


def test_no_umask_lets_others_write_above_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        folder = make_folder(tmp_path / "state" / "bridge" / "shims", ["squeue"], sys.executable)
    finally:
        os.umask(before)
    above = [one for one in folder.parents if one.is_relative_to(tmp_path) and one != tmp_path]
    assert [oct(one.stat().st_mode & 0o777) for one in above] == ["0o700"] * 3


def test_a_directory_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    """Whoever may rename the folder may put another in its place."""
    tmp_path.chmod(0o770)
    with pytest.raises(ShimsUnavailable, match="belongs to you alone"):
        make_folder(tmp_path, COMMANDS, sys.executable)


def test_each_name_of_a_directory_has_a_folder_of_its_own(made: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(made.parent)
    again = make_folder(tmp_path / "link", COMMANDS, sys.executable)

    assert again.parent == tmp_path / "link"
    assert again.name != made.name


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o1777])
def test_a_folder_that_others_may_write_to_is_refused(made: Path, mode: int) -> None:
    made.chmod(mode)
    with pytest.raises(ShimsUnavailable, match="belongs to you alone"):
        make_folder(made.parent, COMMANDS, sys.executable)


def test_a_link_to_elsewhere_is_refused(made: Path, tmp_path: Path) -> None:
    made.rename(tmp_path / "elsewhere")
    made.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ShimsUnavailable, match="belongs to you alone"):
        make_folder(made.parent, COMMANDS, sys.executable)


def test_a_file_in_the_way_is_told(tmp_path: Path) -> None:
    (tmp_path / "shims").touch()
    with pytest.raises(ShimsUnavailable, match=r"Cannot make the shims in .*: File exists"):
        make_folder(tmp_path / "shims", COMMANDS, sys.executable)


@pytest.mark.root
def test_a_folder_of_somebody_elses_is_refused(made: Path, other_user: User) -> None:
    other_user.own(made)
    with pytest.raises(ShimsUnavailable, match="belongs to you alone"):
        make_folder(made.parent, COMMANDS, sys.executable)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/sbatch", ".smartsim-bridge", "-x", "a b",
                                  "a\nb", "stand_in.py", "ü"])  # fmt: skip
def test_what_is_no_name_of_a_command_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidSettings):
        make_folder(tmp_path, ["sbatch", name], sys.executable)
    assert os.listdir(tmp_path) == []


def test_an_interpreter_has_an_absolute_path(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="python3"):
        make_folder(tmp_path, COMMANDS, "python3")


def test_functions_of_the_shell_in_the_environment_are_handed_on(
    made: Path, tmp_path: Path
) -> None:
    """What many sites export, and dash drops."""
    real = tmp_path / "bin" / "sbatch"
    real.parent.mkdir()
    real.symlink_to("/usr/bin/env")
    function = {"BASH_FUNC_module%%": "() {  echo loaded\n}"}
    (tmp_path / "rc").write_text("echo read this; exit 3")
    done = subprocess.run(
        [made / "sbatch"],
        env={"PATH": f"{made}:{real.parent}", "BASH_ENV": str(tmp_path / "rc"), **function},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
    )
    assert "BASH_FUNC_module%%=() {  echo loaded\n}\n" in done.stdout
    assert "read this" not in done.stdout


# --- a place of the user's choice


def test_a_chosen_folder_has_exactly_the_commands_asked_for(tmp_path: Path) -> None:
    place = tmp_path / "bin"
    fill_folder(place, ["sbatch", "squeue"], sys.executable)
    fill_folder(place, ["sbatch", "sinfo"], sys.executable, agent=["/x"], agent_socket="/s")

    assert shims_in(place) == ["sbatch", "sinfo"]
    assert "/x </dev/null" in (place / "sbatch").read_text()


def test_what_the_user_put_there_stays(tmp_path: Path) -> None:
    place = tmp_path / "bin"
    fill_folder(place, ["sbatch", "squeue"], sys.executable)
    (place / "mine").write_text("#!/bin/sh\n")
    (place / "tree").mkdir()
    fill_folder(place, ["squeue"], sys.executable)

    assert shims_in(place) == ["squeue"]
    assert {"mine", "tree"} <= set(os.listdir(place))


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "sbatch").write_text("mine")
    with pytest.raises(ShimsUnavailable, match="holds what is no shim"):
        fill_folder(tmp_path, COMMANDS, sys.executable)
    assert os.listdir(tmp_path) == ["sbatch"]
    assert shims_in(tmp_path) == []
