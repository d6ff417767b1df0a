"""The face in IPython: `%load_ext smartsim_bridge` brings %bridge, %head and %%head.

Works in a notebook and in a plain IPython terminal.  A face: what it does, anybody can do
with the public API.  Nothing here is loaded, nor IPython, before it is asked for.
"""

from __future__ import annotations

from typing import Any

__all__ = ["load_ipython_extension", "unload_ipython_extension"]


def load_ipython_extension(ipython: Any) -> None:
    """Called by `%load_ext smartsim_bridge`."""
    from .magics import BridgeMagics

    BridgeMagics(ipython).register()


def unload_ipython_extension(ipython: Any) -> None:
    """Called by `%unload_ext smartsim_bridge`; a bridge that is open stays so."""
    from .magics import forget

    forget(ipython)
