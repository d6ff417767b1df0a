"""paramiko, as this room takes it: without what is half of its import and of no use to us.

It loads `invoke` for `Match exec` of its own reader of ssh_config, and all of
`importlib.metadata` to tell its own version.  Here both wait until somebody uses them: whoever
else has one of the three in this process sees no difference.  Every module of this room takes
paramiko from here.
"""

from __future__ import annotations

import contextlib
import glob
import importlib
import os
import sys
import types
from collections.abc import Iterator

__all__ = ["paramiko"]


class _Later(types.ModuleType):
    """Stands for a module until something of it is wanted."""

    def __getattr__(self, name: str) -> object:
        _leave(self)
        return getattr(importlib.import_module(self.__name__), name)


class _Versions(_Later):
    """Stands for importlib.metadata, and knows a version by the name of a directory."""

    def version(self, name: str) -> str:
        """As importlib.metadata gives it."""
        for place in filter(None, sys.path):
            for found in glob.iglob(f"{glob.escape(place)}/{name}-*.dist-info"):
                return os.path.basename(found)[len(name) + 1 : -len(".dist-info")]
        return str(self.__getattr__("version")(name))  # type: ignore[operator]


def _leave(one: types.ModuleType) -> None:
    if sys.modules.get(one.__name__) is one:
        del sys.modules[one.__name__]


@contextlib.contextmanager
def _in_place(*modules: types.ModuleType) -> Iterator[None]:
    for one in modules:
        sys.modules.setdefault(one.__name__, one)
    try:
        yield
    finally:
        for one in modules:
            _leave(one)


with _in_place(_Later("invoke"), _Versions("importlib.metadata")):
    import paramiko
