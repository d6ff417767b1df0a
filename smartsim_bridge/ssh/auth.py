"""Logging in: each way that the host offers, in ssh's order, and each only once.

First nothing at all, to hear what the host wants; then keys, keyboard-interactive and the
password.  A host may want several in a row.  An answer that a person gave and the host
refused ends the login: asking again would lock accounts behind the user's back.  A login
that happens unasked (`ask.Unattended`) begins nothing that a person would have to finish.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ..deadline import Deadline
from ..errors import AuthenticationFailed, AuthenticationRequired, LoginFailed, SshFailed
from .ask import Ask, Unattended, printable
from .dialogue import ANSWER_SECONDS, Dialogue, HostSilent, Questions, TooManyRounds
from .engine import KERBEROS, KERBEROS_ADVICE
from .key_query import is_acceptable
from .keys import Candidate, KeyUnusable, Opened, PassphraseNeeded, PassphraseWrong, candidates
from .library import paramiko
from .target import Target
from .transport import BROKEN, farewell

__all__ = ["authenticate"]

# Sites want two or three.  A host that says "and now once more" for ever would have a person
# type every password they know.
MAX_STEPS = 5

# What a site says before the login may name the token that it wants; a novel would hide it.
MAX_BANNER = 2000


def authenticate(
    transport: paramiko.Transport,
    target: Target,
    ask: Ask | None,
    deadline: Deadline,
    opened: Opened | None = None,
) -> str:
    """Logs in over a transport whose host key was verified; returns how it was done.

    `opened` holds the keys that were unlocked on the way here, for a jump host; it gains those
    unlocked now.

    Raises AuthenticationFailed when the host refused all we have, AuthenticationRequired when
    a person is needed and there is none, SshFailed when the connection broke.  The transport
    is not closed here, except in the middle of a dialogue.
    """
    return _Login(transport, target, ask, deadline, {} if opened is None else opened).run()


class _Login:
    """One login: which ways succeeded, and why the others did not."""

    def __init__(
        self,
        transport: paramiko.Transport,
        target: Target,
        ask: Ask | None,
        deadline: Deadline,
        opened: Opened,
    ) -> None:
        self._transport = transport
        self._target = target
        self._unattended = ask if isinstance(ask, Unattended) else None
        self._ask = None if self._unattended else ask
        self._deadline = deadline
        self._opened = opened
        self._allowed: list[str] = []
        self._succeeded: list[str] = []
        self._refused: list[str] = []
        self._nobody_asked: list[str] = []
        self._preamble = ""  # the host's banner, until it was shown above a prompt
        self._was_asked = False
        self._unheard = ""  # how long a person took for what the host has not reacted to yet

    def run(self) -> str:
        try:
            return self._log_in()
        except LoginFailed as error:
            if KERBEROS in self._allowed:
                error.advice = f"{error.advice} {KERBEROS_ADVICE}"
            raise

    def _log_in(self) -> str:
        self._try("none", lambda: self._transport.auth_none(self._target.user))
        self._preamble = _text(self._transport.get_banner())
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
        if self._unattended is not None:
            # A dialogue may ring a phone before it asks anything.
            ways["keyboard-interactive"] = ways["password"] = self._leave_to_a_person
        return any(method in self._allowed and ways[method]() for method in self._target.methods)

    def _leave_to_a_person(self) -> bool:
        self._nobody_asked.append(f"the host takes {', '.join(self._allowed)}")
        raise self._failure()

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
        except BROKEN as error:
            if self._unheard and not self._transport.is_active():
                raise self._hung_up(error) from error
            raise self._broken(error) from error
        else:
            self._allowed = wanted
            self._succeeded.append(label)
            self._unheard = ""
            return True
        self._unheard = ""
        return False

    # --- keys -----------------------------------------------------------------------------

    def _try_keys(self) -> bool:
        with candidates(self._target, self._opened) as keys:
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
            key = candidate.load(self._put if self._ask is not None else None)
        except (PassphraseNeeded, AuthenticationRequired) as error:
            # Another key may need nobody.
            self._nobody_asked.append(str(getattr(error, "what", error)))
            return False
        except KeyUnusable as error:
            self._refused.append(f"publickey {error}")
            if isinstance(error, PassphraseWrong):
                raise self._refusal() from error
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
        except BROKEN as error:
            self._check_still_connected(error)
            raise self._broken(error) from error

    # --- what a person answers ------------------------------------------------------------

    def _try_dialogue(self) -> bool:
        self._was_asked = False
        dialogue = Dialogue(self._transport, self._target.user, self._answer)
        try:
            is_forward = self._try("keyboard-interactive", lambda: dialogue.run(self._deadline))
        except HostSilent:
            silence = "does not react to the answer" if self._was_asked else "asks nothing"
            raise self._broken(TimeoutError(f"the host {silence}")) from None
        except TooManyRounds as error:
            self._refused.append(f"keyboard-interactive ({error})")
            raise self._refusal() from None
        if not is_forward and self._was_asked:
            raise self._refusal()
        return is_forward

    def _answer(self, heading: str, questions: Questions) -> list[str]:
        answers: list[str] = []
        for text, is_shown in questions:
            prompt = f"{heading}\n" if heading and not answers else ""
            prompt += f"({self._target.user}@{self._target.alias}) {printable(text)}"
            answers.append(self._put(prompt, not is_shown))
        return answers

    def _try_password(self) -> bool:
        user = self._target.user
        password = self._put(f"{user}@{self._target.alias}'s password: ", True)
        try:
            is_forward = self._try(
                "password", lambda: self._transport.auth_password(user, password, fallback=False)
            )
        finally:
            # paramiko would keep it as long as the connection lives.
            if self._transport.auth_handler is not None:
                self._transport.auth_handler.password = None
        if not is_forward:
            raise self._refusal()
        return True

    def _put(self, prompt: str, secret: bool) -> str:
        """Puts one prompt before the person; raises AuthenticationRequired where nobody is."""
        if self._ask is None:
            self._nobody_asked.append(f"it asks {prompt.strip()!r}")
            raise self._failure()
        preamble, self._preamble = self._preamble, ""
        self._was_asked = True
        began = time.monotonic()
        try:
            answer = self._ask(preamble + prompt, secret)
        except EOFError as error:
            raise AuthenticationRequired(
                f"nobody answered {prompt.strip()!r}",
                **self._place(),
            ) from error
        except AuthenticationRequired as error:
            error.host, error.step = self._target.destination, "authenticate"
            raise
        self._unheard = f"{prompt.strip()!r} was answered after {time.monotonic() - began:.0f} s"
        return answer

    # --- what went wrong ------------------------------------------------------------------

    def _check_still_connected(self, error: Exception) -> None:
        # paramiko has no class of its own for a host that does not answer.
        if str(error) == "Authentication timeout.":
            raise self._broken(TimeoutError("the host does not answer")) from error
        if self._transport.is_active():
            return
        if self._unheard:
            raise self._hung_up(error) from error
        if not self._refused:
            raise self._broken(error) from error
        raise AuthenticationFailed(
            f"the host hung up after it refused {', '.join(self._refused)}",
            **self._place(),
            advice=(
                "Hosts take only a few keys: name the right one with identity=, and set "
                "IdentitiesOnly yes in ssh_config if ssh-agent holds many."
            ),
        ) from error

    def _hung_up(self, error: Exception) -> AuthenticationFailed:
        """The connection has ended, and the host not said what it thinks of the answer."""
        said = farewell(self._transport)
        # The number by which a host asks for a new password has another meaning to paramiko.
        if "Illegal info request" in str(error):
            return AuthenticationFailed(
                "the host wants another password before it lets you in",
                advice="Log in with ssh once and change it.",
                **self._place(),
            )
        if said:
            what = f"{self._unheard}, and the host hung up: {said}"
            return AuthenticationFailed(what, **self._place())
        return AuthenticationFailed(
            f"{self._unheard}, and the host hung up",
            advice="Hosts end a login that takes long (LoginGraceTime, often two minutes): connect "
            "again with the answer at hand.",
            **self._place(),
        )

    def _broken(self, error: Exception) -> SshFailed:
        why = farewell(self._transport) or str(error) or type(error).__name__
        return SshFailed(
            f"the connection broke during the login: {why}",
            **self._place(),
        )

    def _failure(self) -> LoginFailed:
        """Why there is no way left; AuthenticationRequired where a person might know one."""
        if not self._nobody_asked:
            return self._refusal()
        needed, place = "; ".join(self._nobody_asked), self._place()
        if self._unattended is not None:
            why, advice = self._unattended.why, self._unattended.advice
            return AuthenticationRequired(f"{why}: {needed}", advice=advice, **place)
        return AuthenticationRequired(f"nobody is there to answer: {needed}", **place)

    def _refusal(self) -> AuthenticationFailed:
        tried = ", ".join(self._refused) or "nothing"
        after = f" after {', '.join(self._succeeded)}" if self._succeeded else ""
        return AuthenticationFailed(
            f"the host takes {', '.join(self._allowed) or 'nothing'}{after}; it refused {tried}",
            **self._place(),
        )

    def _place(self) -> dict[str, str]:
        return {"host": self._target.destination, "step": "authenticate"}


def _text(banner: bytes | str | None) -> str:
    """What the host said before the login, with the end of its line."""
    said = banner.decode("utf-8", "replace") if isinstance(banner, bytes) else banner or ""
    shown = printable(said).strip()[:MAX_BANNER]
    return f"{shown}\n" if shown else ""
