"""The oldest Python that a head may have, without pyzmq; and a user who can run it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from .head_python import HeadPython, find_python
from .users import User, us

__all__ = ["Python39", "python39"]


@dataclass(frozen=True)
class Python39:
    python: HeadPython
    user: User


@pytest.fixture(scope="session")
def python39(head_user: User) -> Python39:
    """Of the head user, else of whoever runs the tests: then that one is the head user."""
    for user in (head_user, us()):
        found = find_python(user, (3, 9))
        if found is not None:
            return Python39(found, user)
    pytest.skip("no Python 3.9 here")
