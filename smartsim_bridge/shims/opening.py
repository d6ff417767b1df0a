"""Opens the shims of one bridge, and closes them with it.

In this order: what has the head, the folder with a shim for each of that, the socket where
they are served, this process's PATH.  Blocking, and called by whoever holds the bridge.
"""

from __future__ import annotations

import functools
import logging
import os
import subprocess
import sys
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ..client.blocking import Bridge
from ..client.status import BridgeStatus
from ..errors import CommandServerError
from ..protocol.environment import SHIM_MARKER, left_behind
from ..settings import Settings
from ..ssh.socket_directory import socket_directory
from ..stages import Journey
from .families import SCHEDULER_COMMANDS
from .folder import make_folder, make_private
from .reception import Reception
from .search_path import Entry, enter
from .survey import QUESTIONER, Survey, question, read_answer

__all__ = ["Shims", "ask_head", "open_shims", "shim_folders"]

ASK_SECONDS = 15.0  # for the head to say what it has

WANT_ACCOUNTING = "Programs that follow their jobs by it, as SmartSim does, need slurmdbd there."

log = logging.getLogger("smartsim_bridge.shims")


class Shims:
    """What a bridge has put on this process's PATH; a client.blocking.Companion."""

    def __init__(self, bridge: Bridge, journey: Journey) -> None:
        self._bridge = bridge
        self._journey = journey
        self._survey = Survey()
        self._entry: Entry | None = None
        self._reception: Reception | None = None
        self._notices: list[str] = []
        self._has_told_of_accounting = False

    def open(self, settings: Settings) -> None:
        """Asks the head, and makes what it takes; raises CommandServerError or OSError."""
        self._survey = ask_head(self._bridge, settings)
        if not self._survey.programs:
            return
        if self._survey.no_accounting:
            self._has_told_of_accounting = True
            self._notices.append(_no_accounting(self._bridge.core.host, self._survey))
        parent = Path(settings.state_directory) / "shims"
        folder = make_folder(parent, self._survey.programs, sys.executable)
        directory = socket_directory(settings.runtime_directory)
        reception = Reception(
            self._bridge.core,
            self._survey,
            directory,
            keep_env=settings.keep_env,
            patience=settings.reconnect,
            waits_for_user=True,
            is_ours=shim_folders(),
            on_failed_poll=self._note_failure,
        )
        self._bridge.portal.call(reception.open())
        self._reception = reception
        self._entry = enter(str(folder), reception.path)

    def detail(self, settings: Settings) -> str:
        """What came of it, for the stage."""
        count, files = len(self._survey.programs), self._survey.files_are_shared
        if not count:
            return "no scheduler's command on the head"
        stay = len(left_behind(settings.environment, settings.keep_env))
        said = f"{count} commands, files {'shared' if files else 'not shared'}"
        return said + (f", {stay} variables of the enclosing job stay here" if stay else "")

    def failed(self, fault: Exception) -> None:
        """There are none."""
        self._survey = Survey()
        self._notices.append(f"no shims of the head's commands on PATH: {fault}")
        log.warning("%s", self._notices[-1])

    def part(self) -> None:
        """Takes the folder off PATH; what shims have running goes on without them."""
        if self._entry is not None:
            self._entry.leave()
        if self._reception is not None:
            with suppress(RuntimeError):
                self._bridge.portal.call(self._reception.part())

    def close(self) -> None:
        """Takes the folder off PATH, and tells the shims that still wait."""
        if self._entry is not None:
            self._entry.leave()
        if self._reception is not None and self._bridge.portal.is_ours:
            with suppress(RuntimeError):  # the loop has ended before us
                self._bridge.portal.call(self._reception.close())

    def describe(self, status: BridgeStatus) -> BridgeStatus:
        """What `status` says of them."""
        names = tuple(sorted(self._survey.programs))
        return replace(
            status,
            shims=names,
            stages=(*status.stages, *self._journey.stages),
            notices=(*status.notices, *self._notices),
        )

    def _note_failure(self, program: str, said: bytes) -> None:
        """Tells of a Slurm that does not say what became of jobs, as SmartSim and others ask."""
        if program == "sacct" and not self._has_told_of_accounting:
            self._has_told_of_accounting = True
            last = said.decode("utf-8", "replace").strip().rpartition("\n")[2] or "no word why"
            self._notices.append(f"sacct failed on {self._bridge.core.host}: {last}")
            log.warning("%s.  %s", self._notices[-1], WANT_ACCOUNTING)


def open_shims(bridge: Bridge, settings: Settings) -> None:
    """Gives the bridge its shims, where its head has anything to stand in for.

    Where that fails the bridge is as good as it was, so it is only said: as a stage that
    failed, in the log, and by `Bridge.status`.
    """
    if os.name != "posix":
        return
    journey = Journey(bridge.core.host, settings.on_stage)
    shims = Shims(bridge, journey)
    bridge.accompany(shims)
    try:
        with journey.stage("shims") as note:
            shims.open(settings)
            note.detail = shims.detail(settings)
    except (CommandServerError, OSError, subprocess.TimeoutExpired) as fault:
        shims.failed(fault)


def ask_head(bridge: Bridge, settings: Settings) -> Survey:
    """What the head has of what shims stand in for; the log is told of what it lacks.

    Raises CommandServerError or OSError.
    """
    survey = _ask(bridge, settings)
    if survey.no_accounting:
        log.warning("%s.  %s", _no_accounting(bridge.core.host, survey), WANT_ACCOUNTING)
    return survey


def _ask(bridge: Bridge, settings: Settings) -> Survey:
    token, parent = uuid.uuid4().hex, Path(settings.state_directory) / "shims"
    make_private(parent)
    file = parent / f".token-{token}"
    content = f"{token}\n".encode("ascii")
    file.write_bytes(content)
    try:
        asking = bridge.core.locate(
            SCHEDULER_COMMANDS, file=str(file), content=content, timeout=ASK_SECONDS
        )
        found = bridge.portal.call(asking)
        if found is not None:
            return Survey(found.programs, found.path, found.shared, found.no_accounting)
        asked = question(SCHEDULER_COMMANDS, str(file), SHIM_MARKER)
        answer = bridge.run(QUESTIONER, input=asked, timeout=ASK_SECONDS).stdout
        return read_answer(answer, token)
    finally:
        file.unlink(missing_ok=True)


def _no_accounting(host: str, survey: Survey) -> str:
    return f"sacct on {host} knows of no job: {survey.no_accounting} asks for no accounting"


def shim_folders() -> Callable[[str], bool]:
    """Tells whether a directory of this host is a folder of shims, and remembers it."""
    return functools.lru_cache(maxsize=1024)(_holds_shims)


def _holds_shims(directory: str) -> bool:
    return os.path.exists(os.path.join(directory, SHIM_MARKER))
