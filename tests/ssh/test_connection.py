from __future__ import annotations

from smartsim_bridge.deadline import Deadline
from tests.support.fixtures import Connect
from tests.support.sshd import Sshd


def test_key_login_runs_a_command_as_the_user(sshd: Sshd, connect: Connect) -> None:
    done = connect(sshd.target()).execute("id -un; echo $HOME", deadline=Deadline(10))
    assert done.stdout.decode().split() == [sshd.user.name, str(sshd.home)]
    assert done.status == 0
