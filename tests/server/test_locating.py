"""What a server says of programs and files, without running anything."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from smartsim_bridge.links.memory_link import memory_links
from smartsim_bridge.protocol.environment import SHIM_MARKER
from smartsim_bridge.protocol.messages import Locate, Located, Pong
from smartsim_bridge.server.locating import locate
from smartsim_bridge.server.sessions import MAX_LOCATING, Session
from tests.support.loops import run


@pytest.fixture
def places(tmp_path: Path) -> list[str]:
    """A folder of shims, a directory of programs, and one more that is behind it."""
    found = [tmp_path / name for name in ("shims", "two words", "last")]
    for place in found:
        place.mkdir()
        for name in ("squeue", "sbatch"):
            (place / name).write_text("#!/bin/sh\n", "ascii")
            (place / name).chmod(0o755)
    (found[0] / SHIM_MARKER).touch()
    return [str(place) for place in found]


def environment(places: list[str]) -> dict[str, str]:
    return {"PATH": os.pathsep.join(places)}


def test_programs_are_those_that_commands_find_less_what_is_a_shim(places: list[str]) -> None:
    _, real, last = places
    (Path(real) / "sacct").mkdir()
    (Path(real) / "srun").touch(mode=0o644)
    (Path(last) / "srun").symlink_to("squeue")
    names = ("squeue", "srun", "sacct", "cd", "", "../last/squeue", "a\0b")
    found = locate(Locate(7, names), environment(places))
    assert found.request == 7
    assert found.programs == {"squeue": f"{real}/squeue", "srun": f"{last}/srun"}
    assert found.path == f"{real}:{last}"
    assert not found.shared


@pytest.mark.parametrize("path", ["", ".", "bin"])
def test_a_directory_that_depends_on_where_one_is_does_not_count(
    path: str, places: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(places[1])
    os.symlink(".", "bin")
    assert locate(Locate(1, ("squeue",)), {"PATH": path}).programs == {}


def test_what_may_not_be_run_is_not_there(places: list[str]) -> None:
    found = locate(Locate(1, ("squeue", "sbatch")), environment(places), ("sbatch",))
    assert list(found.programs) == ["sbatch"]


def test_of_an_sacct_it_says_where_there_is_no_accounting(places: list[str]) -> None:
    sacct, conf = Path(places[2]) / "sacct", Path(places[2]) / "slurm.conf"
    sacct.write_text("#!/bin/sh\n", "ascii")
    conf.write_text("ClusterName=c\n", "ascii")
    there = {**environment(places), "SLURM_CONF": str(conf)}
    asked = Locate(1, ("squeue", "sacct"))
    assert locate(asked, there).no_accounting == ""  # nobody can run it
    sacct.chmod(0o755)
    assert locate(asked, there).no_accounting == str(conf)
    assert locate(asked, there, ("squeue",)).no_accounting == ""
    assert locate(Locate(1, ("squeue",)), there).no_accounting == ""


def test_a_file_is_shared_that_holds_the_same(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_bytes(b"0123\n")

    def shared(payload: bytes, path: str = str(file)) -> bool:
        return locate(Locate(1, (), path, payload), {}).shared

    assert shared(b"0123\n")
    for other in (b"", b"0123", b"0123\n\n", b"0124\n"):
        assert not shared(other)
    os.mkfifo(tmp_path / "pipe")
    for path in ("", "a\0b", f"{file}.gone", str(tmp_path), str(tmp_path / "pipe")):
        assert not shared(b"", path)


class _Register:
    def meet(self, session: str) -> None:
        pass


def test_one_question_is_looked_into_at_a_time_and_few_wait() -> None:
    looking: list[tuple[Locate, Callable[[Located], None]]] = []

    async def ask() -> None:
        near, far = memory_links()
        session = Session(
            "5" * 32,
            far,
            cast(Any, _Register()),
            on_inquiry=lambda asked: Pong(0),
            on_stop=lambda asked: None,
            on_locate=lambda asked, tell: looking.append((asked, tell)),
        )
        for number in range(MAX_LOCATING + 3):
            session.handle(Locate(number))
            assert len(looking) == 1
        for number in range(MAX_LOCATING):
            asked, tell = looking.pop()
            tell(Located(asked.request))
            assert await near.receive() == Located(number)
        assert not looking

    run(ask())
