"""Opens the shims of one bridge, and closes them with it.

In this order: what has the head, the folder with a shim for each of that, the socket where
they are served, this process's PATH.  Blocking, and called by whoever holds the bridge.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ..client.blocking import Bridge
from ..client.status import BridgeStatus
from ..errors import CommandServerError
from ..settings import Settings
from ..ssh.socket_directory import socket_directory
from .families import SCHEDULER_COMMANDS
from .folder import MARKER, make_folder
from .reception import Reception
from .search_path import Entry, enter
from .survey import Survey, question, read_answer

__all__ = ["Shims", "ask_head", "open_shims", "shim_folders"]

ASK_SECONDS = 15.0  # for the head to say what it has

log = logging.getLogger("smartsim_bridge.shims")


class Shims:
    """What a bridge has put on this process's PATH; a client.blocking.Companion."""

    def __init__(self, bridge: Bridge, survey: Survey) -> None:
        self._bridge = bridge
        self._survey = survey
        self._entry: Entry | None = None
        self._reception: Reception | None = None

    def open(self, settings: Settings) -> None:
        """Raises CommandServerError or OSError; then there is nothing to close."""
        parent = Path(settings.state_directory) / "shims"
        folder = make_folder(parent, self._survey.programs, sys.executable)
        directory = socket_directory(settings.runtime_directory)
        reception = Reception(
            self._bridge.core,
            self._survey,
            directory,
            keep_env=settings.keep_env,
            patience=settings.reconnect,
            is_ours=shim_folders(),
        )
        self._bridge.portal.call(reception.open())
        self._reception = reception
        self._entry = enter(str(folder), reception.path)

    def close(self) -> None:
        """Takes the folder off PATH, and tells the shims that still wait."""
        if self._entry is not None:
            self._entry.leave()
        if self._reception is not None and self._bridge.portal.is_ours:
            with suppress(RuntimeError):  # the loop has ended before us
                self._bridge.portal.call(self._reception.close())

    def describe(self, status: BridgeStatus) -> BridgeStatus:
        """What `status` says of them."""
        return replace(status, shims=tuple(sorted(self._survey.programs)))


def open_shims(bridge: Bridge, settings: Settings) -> None:
    """Gives the bridge its shims, where its head has anything to stand in for.

    Where that fails the bridge is as good as it was, so it is only said in the log.
    """
    try:
        survey = ask_head(bridge, settings)
        if survey.programs:
            shims = Shims(bridge, survey)
            shims.open(settings)
            bridge.accompany(shims)
    except (CommandServerError, OSError) as fault:
        log.warning("No stand-ins for the head's commands on PATH: %s", fault)


def ask_head(bridge: Bridge, settings: Settings) -> Survey:
    """What the head has of what shims stand in for.  Raises CommandServerError or OSError."""
    token, parent = uuid.uuid4().hex, Path(settings.state_directory) / "shims"
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = parent / f".token-{token}"
    file.write_text(f"{token}\n", "ascii")
    try:
        words = question(SCHEDULER_COMMANDS, str(file), MARKER)
        return read_answer(bridge.run(words, timeout=ASK_SECONDS).stdout, token)
    finally:
        file.unlink(missing_ok=True)


def shim_folders() -> Callable[[str], bool]:
    """Tells whether a directory of this host is a folder of shims, and remembers it."""
    return functools.lru_cache(maxsize=1024)(_holds_shims)


def _holds_shims(directory: str) -> bool:
    return os.path.exists(os.path.join(directory, MARKER))
