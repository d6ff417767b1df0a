from __future__ import annotations

import pytest

from smartsim_bridge.bootstrap.refusal import refusal
from smartsim_bridge.errors import CommandsForbidden, NoLoginShell, ProbeFailed


def judge(noise: str, status: int | None = 1, *, eaten: bool = False) -> ProbeFailed:
    return refusal(noise, status, host="login1", step="probe", eaten=eaten)


@pytest.mark.parametrize(
    ("noise", "status", "kind"),
    [
        ("This account is currently not available.", 1, NoLoginShell),
        ("-bash: /usr/sbin/nologin: nobody gets in", 1, NoLoginShell),
        ("", 1, NoLoginShell),
        ("", 0, ProbeFailed),
        ("", None, ProbeFailed),
        ("This service allows sftp connections only.", 1, CommandsForbidden),
        ("This service allows sftp connections only.", 0, CommandsForbidden),
        ("This account is restricted by rssh.", 1, CommandsForbidden),
        ("rbash: line 1: /bin/sh: restricted: cannot specify `/'", 1, CommandsForbidden),
        ("fatal: unrecognized command '/bin/sh'", 128, CommandsForbidden),
        ("command rejected", None, CommandsForbidden),
        ("Go to the portal", 3, CommandsForbidden),
        ("Go to the portal", 0, ProbeFailed),
        ("bash: module: command not found\nThis key may only copy", 1, CommandsForbidden),
        ("Authorized users only\n.bashrc: line 3: foo: command not found", 1, ProbeFailed),
        (".bashrc: line 3: foo: command not found", 127, ProbeFailed),
        ("bash: /bin/sh: Permission denied", 126, ProbeFailed),
        ("touch: cannot touch 'x': Read-only file system", 1, ProbeFailed),
        ("sh: fork: Resource temporarily unavailable", 254, ProbeFailed),
        ("Your password has expired.", 1, ProbeFailed),
        ("write: No space left on device", 1, ProbeFailed),
        ("fish: Unsupported use of '='.", 127, ProbeFailed),
        ("ssb_lines=.: Command not found.\nMissing '}'.", 1, ProbeFailed),
        ('  File "<stdin>", line 2\nSyntaxError: invalid syntax', 1, ProbeFailed),
    ],
)
def test_words_and_status_tell_what_it_was(
    noise: str, status: int | None, kind: type[ProbeFailed]
) -> None:
    fault = judge(noise, status)

    assert type(fault) is kind, str(fault)
    assert (fault.host, fault.step, fault.noise) == ("login1", "probe", noise)
    assert (
        status is None or f"with status {status}" in fault.what or "read our script" in fault.what
    )


def test_a_part_that_was_read_counts_more_than_words() -> None:
    fault = judge("Which project? Members only.", 0, eaten=True)

    assert type(fault) is ProbeFailed
    assert "read part of our script" in fault.what


@pytest.mark.parametrize(
    ("noise", "advice"),
    [
        ("Your password has expired.", "renew the password"),
        ("Disk quota exceeded", "quota"),
        (".bashrc: syntax error", "at a terminal"),
    ],
)
def test_a_fault_gets_its_own_advice(noise: str, advice: str) -> None:
    assert advice in judge(noise).advice
