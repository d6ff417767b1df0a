"""What starter and agent say to each other."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from smartsim_bridge.agent.channel import AgentSide, StarterSide
from smartsim_bridge.errors import AgentFailed, AuthenticationFailed, AuthenticationRequired

SECONDS = 60.0


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def attended(
    ends: tuple[socket.socket, socket.socket],
    work: Callable[[AgentSide], object],
    ask: Callable[[str, bool], str],
) -> object:
    """What `work` came to, in the agent, while a starter attended."""
    with ThreadPoolExecutor(1) as pool:
        doing = pool.submit(work, AgentSide(ends[1]))
        StarterSide(ends[0], ask).attend(SECONDS)
        return doing.result(SECONDS)


def test_questions_are_put_at_the_starter(ends: tuple[socket.socket, socket.socket]) -> None:
    def work(agent: AgentSide) -> list[str]:
        answers = [agent.ask("Password: ", True), agent.ask("Code\n» ", False)]
        agent.ready()
        return answers

    asked: list[tuple[str, bool]] = []

    def ask(prompt: str, secret: bool) -> str:
        asked.append((prompt, secret))
        return f"{len(asked)} \udcff\n"

    assert attended(ends, work, ask) == ["1 \udcff\n", "2 \udcff\n"]
    assert asked == [("Password: ", True), ("Code\n» ", False)]


def test_where_nobody_can_answer_the_login_says_what_to_run(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    def work(agent: AgentSide) -> AuthenticationRequired:
        with pytest.raises(AuthenticationRequired) as caught:
            agent.ask("Password: ", True)
        agent.ready()
        return caught.value

    def ask(prompt: str, secret: bool) -> str:
        raise AuthenticationRequired("there is no terminal")

    refused = attended(ends, work, ask)
    assert isinstance(refused, AuthenticationRequired)
    assert "there is no terminal" in refused.what
    assert "smartsim-bridge shims start" in refused.advice


def test_a_question_after_the_starter_has_gone_is_answered_by_nobody(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ends[0].close()
    with pytest.raises(AuthenticationRequired, match="has gone"):
        AgentSide(ends[1]).ask("Password: ", True)


def test_why_it_failed_is_told_with_its_place_and_advice(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    AgentSide(ends[1]).failed(AuthenticationFailed("No.", host="login1", step="login"))
    with pytest.raises(AgentFailed) as caught:
        StarterSide(ends[0], lambda prompt, secret: "").attend(SECONDS)
    failed = caught.value
    assert failed.what == "No agent: No."
    assert (failed.host, failed.step) == ("login1", "login")
    assert failed.advice == AuthenticationFailed("No.").advice


@pytest.mark.parametrize("said", [b"", b"nonsense\n", b"[1]\n", b"x" * 200_000])
def test_an_agent_that_talks_nonsense_or_ends_has_failed(
    said: bytes, ends: tuple[socket.socket, socket.socket]
) -> None:
    def work() -> None:
        ends[1].sendall(said)
        ends[1].close()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(work)
        with pytest.raises(AgentFailed, match="ended before it was ready"):
            StarterSide(ends[0], lambda prompt, secret: "").attend(SECONDS)
        ends[0].close()


def test_an_agent_that_is_silent_has_failed(ends: tuple[socket.socket, socket.socket]) -> None:
    with pytest.raises(AgentFailed, match="said nothing"):
        StarterSide(ends[0], lambda prompt, secret: "").attend(0.01)
