"""Who is here: every link from its first word to its last.

A link becomes a visit when its client has greeted; a visit ends with Bye, with a broken
rule, or with its link.  Links that fall silent are cut; so is one whose client has come
back over another.  Must not know what clients ask for, nor how links are made.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from ..errors import LinkLost
from ..links.link import Link
from ..protocol.conversation import Conversation, Side
from ..protocol.messages import DEFAULT_HEARTBEAT, Bye, Hello, Message, Refusal, Welcome
from .sessions import Session
from .surroundings import Gone

__all__ = ["Visits"]

log = logging.getLogger(__name__)

HELLO_SECONDS = 5.0  # a connection that does not say who it is
# With the time until the next look a silent link is noticed within three heartbeats.
MISSED_HEARTBEATS = 2


class Visits:
    """All visits of one server.

    `answer` decides whether a client is let in, `begin` gives it a session, `on_change` is
    called when somebody came or left.
    """

    def __init__(
        self,
        answer: Callable[[Hello], Welcome | Refusal],
        begin: Callable[[Link, Hello], Session],
        on_change: Callable[[], None],
    ) -> None:
        self._answer = answer
        self._begin = begin
        self._on_change = on_change
        self._loop = asyncio.get_running_loop()
        self._visits: dict[Link, _Visit] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._is_closed = False

    def __len__(self) -> int:
        """How many clients are here."""
        return len(self._visits)

    def accept(self, link: Link) -> None:
        """A connection was made; nothing is known of it yet."""
        task = self._loop.create_task(self._serve(link))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def tell(self, message: Message) -> None:
        """Says something to every client."""
        for visit in self._visits.values():
            visit.session.post(message)

    async def close(self, gone: Gone | None = None) -> None:
        """Ends every visit, greeted or not; `gone` is how their clients then count as gone."""
        self._is_closed = True
        for visit in self._visits.values():
            visit.gone = gone or visit.gone
        if self._sweeper is not None:
            self._sweeper.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, link: Link) -> None:
        conversation = Conversation(Side.SERVER)
        try:
            hello = await self._greet(link, conversation)
            # wait_for loses a cancellation that comes in the same turn as its result.
            if self._is_closed:
                raise LinkLost("The server ends")
            self._part_with(hello.session)
            visit = self._visits[link] = _Visit(conversation, self._begin(link, hello))
            self._watch()
            link.deliver(visit)
            await visit.over
        except LinkLost as lost:
            log.info("link %s: %s", link.info.peer, lost.what)
            link.cut(lost)
        finally:
            self._part(link)
            await link.close()

    async def _greet(self, link: Link, conversation: Conversation) -> Hello:
        try:
            hello = await asyncio.wait_for(link.receive(), HELLO_SECONDS)
        except asyncio.TimeoutError:
            raise LinkLost("It did not say who it is") from None
        conversation.received(hello)
        if not isinstance(hello, Hello):  # the table lets nothing else pass
            raise LinkLost("It did not greet")
        answer = self._answer(hello)
        conversation.sent(answer)
        link.send(answer)
        if isinstance(answer, Refusal):
            await link.close()
            raise LinkLost(answer.text)
        return hello

    def _part_with(self, session: str) -> None:
        """Its client is here again: the link that it had before is dead, or will be."""
        for link, visit in list(self._visits.items()):
            if visit.session.id == session:
                link.cut(LinkLost("Its client came back over another link"))
                self._part(link)

    def _part(self, link: Link) -> None:
        visit = self._visits.pop(link, None)
        if visit is not None:
            visit.session.leave(visit.gone)
            self._on_change()

    def _watch(self) -> None:
        """Looks for silent links, only while there are links."""
        self._on_change()
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(DEFAULT_HEARTBEAT, self._sweep)

    def _sweep(self) -> None:
        self._sweeper = None
        oldest = self._loop.time() - MISSED_HEARTBEATS * DEFAULT_HEARTBEAT
        for link, visit in list(self._visits.items()):
            if visit.heard <= oldest:
                visit.gone = Gone.SILENT
                link.cut(LinkLost("No heartbeat"))
        if self._visits:
            self._sweeper = self._loop.call_later(DEFAULT_HEARTBEAT, self._sweep)


class _Visit:
    """One client, from Welcome to the end of its link (links.Receiver)."""

    def __init__(self, conversation: Conversation, session: Session) -> None:
        loop = asyncio.get_running_loop()
        self.session = session
        self._conversation = conversation
        self._clock = loop.time
        self.heard = loop.time()
        self.gone = Gone.BROKEN  # unless it says goodbye, or falls silent
        self.over: asyncio.Future[None] = loop.create_future()

    def arrived(self, message: Message) -> None:
        self.heard = self._clock()
        self._conversation.received(message)
        if isinstance(message, Bye):
            self.gone = Gone.CLOSED
            self._end()
        else:
            self.session.handle(message)

    def lost(self, fault: LinkLost) -> None:
        if self.gone is not Gone.CLOSED:
            log.info("a link ended without goodbye: %s", fault.what)
        self._end()

    def _end(self) -> None:
        if not self.over.done():
            self.over.set_result(None)
