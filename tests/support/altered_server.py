"""Servers of this host that are another version, or have another limit, than ours.

alter_server(monkeypatch, tmp_path, "from smartsim_bridge.server import spool",
             "spool.STREAM_QUOTA = 1024")
server = make_local_server()        runs with these lines executed first
"""

from __future__ import annotations

from pathlib import Path

import pytest

from . import local_server

__all__ = ["alter_server"]


def alter_server(monkeypatch: pytest.MonkeyPatch, directory: Path, *lines: str) -> None:
    """Every LocalServer that is made from now on runs these lines of Python first.

    In a script beside the usual one; `directory` is where it is written.
    """
    usual = local_server.SCRIPT
    script = directory / "altered_server.py"
    words = (
        "import runpy, sys",
        f"sys.path.insert(0, {str(usual.parents[1])!r})",
        *lines,
        f"runpy.run_path({str(usual)!r}, run_name='__main__')",
    )
    script.write_text("\n".join(words) + "\n", encoding="utf-8")
    monkeypatch.setattr(local_server, "SCRIPT", script)
