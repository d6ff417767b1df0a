"""Starts a master of our own, and answers what it is asked until it is logged in."""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import shutil

from ..deadline import ONE_DAY, Deadline
from ..errors import AuthenticationRequired, CommandServerError, SshFailed
from ..stages import Journey
from .ask import Ask, Unattended, printable
from .openssh_errors import card_refusal, error_from, last_words
from .openssh_master import Master
from .openssh_options import READY, master_arguments, write_config
from .openssh_target import OpensshTarget
from .prompter import Prompter
from .socket_directory import socket_directory

__all__ = ["login_of", "start_master"]

# What ssh said before it was ready has been sent, and only has to be read.
NOISE_SECONDS = 1.0


def start_master(
    target: OpensshTarget,
    *,
    ask: Ask | None,
    host_keys: str,
    directory: str,
    deadline: Deadline,
    journey: Journey,
) -> Master:
    """Logs in once.  Raises HostUnreachable, HostKeyRefused, LoginFailed or SshFailed."""
    if isinstance(ask, Unattended):
        # ssh must not even begin what a person would have to finish.
        try:
            return start_master(
                target,
                ask=None,
                host_keys=host_keys,
                directory=directory,
                deadline=deadline,
                journey=journey,
            )
        except AuthenticationRequired as error:
            raise AuthenticationRequired(
                f"{ask.why}: {error.what}", host=error.host, step=error.step, advice=ask.advice
            ) from error
    if target.keywords.get("batchmode") == "yes":
        ask = None
    place = socket_directory(directory, runs_programs=True)
    with contextlib.ExitStack() as undo:
        undo.callback(shutil.rmtree, place, ignore_errors=True)
        write_config(f"{place}/config", target, host_keys, can_ask=ask is not None)
        # A prompt may come before there is a master to look at, from a jump host.
        started: list[Master] = []

        def give_up() -> None:
            started[0].give_up()

        prompter = Prompter(
            place,
            ask,
            wants_more=lambda: "with partial success" in started[0].noise.since(0),
            refusal=lambda: card_refusal(started[0].noise.since(0)),
            announce=lambda prompt: _announce(journey, prompt),
            give_up=give_up,
        )
        undo.callback(prompter.close)
        arguments = master_arguments(target, place, deadline)
        master = Master(target, arguments, place, prompter.environment)
        started.append(master)
        undo.callback(master.close)
        _wait_until_ready(master, prompter, target, deadline, can_ask=ask is not None)
        undo.pop_all()
        prompter.close()
        return master
    raise AssertionError  # pragma: no cover -- the stack swallows nothing


def _wait_until_ready(
    master: Master, prompter: Prompter, target: OpensshTarget, deadline: Deadline, *, can_ask: bool
) -> None:
    heard = b""
    with selectors.DefaultSelector() as selector:
        selector.register(prompter, selectors.EVENT_READ)
        selector.register(master.output, selectors.EVENT_READ)
        while READY.encode() not in heard:
            waiting = [key.fileobj for key, _ in selector.select(deadline.at_most(ONE_DAY))]
            if prompter in waiting:
                prompter.take()
            if master.output in waiting:
                said = os.read(master.output.fileno(), 4096)
                heard += said
                if not said:
                    raise _failure(master, prompter, target, can_ask=can_ask)
            elif deadline.is_over:
                why = "the host does not answer in time" + _by_proxy(target)
                complaint = last_words(master.noise.since(0))
                why += f"; ssh said: {complaint}" if complaint else ""
                raise SshFailed(why, host=target.destination, step="connect")


def _failure(
    master: Master, prompter: Prompter, target: OpensshTarget, *, can_ask: bool
) -> CommandServerError:
    error = error_from(
        master.last_words(), host=target.destination, can_ask=can_ask, question=prompter.question
    )
    if type(error) is SshFailed:  # nothing was heard of the host itself
        what = error.what + _by_proxy(target)
        error = SshFailed(what, host=error.host, step=error.step, advice=error.advice)
    # A host key that nobody could be asked about is refused as unknown, as without a person.
    if prompter.fault is not None and error.step != "host key":
        error = prompter.fault
        error.host, error.step = target.destination, "authenticate"
    return error


def _by_proxy(target: OpensshTarget) -> str:
    command = target.keywords.get("proxycommand", "none")
    return "" if command == "none" else f", by the ProxyCommand `{printable(command)}`"


def _announce(journey: Journey, prompt: str) -> None:
    with journey.stage("touch") as note:
        note.detail = prompt


def login_of(master: Master, hostname: str) -> str:
    """How the host, and not a jump host before it, was convinced: "publickey, password"."""
    # Standard error has a reader of its own, which may be behind the one that heard READY.
    told = f"Authenticated to {hostname} "
    noise = master.noise.wait_for(told, since=0, seconds=NOISE_SECONDS)
    partial = re.findall(r'Authenticated using "([^"]+)" with partial success', noise)
    whole = re.findall(r'^Authenticated to .* using "([^"]+)"', noise, re.MULTILINE)
    return ", ".join([*partial, *whole[-1:]])
