"""The server's log as it lies on the head, over SSH or right here.  Blocking; used by cli."""

from __future__ import annotations

from contextlib import ExitStack

from ..bootstrap.host import Host
from ..bootstrap.logs import read_log
from ..bootstrap.shell import Shell
from ..deadline import Deadline
from ..settings import Settings
from ..stages import Journey
from .place import Place
from .reach import open_connection, this_host

__all__ = ["head_log"]


def head_log(settings: Settings, lines: int) -> str:
    """Its last `lines` lines.  Raises NoServer where there is none, and what SSH raises."""
    place, deadline = Place.of(settings), Deadline(settings.timeout)
    journey = Journey(place.host, settings.on_stage)
    with ExitStack() as beneath:
        if place.needs_ssh:
            connection = open_connection(settings, deadline, journey)
            beneath.callback(connection.close)
            host: Host = connection
        else:
            host = this_host(settings)
        shell = beneath.enter_context(Shell(host, deadline=deadline))
        return read_log(
            shell,
            names=host.target.names,
            lines=lines,
            state_dir=settings.state_dir,
            journey=journey,
        )
