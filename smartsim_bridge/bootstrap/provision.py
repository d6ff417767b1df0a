"""Puts a pyzmq beside the far half, for a head whose Python has none.

The head needs no internet: the wheel is fetched here and travels as the far half does.  The
far half itself takes it there (`server/site.py`): it is on the head by then, knows a safe
directory, and can try what it has unpacked just as it is going to use it.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..deadline import Deadline
from ..errors import ProvisionFailed
from ..stages import Journey
from .plan import Provide
from .script import printing, words
from .shell import Shell
from .upload import stored_path
from .wheel_tags import Tags, tags_for
from .wheels import Wheel, fetch

__all__ = ["Provision", "provide"]


@dataclass(frozen=True)
class Provision:
    """That a Python without pyzmq is to get one.

    cache     the directory here for what was fetched
    is_vital  whether a server without it would be of no use
    """

    cache: str
    is_vital: bool = False


def provide(
    shell: Shell,
    step: Provide,
    far_half: str,
    *,
    cache: str,
    deadline: Deadline,
    journey: Journey,
) -> str:
    """The directory on the host that pyzmq can be imported from now.

    `far_half` is its path there, `cache` the directory here for what is fetched.  Raises
    ProvisionFailed; nothing that does not work is left behind.
    """
    with journey.stage("provision") as note:
        try:
            wheel = fetch(_tags(step), cache, deadline=deadline)
            site = _send(shell, step, far_half, wheel)
        except ProvisionFailed as failed:
            failed.host, note.detail = shell.host, failed.what
            raise
        note.detail = f"{len(wheel.content) / 1000:.0f} kB, {wheel.name}, to {site}"
    return site


def _tags(step: Provide) -> Tags:
    try:
        return tags_for(step.python.build)
    except ValueError as why:
        raise ProvisionFailed(
            f"No wheel of pyzmq fits {step.python.path} there: {why}", step="provision"
        ) from None


def _send(shell: Shell, step: Provide, far_half: str, wheel: Wheel) -> str:
    command = [
        *(step.python.path, far_half, "unpack", "--nonce", shell.nonce),
        *("--name", wheel.folder, "--size", str(len(wheel.content)), "--digest", wheel.digest),
        *step.directories,
    ]
    body = f"{printing(wheel.content, 'send')}take() {{\n    send | {words(command)}\n}}\n"
    answer = shell.ask(body, "take", step="provision", failure=ProvisionFailed)
    return stored_path(answer, shell, "pyzmq", step="provision", failure=ProvisionFailed)
