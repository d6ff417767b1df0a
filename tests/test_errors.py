from __future__ import annotations

import copy
import re

import pytest

from smartsim_bridge import errors
from smartsim_bridge.errors import (
    BootstrapFailed,
    CommandServerError,
    HostKeyRefused,
    InvalidSettings,
    NoRungHeld,
)
from tests.support.footprint import apart

ALL = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, CommandServerError)
]


def drawn_tree() -> list[tuple[int, str]]:
    """(depth, name) of each line of the tree in the module's docstring."""
    found = re.findall(r"^    ([ |+\-]*)([A-Z]\w+)(?: |$)", errors.__doc__ or "", re.MULTILINE)
    return [(len(indent) // 4, name) for indent, name in found]


def real_tree(kind: type[Exception] = CommandServerError, depth: int = 0) -> list[tuple[int, str]]:
    tree = [(depth, kind.__name__)]
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            tree += real_tree(child, depth + 1)
    return tree


def filled(kind: type[CommandServerError]) -> CommandServerError:
    return kind("It broke", host="login1", step="probe", advice="Mend it.")


def same(error: CommandServerError) -> CommandServerError:
    return error


def raise_it(error: CommandServerError) -> None:
    raise error


def test_drawn_tree_is_the_real_one() -> None:
    assert drawn_tree() == real_tree()


def test_exports_are_complete() -> None:
    assert sorted(errors.__all__) == sorted(kind.__name__ for kind in ALL)


@pytest.mark.parametrize("kind", ALL)
def test_docstring_is_the_advice(kind: type[CommandServerError]) -> None:
    error = kind("It broke")
    assert error.advice == " ".join((kind.__doc__ or "").split())
    assert len(error.advice) > 30
    assert error.advice.endswith(".")
    assert str(error) == f"It broke. {error.advice}"


@pytest.mark.parametrize("kind", ALL)
def test_message_tells_what_where_and_what_to_try(kind: type[CommandServerError]) -> None:
    error = filled(kind)
    assert str(error) == "It broke [host login1, step probe]. Mend it."
    assert (error.what, error.host, error.step) == ("It broke", "login1", "probe")


@pytest.mark.parametrize("kind", ALL)
def test_copy_keeps_everything(kind: type[CommandServerError]) -> None:
    error = filled(kind)
    copied = copy.copy(error)
    assert type(copied) is kind
    assert str(copied) == str(error)
    assert vars(copied) == vars(error)
    assert copied.args == error.args


def test_process_pool_carries_every_error() -> None:
    special = [
        HostKeyRefused("No", fingerprint="SHA256:abc", expected=("SHA256:def",)),
        BootstrapFailed("No", noise="command not found"),
        NoRungHeld("No", reasons=(("direct", "no port"),)),
    ]
    sent = [filled(kind) for kind in ALL] + special
    with apart(seconds=120) as pool:
        came = list(pool.map(same, sent))
        fault = pool.submit(raise_it, special[2]).exception()
    assert [(type(one), str(one), vars(one)) for one in came] == [
        (type(one), str(one), vars(one)) for one in sent
    ]
    assert str(fault) == str(special[2])


def test_noise_of_the_host_follows_the_advice() -> None:
    error = BootstrapFailed("No", noise="sh: python: not found")
    assert str(error).endswith("\nThe host said:\nsh: python: not found")


def test_each_rung_has_its_line() -> None:
    error = NoRungHeld("No way", reasons=(("direct", "no port"), ("tunnel", "forbidden")))
    assert str(error).splitlines()[1:] == ["  direct: no port", "  tunnel: forbidden"]


def test_invalid_settings_is_a_value_error() -> None:
    assert issubclass(InvalidSettings, ValueError)
