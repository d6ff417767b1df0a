"""The PATH of this server's commands: without folders of shims, which would lead back here.

A home that login nodes share with the rest brings such folders into the PATH that a login
finds.  They are told by a file in them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from ..protocol.environment import SHIM_MARKER

__all__ = ["path_without_shims", "without_shims"]


def without_shims(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment with such folders taken off its PATH."""
    path = environment.get("PATH")
    return {**environment, "PATH": path_without_shims(path)} if path else dict(environment)


def path_without_shims(path: str) -> str:
    """The PATH less such folders."""
    kept = (one for one in path.split(":") if not os.path.exists(os.path.join(one, SHIM_MARKER)))
    return ":".join(kept)
