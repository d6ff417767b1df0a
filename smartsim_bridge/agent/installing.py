"""Makes a folder of shims for good: for what the head has, which must be reached for it."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..client.blocking import Bridge
from ..errors import AgentFailed
from ..settings import Settings
from ..shims.opening import ask_head
from ..stages import StageListener
from .installation import Installation

__all__ = ["install"]


def install(
    folder: Path,
    wishes: Mapping[str, Any],
    idle: float,
    *,
    on_stage: StageListener | None = None,
) -> Installation:
    """The shims that are there now; an agent of those that were there before has retired.

    Raises what `init_command_server` raises, AgentFailed where the head has no scheduler, and
    ShimsUnavailable.
    """
    settings = Settings.gather(**{**wishes, "autostart": True}, on_stage=on_stage)
    with Bridge.from_settings(settings) as bridge:
        head = bridge.status().server_host
        try:
            survey = ask_head(bridge, settings)
        except (OSError, subprocess.TimeoutExpired) as fault:
            what = f"The head does not tell which commands it has: {fault}"
            raise AgentFailed(what, host=head, step="shims") from None
    if not survey.programs:
        raise AgentFailed(
            "The head has no scheduler's command on its PATH",
            host=head,
            step="shims",
            advice="Name the head with --addr, or what brings them, --prelude 'module load slurm'.",
        )
    installation = Installation(folder, dict(wishes), idle)
    with contextlib.suppress(AgentFailed):  # there were none before
        Installation.read(folder).place.retire()
    installation.write(survey.programs)
    return installation
