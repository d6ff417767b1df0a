"""One head for the tests that only run commands, over each way that SSH offers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from smartsim_bridge import Bridge
from tests.support.head_python import HeadPython
from tests.support.heads import Head, move_in
from tests.support.sshd import Sshd
from tests.support.users import User


@pytest.fixture(scope="module")
def busy_head(
    head_user: User,
    head_python: HeadPython,
    zmq_directory: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Head]:
    """A head with a server, for all tests of one file."""
    environment = {"PYTHONPATH": zmq_directory} if zmq_directory else {}
    with Sshd(head_user, environment=environment) as sshd:
        head = Head(sshd, head_python.path)
        try:
            with pytest.MonkeyPatch.context() as patch:
                move_in(patch, tmp_path_factory.mktemp("near"))
                head.init(autostart=True)
            yield head
        finally:
            head.close()


@pytest.fixture(scope="module", params=["tunnel", "stdio"])
def bridge(
    request: pytest.FixtureRequest, busy_head: Head, tmp_path_factory: pytest.TempPathFactory
) -> Bridge:
    with pytest.MonkeyPatch.context() as patch:
        move_in(patch, tmp_path_factory.mktemp("near"))
        return busy_head.init(transport=request.param)
