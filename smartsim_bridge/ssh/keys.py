"""The keys we can sign with: those of the agent and those in files, in ssh's order.

A file is opened only when its turn comes, and its passphrase is asked for only then, once
for all hosts on the way.
Knows the local machine; whether a key is of use is the host's word, see `auth`.
"""

from __future__ import annotations

import base64
import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass

from .ask import Ask
from .library import paramiko
from .target import Target

__all__ = [
    "Candidate",
    "KeyUnusable",
    "Opened",
    "PassphraseNeeded",
    "PassphraseWrong",
    "candidates",
    "public_blob",
]

# A private key is a few kilobytes; a larger file is something else.
MAX_KEY_FILE = 1 << 20

# An agent that waits for a person to unlock it should not hold the list of its keys.
AGENT_SECONDS = 5.0

# Keys that were unlocked for this connect, by path: a jump host and the host behind it often
# take the same one.  It must not outlive the connect, and holds no passphrase.
Opened = dict[str, paramiko.PKey]

_KEY_CLASSES = (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey)


class KeyUnusable(Exception):
    """This key cannot be loaded; the next one may."""


class PassphraseNeeded(KeyUnusable):
    """... because nobody is there to tell its passphrase."""


class PassphraseWrong(KeyUnusable):
    """... because what a person typed does not open it."""


@dataclass(frozen=True)
class Candidate:
    """A key that may be tried: how to call it, its public part where known, how to get it."""

    label: str
    public: bytes | None
    is_locked: bool
    load: Callable[[Ask | None], paramiko.PKey]


@contextmanager
def candidates(target: Target, opened: Opened) -> Iterator[Iterator[Candidate]]:
    """The keys to try, in order: agent keys that the config names, the agent's others (unless
    IdentitiesOnly), then files.  The agent stays connected inside the block."""
    agent = _open_agent(target.identity_agent)
    try:
        yield _in_order(target, agent.get_keys() if agent is not None else (), opened)
    finally:
        if agent is not None:
            _close_agent(agent)


def public_blob(path: str) -> bytes | None:
    """The public key of a private key file, without its passphrase, where that can be had."""
    return _from_pub_file(f"{path}.pub") or _from_openssh_file(path)


def _in_order(
    target: Target, held: tuple[paramiko.AgentKey, ...], opened: Opened
) -> Iterator[Candidate]:
    named = {blob for blob in map(public_blob, target.identities) if blob is not None}
    by_agent = {key.asbytes(): key for key in held}
    for blob, key in by_agent.items():
        if blob in named:
            yield _agent_candidate(key)
    for blob, key in by_agent.items():
        if blob not in named and not target.identities_only:
            yield _agent_candidate(key)
    for path in target.identities:
        if os.path.isfile(path) and public_blob(path) not in by_agent:
            yield from _file_candidates(path, opened)


def _agent_candidate(key: paramiko.AgentKey) -> Candidate:
    return Candidate(f"agent key {key.comment}".strip(), key.asbytes(), False, lambda _ask: key)


def _file_candidates(path: str, opened: Opened) -> Iterator[Candidate]:
    is_locked = path not in opened and _is_locked(path)

    def load(ask: Ask | None) -> paramiko.PKey:
        if path not in opened:
            opened[path] = _load(path, ask, is_locked)
        return opened[path]

    certificate = f"{path}-cert.pub"
    if os.path.isfile(certificate):
        yield Candidate(
            certificate,
            _from_pub_file(certificate),
            is_locked,
            lambda ask: _with_certificate(copy(load(ask)), certificate),
        )
    yield Candidate(path, public_blob(path), is_locked and path not in opened, load)


def _with_certificate(key: paramiko.PKey, certificate: str) -> paramiko.PKey:
    try:
        key.load_certificate(certificate)
    except (paramiko.SSHException, ValueError, OSError) as error:
        raise KeyUnusable(f"{certificate} is no certificate for it: {error}") from error
    return key


def _load(path: str, ask: Ask | None, is_locked: bool) -> paramiko.PKey:
    if not is_locked:
        return _read_private_key(path, None)
    if ask is None:
        raise PassphraseNeeded(f"{path} needs a passphrase")
    passphrase = ask(f"Enter passphrase for key '{path}': ", True)
    if not passphrase:
        raise KeyUnusable(f"no passphrase was given for {path}")
    try:
        return _read_private_key(path, passphrase)
    except KeyUnusable as error:
        raise PassphraseWrong(str(error)) from error


def _is_locked(path: str) -> bool:
    try:
        _read_private_key(path, None)
    except PassphraseNeeded:
        return True
    except KeyUnusable:
        return False
    return False


def _read_private_key(path: str, passphrase: str | None) -> paramiko.PKey:
    """Tries each kind of key.  Why the last one failed is what a person can act upon."""
    reason = "it is no private key"
    for kind in _KEY_CLASSES:
        try:
            return kind.from_private_key_file(path, password=passphrase)
        except paramiko.PasswordRequiredException:
            raise PassphraseNeeded(f"{path} needs a passphrase") from None
        except OSError as error:
            raise KeyUnusable(f"{path} cannot be read: {error.strerror}") from error
        # Each class tells another kind of key in its own way, from SSHException to IndexError.
        except Exception as error:  # noqa: BLE001
            reason = "wrong passphrase?" if passphrase else str(error) or reason
    raise KeyUnusable(f"{path} cannot be used: {reason}")


def _from_pub_file(path: str) -> bytes | None:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            words = file.readline(MAX_KEY_FILE).split()
        blob = base64.b64decode(words[1], validate=True) if len(words) > 1 else b""
    except (OSError, ValueError):
        return None
    # The host is asked about it: what is no key would end the connection.
    kind = words[0].encode("ascii", "replace") if words else b""
    return blob if blob.startswith(struct.pack(">I", len(kind)) + kind) and blob else None


def _from_openssh_file(path: str) -> bytes | None:
    """The format of ssh-keygen carries the public key in the clear before the locked part."""
    try:
        with open(path, "rb") as file:
            text = file.read(MAX_KEY_FILE)
        lines = text.split(b"-----BEGIN OPENSSH PRIVATE KEY-----")[1].split(b"-----END")[0]
        body = base64.b64decode(lines)
    except (OSError, IndexError, ValueError):
        return None
    magic = b"openssh-key-v1\0"
    if not body.startswith(magic):
        return None
    message = paramiko.Message(body[len(magic) :])
    for _cipher_or_kdf in range(3):
        message.get_binary()
    message.get_int()
    return message.get_binary() or None


def _open_agent(where: str | None) -> paramiko.agent.AgentSSH | None:
    if where == "none":
        return None
    try:
        if where is None:
            return paramiko.Agent()
        agent = paramiko.agent.AgentSSH()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(AGENT_SECONDS)
        connection.connect(where)
        agent._connect(connection)  # type: ignore[attr-defined]
    # A broken agent is as good as none: the files are still there.
    except (paramiko.SSHException, OSError, ValueError):
        return None
    return agent


def _close_agent(agent: paramiko.agent.AgentSSH) -> None:
    agent._close()  # type: ignore[attr-defined]
