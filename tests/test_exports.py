"""What the package's front door hands out, and what it does not drag in."""

from __future__ import annotations

import subprocess
import sys

import pytest

import smartsim_bridge

HEAVY = ("paramiko", "sshtunnel", "cryptography", "zmq", "asyncio", "IPython")


def loaded_after(statement: str) -> set[str]:
    """Top names of the modules that a fresh interpreter has loaded."""
    script = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    return set(done.stdout.split())


def test_importing_the_package_loads_nothing_heavy() -> None:
    before = loaded_after("pass")
    assert not (loaded_after("import smartsim_bridge") - before) & set(HEAVY)


def test_every_name_can_be_had() -> None:
    script = """
import smartsim_bridge
for name in smartsim_bridge.__all__:
    value = getattr(smartsim_bridge, name)
    assert value is getattr(smartsim_bridge, name)
"""
    loaded_after(script)


def test_star_import_gives_exactly_the_list() -> None:
    script = """
before = {*globals(), "before"}
from smartsim_bridge import *
import smartsim_bridge
assert {*globals()} - before - {"smartsim_bridge"} == {*smartsim_bridge.__all__}
"""
    loaded_after(script)


def test_list_is_sorted_and_shown() -> None:
    names = smartsim_bridge.__all__
    assert names == sorted(names)
    assert set(names) <= set(dir(smartsim_bridge))


def test_the_extension_is_found_without_what_it_extends() -> None:
    script = "import smartsim_bridge as bridge\nbridge.load_ipython_extension"
    assert not loaded_after(script) & {"IPython", "paramiko", "zmq", "asyncio"}


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = smartsim_bridge.nonsense


def test_server_loads_neither_paramiko_nor_the_near_half() -> None:
    script = """
import sys, smartsim_bridge.server.__main__
near = [n for n in sys.modules if n.startswith(("smartsim_bridge.client", "smartsim_bridge.ssh"))]
assert not near, near
"""
    assert not loaded_after(script) & {"paramiko", "sshtunnel", "cryptography", "platformdirs"}


def test_client_loads_no_paramiko_before_it_needs_ssh() -> None:
    script = "import smartsim_bridge\nsmartsim_bridge.init_command_server"
    assert not loaded_after(script) & {"paramiko", "sshtunnel", "cryptography"}
