"""One conversation, with the test as the server."""

from __future__ import annotations

import asyncio

import pytest

from smartsim_bridge.client.talk import AboutCommand, Talk, WishGranted
from smartsim_bridge.errors import LinkLost, PeerSilent, RequestRefused, VersionMismatch
from smartsim_bridge.links.memory_link import memory_links
from smartsim_bridge.protocol.messages import (
    Bye,
    CommandsEnd,
    Entry,
    Exited,
    Hello,
    Inquiry,
    ListCommands,
    Message,
    Refusal,
    Report,
    Stop,
    Stopping,
    Welcome,
)
from tests.support.loops import SECONDS, run
from tests.support.near_side import VERSION, talk_by_hand
from tests.support.waiting import wait_until_async


class Heard:
    """A session that only listens."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.beats = 0
        self.fault: LinkLost | None = None

    def told(self, message: AboutCommand) -> None:
        self.messages.append(message)

    def beat(self) -> None:
        self.beats += 1

    def talk_over(self, fault: LinkLost) -> None:
        self.fault = fault


async def greeted(answer: Message | None, timeout: float = SECONDS, wish: str = "") -> Talk:
    near, far = memory_links()
    if answer is not None:
        far.send(answer)
    return await Talk.open(near, session="f" * 32, version=VERSION, timeout=timeout, wish=wish)


def test_a_welcome_opens_the_talk() -> None:
    async def main() -> None:
        talk, _ = await talk_by_hand()
        assert (talk.welcome.host, talk.welcome.pid) == ("head", 17)
        assert talk.fault is None
        await talk.close()

    run(main())


def test_silence_is_told() -> None:
    with pytest.raises(PeerSilent) as caught:
        run(greeted(None, 0.01))
    assert caught.value.step == "handshake"


def test_another_version_is_told_with_both_numbers() -> None:
    with pytest.raises(VersionMismatch) as caught:
        run(greeted(Refusal("version", "it speaks protocol 9", "9.0")))
    assert VERSION in str(caught.value)
    assert "9.0" in str(caught.value)


def test_another_refusal_is_told_in_its_words() -> None:
    with pytest.raises(RequestRefused, match="512 clients"):
        run(greeted(Refusal("limit", "512 clients are connected already", "0.1")))


def test_a_wish_that_is_granted_is_no_fault() -> None:
    stopping = Refusal("stopping", "the server is stopping", "9.0")
    with pytest.raises(WishGranted) as granted:
        run(greeted(stopping, wish="stop"))
    assert granted.value.version == "9.0"
    with pytest.raises(RequestRefused, match="is stopping"):
        run(greeted(stopping))


@pytest.mark.parametrize("answer", [Bye(), Inquiry(1), Hello(2, 2, "0", "f" * 32)])
def test_any_other_first_word_ends_it(answer: Message) -> None:
    with pytest.raises(LinkLost):
        run(greeted(answer))


def test_what_is_said_about_commands_reaches_the_session() -> None:
    async def main() -> None:
        talk, far = await talk_by_hand()
        session = Heard()
        talk.attend(session)
        said = Exited("2", code=0, signal=None, timed_out=False, final=True)
        far.send(said)
        await wait_until_async(lambda: session.messages)
        assert session.messages == [said]
        assert talk.was_useful
        await talk.close()

    run(main())


def test_a_session_that_attends_too_late_is_told_of_the_end() -> None:
    async def main() -> None:
        talk, far = await talk_by_hand()
        far.cut(LinkLost("cable pulled"))
        await wait_until_async(lambda: talk.fault)
        session = Heard()
        talk.attend(session)
        assert session.fault is talk.fault

    run(main())


def test_commands_are_listed_up_to_the_last_word() -> None:
    async def main() -> None:
        talk, far = await talk_by_hand()
        asking = asyncio.ensure_future(talk.list_commands(SECONDS))
        question = await far.receive()
        assert isinstance(question, ListCommands)
        entries = [Entry(question.request, name, ("true",), "ended") for name in "ab"]
        for entry in (*entries, Entry(99, "c", (), "ended")):
            far.send(entry)
        far.send(CommandsEnd(question.request))
        assert await asking == entries
        await talk.close()

    run(main())


def test_an_inquiry_is_answered_by_its_number() -> None:
    async def main() -> None:
        talk, far = await talk_by_hand()
        asking = [asyncio.ensure_future(talk.inquire(SECONDS)) for _ in range(2)]
        for running in (1, 2):
            message = await far.receive()
            assert isinstance(message, Inquiry)
            far.send(Report(message.request, "0", "head", 17, 0.0, clients=1, running=running))
        assert [report.running for report in await asyncio.gather(*asking)] == [1, 2]
        await talk.close()

    run(main())


def test_an_inquiry_without_an_answer_ends_in_time() -> None:
    async def main() -> None:
        talk, _ = await talk_by_hand()
        with pytest.raises(LinkLost, match="No answer"):
            await talk.inquire(0.01)
        await talk.close()

    run(main())


def test_a_lost_link_is_told_to_everybody_who_waits() -> None:
    async def main() -> None:
        talk, far = await talk_by_hand()
        session = Heard()
        talk.attend(session)
        asking = asyncio.ensure_future(talk.inquire(SECONDS))
        await asyncio.sleep(0)
        far.cut(LinkLost("cable pulled"))
        with pytest.raises(LinkLost):
            await asking
        await wait_until_async(lambda: session.fault)
        with pytest.raises(LinkLost):
            talk.send(Bye())
        await talk.close()

    run(main())


def test_a_message_that_breaks_the_rules_ends_the_talk() -> None:
    async def main() -> None:
        talk, far = await talk_by_hand()
        far.send(Welcome(2, VERSION, "head", 17))  # once was right
        await wait_until_async(lambda: talk.fault)
        await talk.close()

    run(main())


def test_a_server_that_ends_says_why() -> None:
    async def main() -> None:
        talk, far = await talk_by_hand()
        far.send(Stopping("idle"))
        far.cut(LinkLost("closed"))
        await wait_until_async(lambda: talk.fault)
        assert talk.fault is not None
        assert "idle" in str(talk.fault)
        await talk.close()

    run(main())


def test_close_says_goodbye_and_may_be_repeated() -> None:
    async def main() -> None:
        talk, far = await talk_by_hand()
        await talk.close()
        assert isinstance(await far.receive(), Bye)
        await talk.close()
        with pytest.raises(LinkLost):
            await far.receive()

    run(main())


def test_stop_asks_the_server_to_end() -> None:
    async def main() -> None:
        talk, far = await talk_by_hand()
        stopping = asyncio.ensure_future(talk.stop_server(SECONDS))
        assert isinstance(await far.receive(), Stop)
        far.send(Stopping("a client asked for it"))
        far.cut(LinkLost("closed"))
        await stopping
        await talk.close()

    run(main())
