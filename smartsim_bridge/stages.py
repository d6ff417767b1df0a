"""The steps on the way to a head node, as they are reported while they happen.

ssh, bootstrap and client name each step through a `Journey`, so that an error can say
where it happened and the demo can show where the time goes.  Knows no I/O.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

__all__ = ["Journey", "Stage", "StageListener"]


@dataclass(frozen=True)
class Stage:
    """One step that ended: `name`, the `host` it concerned, `seconds` it took, what came of it."""

    name: str
    host: str
    seconds: float
    detail: str = ""
    failed: bool = False


StageListener = Callable[[Stage], None]


class _Note:
    """What the code inside a step wants to have said about it."""

    detail = ""

    def __init__(self, name: str) -> None:
        #: May be changed, where one step is several and only the error tells which.
        self.name = name


class Journey:
    """Collects the stages of one connect, and tells a listener of each as it ends."""

    def __init__(
        self,
        host: str,
        listener: StageListener | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.host = host
        self.stages: list[Stage] = []
        self._listener = listener
        self._clock = clock

    @contextmanager
    def stage(self, name: str) -> Iterator[_Note]:
        """Times the block; set `.detail` on what it yields.  One that raises is a failed stage."""
        note, began, failed = _Note(name), self._clock(), True
        try:
            yield note
            failed = False
        finally:
            stage = Stage(note.name, self.host, self._clock() - began, note.detail, failed)
            self.stages.append(stage)
            if self._listener is not None:
                self._listener(stage)
