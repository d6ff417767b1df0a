"""Is this the host it says it is?  Decided before anything of ours is sent to it.

The verdicts are those of ssh with StrictHostKeyChecking=yes, or accept-new; a test compares
them.  No configuration makes them laxer: of StrictHostKeyChecking only `yes` is heard, which
forbids the question.  One verdict surprises: a key of a type that known_hosts does not have,
where it has others for the host, counts as changed.  We ask the host for the types that we
know first, so a host that cannot show one of them is not the one we knew.  Certificates of
hosts are not understood, and lines of authorities are passed over; see `suitability`.

Knows keys only as name and bytes, so that it can be tested without a connection.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ..errors import (
    CommandServerError,
    HostKeyChanged,
    HostKeyRefused,
    HostKeyRevoked,
    HostKeyUnknown,
    InvalidSettings,
)
from .ask import Ask
from .known_hosts import KnownKey, fingerprint, new_line, read_known_keys
from .target import SSH_PORT, Target

__all__ = ["POLICIES", "HostKey", "algorithms_in_order", "verify"]

POLICIES = ("strict", "accept-new")


class HostKey(Protocol):
    """What a key must be able to tell; paramiko's can."""

    def get_name(self) -> str:
        """The type, as in known_hosts."""

    def asbytes(self) -> bytes:
        """The public key, as in known_hosts before base64."""


@dataclass(frozen=True)
class _Shown:
    """The key that the host showed."""

    key_type: str
    blob: bytes

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.blob)


def algorithms_in_order(target: Target, offered: Sequence[str]) -> tuple[str, ...]:
    """`offered` with those first for which we know a key of the host.

    The host shows the first key that we ask for.  One that has several would otherwise show
    the one we do not know, and look changed.  As ssh, the order stays as it is where the first
    is known already, and where ssh_config sets it.
    """
    wanted = dict(target.algorithms).get("HostKeyAlgorithms", "+")
    known = {key.key_type for key in _keys_of(target) if not key.marker}
    if wanted[0] not in "+-" or _key_type(offered[0]) in known:
        return tuple(offered)
    return tuple(sorted(offered, key=lambda name: _key_type(name) not in known))


def verify(target: Target, key: HostKey, policy: str, ask: Ask | None) -> str:
    """Returns the fingerprint of a key that we know, or accept now; raises HostKeyRefused.

    An unknown key under "strict" is put before the person behind `ask`; only `yes` accepts.
    An accepted key is appended to the first of the user's known_hosts files.
    """
    if policy not in POLICIES:
        raise InvalidSettings(f"host_keys={policy!r} is not one of {', '.join(POLICIES)}")
    shown = _Shown(key.get_name(), key.asbytes())
    matching = _keys_of(target)
    _refuse_revoked(target, shown, matching)
    known = [line for line in matching if not line.marker]
    if any(line.blob == shown.blob for line in known):
        return shown.fingerprint
    if not known and _is_known_without_port(target, shown):
        return shown.fingerprint
    if known:
        raise _changed(target, shown, known)
    has_authority = any(line.marker == "@cert-authority" for line in matching)
    if policy == "strict":
        _ask_about(target, shown, ask if target.may_ask_about_key else None, has_authority)
    _append(target, shown)
    return shown.fingerprint


def _keys_of(target: Target) -> list[KnownKey]:
    return read_known_keys(target.host_key_name, target.known_hosts)


def _key_type(algorithm: str) -> str:
    # One RSA key serves several signature algorithms.
    return "ssh-rsa" if algorithm.startswith("rsa-sha2-") else algorithm


def _is_known_without_port(target: Target, shown: _Shown) -> bool:
    """As ssh: an entry without a port vouches for other ports, if the key is the same."""
    if target.port == SSH_PORT or target.host_key_name != f"[{target.hostname}]:{target.port}":
        return False
    lines = read_known_keys(target.hostname, target.known_hosts)
    _refuse_revoked(target, shown, lines)
    return any(line.blob == shown.blob and not line.marker for line in lines)


def _refuse_revoked(target: Target, shown: _Shown, lines: Sequence[KnownKey]) -> None:
    for line in lines:
        if line.marker == "@revoked" and line.blob == shown.blob:
            raise HostKeyRevoked(
                f"the host showed the key {shown.fingerprint}, which {line.place} revokes",
                host=target.destination,
                step="host key",
                fingerprint=shown.fingerprint,
            )


def _changed(target: Target, shown: _Shown, known: Sequence[KnownKey]) -> HostKeyChanged:
    same_type = [line for line in known if line.key_type == shown.key_type]
    expected = "; ".join(
        f"{line.key_type} {fingerprint(line.blob)} at {line.place}" for line in same_type or known
    )
    how = "another key" if same_type else "a key of a type that is not known for it"
    return HostKeyChanged(
        f"the host showed {how}, {shown.key_type} {shown.fingerprint}; expected was {expected}",
        host=target.destination,
        step="host key",
        fingerprint=shown.fingerprint,
        expected=tuple(fingerprint(line.blob) for line in known),
    )


def _ask_about(target: Target, shown: _Shown, ask: Ask | None, has_authority: bool) -> None:
    prompt = (
        f"The authenticity of host '{target.host_key_name}' can't be established.\n"
        f"{shown.key_type} key fingerprint is {shown.fingerprint}.\n"
        "Continue connecting (yes/no)? "
    )
    unknown = HostKeyUnknown(
        f"the host key {shown.key_type} {shown.fingerprint} is not in known_hosts"
        + (", which has a certificate authority for this host instead" if has_authority else ""),
        host=target.destination,
        step="host key",
        fingerprint=shown.fingerprint,
        advice=_AUTHORITY_ADVICE if has_authority else None,
    )
    if ask is None:
        raise unknown
    try:
        answer = ask(prompt, False)
    except (CommandServerError, EOFError, OSError) as error:
        raise unknown from error
    if answer.strip().lower() != "yes":
        raise unknown


_AUTHORITY_ADVICE = (
    'paramiko does not understand host certificates: take ssh="openssh" where ssh is installed, '
    "or compare the fingerprint with the one the site publishes, then pass "
    'host_keys="accept-new".'
)


def _append(target: Target, shown: _Shown) -> None:
    """Adds one line, and never touches what stands there: other tools own it as well."""
    path = target.new_keys_file
    if path is None:
        return  # UserKnownHostsFile none: the person wants nothing written down
    line = new_line(
        target.host_key_name, shown.key_type, shown.blob, hashes_name=target.hashes_names
    )
    try:
        os.makedirs(os.path.dirname(path) or ".", mode=0o700, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        with io.FileIO(descriptor, "r+b") as file:
            size = file.seek(0, os.SEEK_END)
            if size:
                file.seek(size - 1)
                # In one write with the line, so that two writers cannot mix.
                line = line if file.read(1) == b"\n" else "\n" + line
            _write_all(file, line.encode(), size)
    except OSError as error:
        raise HostKeyRefused(
            f"the accepted key could not be written to {path}: {error.strerror}",
            host=target.destination,
            step="host key",
            advice="Check owner and permissions of the file, and the room on its disk.",
            fingerprint=shown.fingerprint,
        ) from error


def _write_all(file: io.FileIO, line: bytes, size: int) -> None:
    """All of it or nothing: a part of a key would count as another key of the host."""
    if file.write(line) != len(line):  # the disk is full, or a quota
        file.truncate(size)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
