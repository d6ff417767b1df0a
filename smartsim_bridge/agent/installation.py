"""A folder of installed shims, and what is written down beside them.

What the agent needs to connect as the user wished when he installed them: his options, and
what his variables said then.  No secrets: those are asked for.  The configuration file is
read by each agent anew.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import platformdirs

import smartsim_bridge

from ..errors import AgentFailed
from ..protocol.environment import SHIM_MARKER
from ..shims.folder import fill_folder, shims_in
from .place import Place, place_of

__all__ = ["IDLE_SECONDS", "Installation", "default_folder", "python_words"]

IDLE_SECONDS = 1800.0  # without a shim: then the agent ends
_FILE = ".agent.json"  # no command's name: shims begin with a letter


@dataclass(frozen=True)
class Installation:
    """`wishes` are keywords of `init_command_server`."""

    folder: Path
    wishes: Mapping[str, Any] = field(default_factory=dict)
    idle: float = IDLE_SECONDS

    @classmethod
    def read(cls, folder: Path) -> Installation:
        """Raises AgentFailed where none is there."""
        try:
            said = json.loads((folder / _FILE).read_text("utf-8"))
            return cls(folder, dict(said["wishes"]), float(said["idle"]))
        except FileNotFoundError:
            what = f"No shims are installed in {folder}"
        except (OSError, ValueError, TypeError, KeyError) as broken:
            what = f"Cannot read {folder / _FILE}: {broken!r}"
        raise AgentFailed(what, step="shims", advice="Run `smartsim-bridge shims install`.")

    @property
    def place(self) -> Place:
        """Where its agent is, on this host."""
        return place_of(self.wishes)

    @property
    def target(self) -> str:
        """As the user spells it."""
        return str(self.wishes.get("addr") or "127.0.0.1")

    @property
    def commands(self) -> list[str]:
        """Those that have a shim."""
        return shims_in(self.folder)

    def write(self, commands: Iterable[str]) -> None:
        """Makes the folder, or makes it anew.  Raises ShimsUnavailable."""
        fill_folder(
            self.folder,
            commands,
            sys.executable,
            agent=python_words("starter", str(self.folder)),
            agent_socket=self.place.socket,
        )
        said = asdict(self)
        del said["folder"]
        fresh = self.folder / f"{_FILE}.{os.getpid()}"
        fresh.write_text(json.dumps(said, indent=2) + "\n", "utf-8")
        fresh.replace(self.folder / _FILE)

    def remove(self) -> None:
        """Its agent ends first, and leaves nothing on this host.  Raises AgentFailed."""
        self.place.end()
        shutil.rmtree(self.place.directory, ignore_errors=True)
        if (self.folder / SHIM_MARKER).exists():
            shutil.rmtree(self.folder)


def default_folder() -> Path:
    """Where shims are installed unless the user says where."""
    return platformdirs.user_data_path("smartsim-bridge") / "shims"


def python_words(module: str, *arguments: str) -> list[str]:
    """Runs `main` of a module of this room, with nothing of the caller's environment in it."""
    root = str(Path(smartsim_bridge.__file__).parents[1])
    code = (
        f"import sys; sys.path.append({root!r}); "
        f"from smartsim_bridge.agent.{module} import main; sys.exit(main())"
    )
    return [sys.executable, "-I", "-c", code, *arguments]
