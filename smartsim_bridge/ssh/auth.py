"""Logging in: each way that the host offers, in ssh's order, and each only once.

First nothing at all, to hear what the host wants; then keys, keyboard-interactive and the
password.  A host may want several in a row.  An answer that a person gave and the host
refused ends the login: asking again would lock accounts behind the user's back.
"""

from __future__ import annotations

from collections.abc import Callable

import paramiko

from ..deadline import Deadline
from ..errors import AuthenticationFailed, AuthenticationRequired, LoginFailed, SshFailed
from .ask import Ask, printable
from .dialogue import ANSWER_SECONDS, Dialogue, HostSilent, Questions
from .key_query import is_acceptable
from .keys import Candidate, KeyUnusable, PassphraseNeeded, candidates
from .target import Target

__all__ = ["authenticate"]

# Sites want two or three.  A host that says "and now once more" for ever would have a person
# type every password they know.
MAX_STEPS = 5


def authenticate(
    transport: paramiko.Transport, target: Target, ask: Ask | None, deadline: Deadline
) -> str:
    """Logs in over a transport whose host key was verified; returns how it was done.

    Raises AuthenticationFailed when the host refused all we have, AuthenticationRequired when
    a person is needed and there is none, SshFailed when the connection broke.  The transport
    is not closed here, except in the middle of a dialogue.
    """
    return _Login(transport, target, ask, deadline).run()


class _Login:
    """One login: which ways succeeded, and why the others did not."""

    def __init__(
        self, transport: paramiko.Transport, target: Target, ask: Ask | None, deadline: Deadline
    ) -> None:
        self._transport = transport
        self._target = target
        self._ask = ask
        self._deadline = deadline
        self._allowed: list[str] = []
        self._succeeded: list[str] = []
        self._refused: list[str] = []
        self._nobody_asked: list[str] = []
        self._was_asked = False

    def run(self) -> str:
        self._try("none", lambda: self._transport.auth_none(self._target.user))
        while not self._transport.is_authenticated():
            if len(self._succeeded) >= MAX_STEPS or not self._take_a_step():
                raise self._failure()
        return ", ".join(self._succeeded)

    def _take_a_step(self) -> bool:
        """Tries the ways that are allowed now, until one brings us forward."""
        ways: dict[str, Callable[[], bool]] = {
            "publickey": self._try_keys,
            "keyboard-interactive": self._try_dialogue,
            "password": self._try_password,
        }
        return any(method in self._allowed and ways[method]() for method in self._target.methods)

    def _try(self, label: str, attempt: Callable[[], list[str]]) -> bool:
        """Makes one attempt.  True when it brought us forward, and then `_allowed` is new."""
        # A person may have used up the time; the host still gets some to answer.
        self._transport.auth_timeout = max(self._deadline.left, ANSWER_SECONDS)
        try:
            wanted = list(attempt())
        except paramiko.BadAuthenticationType as error:
            self._allowed = list(error.allowed_types)
            self._refused += [label] if label != "none" else []
        except paramiko.AuthenticationException as error:
            self._check_still_connected(error)
            self._refused.append(label)
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise self._broken(error) from error
        else:
            self._allowed = wanted
            self._succeeded.append(label)
            return True
        return False

    # --- keys -----------------------------------------------------------------------------

    def _try_keys(self) -> bool:
        with candidates(self._target) as keys:
            for candidate in keys:
                if "publickey" not in self._allowed:
                    return False
                if self._try_key(candidate):
                    return True
        return False

    def _try_key(self, candidate: Candidate) -> bool:
        label = f"publickey {candidate.label}"
        if candidate.is_locked and not self._is_wanted(candidate):
            self._refused.append(label)
            return False
        try:
            key = candidate.load(self._ask)
        except PassphraseNeeded as error:
            self._nobody_asked.append(str(error))
            return False
        except KeyUnusable as error:
            self._refused.append(f"publickey {error}")
            return False
        return self._try(label, lambda: self._transport.auth_publickey(self._target.user, key))

    def _is_wanted(self, candidate: Candidate) -> bool:
        """Whether to ask for a passphrase: not for a key that the host would refuse anyway."""
        if candidate.public is None:
            return True
        try:
            return is_acceptable(
                self._transport, self._target.user, candidate.public, self._deadline
            )
        except (paramiko.SSHException, EOFError, OSError) as error:
            self._check_still_connected(error)
            raise self._broken(error) from error

    # --- what a person answers ------------------------------------------------------------

    def _try_dialogue(self) -> bool:
        self._was_asked = False
        dialogue = Dialogue(self._transport, self._target.user, self._answer)
        try:
            is_forward = self._try("keyboard-interactive", lambda: dialogue.run(self._deadline))
        except HostSilent:
            raise self._broken(TimeoutError("it does not react to the answer")) from None
        if not is_forward and self._was_asked:
            raise self._failure()
        return is_forward

    def _answer(self, heading: str, questions: Questions) -> list[str]:
        answers: list[str] = []
        for text, is_shown in questions:
            prompt = f"{heading}\n" if heading and not answers else ""
            prompt += f"({self._target.user}@{self._target.alias}) {printable(text)}"
            answers.append(self._put(prompt, secret=not is_shown))
        return answers

    def _try_password(self) -> bool:
        user = self._target.user
        password = self._put(f"{user}@{self._target.alias}'s password: ", secret=True)
        if not self._try(
            "password", lambda: self._transport.auth_password(user, password, fallback=False)
        ):
            raise self._failure()
        return True

    def _put(self, prompt: str, *, secret: bool) -> str:
        if self._ask is None:
            self._nobody_asked.append(f"it asks {prompt.strip()!r}")
            raise self._failure()
        self._was_asked = True
        try:
            return self._ask(prompt, secret)
        except EOFError as error:
            raise AuthenticationRequired(
                f"nobody answered {prompt.strip()!r}",
                host=self._target.destination,
                step="authenticate",
            ) from error
        except AuthenticationRequired as error:
            error.host, error.step = self._target.destination, "authenticate"
            raise

    # --- what went wrong ------------------------------------------------------------------

    def _check_still_connected(self, error: Exception) -> None:
        # paramiko has no class of its own for a host that does not answer.
        if str(error) == "Authentication timeout.":
            raise self._broken(TimeoutError("the host does not answer")) from error
        if self._transport.is_active():
            return
        if not self._refused:
            raise self._broken(error) from error
        raise AuthenticationFailed(
            f"the host hung up after it refused {', '.join(self._refused)}",
            host=self._target.destination,
            step="authenticate",
            advice=(
                "Hosts take only a few keys: name the right one with identity=, and set "
                "IdentitiesOnly yes in ssh_config if ssh-agent holds many."
            ),
        ) from error

    def _broken(self, error: Exception) -> SshFailed:
        return SshFailed(
            f"the connection broke during the login: {str(error) or type(error).__name__}",
            host=self._target.destination,
            step="authenticate",
        )

    def _failure(self) -> LoginFailed:
        tried = ", ".join(self._refused) or "nothing"
        after = f" after {', '.join(self._succeeded)}" if self._succeeded else ""
        place = {"host": self._target.destination, "step": "authenticate"}
        if self._nobody_asked:
            needed = "; ".join(self._nobody_asked)
            return AuthenticationRequired(f"nobody is there to answer: {needed}", **place)
        return AuthenticationFailed(
            f"the host takes {', '.join(self._allowed) or 'nothing'}{after}; it refused {tried}",
            **place,
        )
