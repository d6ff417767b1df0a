"""A notebook without a browser: a real kernel, and what its cells show.

cell = notebook.execute("%head hostname")
cell.stdout, cell.stderr, cell.error, cell.displays, cell.result
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from jupyter_client.manager import start_new_kernel

__all__ = ["Cell", "Notebook", "running_notebook"]

START_SECONDS = 120.0
CELL_SECONDS = 100.0


class Cell:
    """What one cell showed."""

    def __init__(self) -> None:
        self.streams = {"stdout": "", "stderr": ""}
        self.displays: list[dict[str, str]] = []  # each as it was shown last
        self.drawings: list[dict[str, str]] = []  # each time one was shown
        self.result: dict[str, str] = {}
        self.error: str = ""
        self.traceback: list[str] = []
        self.asked: list[tuple[str, bool]] = []
        self._places: dict[str, int] = {}

    @property
    def stdout(self) -> str:
        return self.streams["stdout"]

    @property
    def stderr(self) -> str:
        return self.streams["stderr"]

    def take(self, kind: str, content: Any) -> None:
        if kind == "stream":
            self.streams[content["name"]] += content["text"]
        elif kind == "execute_result":
            self.result = content["data"]
        elif kind == "error":
            self.error = f"{content['ename']}: {content['evalue']}"
            self.traceback = content["traceback"]
        elif kind in ("display_data", "update_display_data"):
            self._draw(kind, content)

    def _draw(self, kind: str, content: Any) -> None:
        self.drawings.append(content["data"])
        name = content["transient"].get("display_id", "")
        if kind == "display_data":
            self._places[name] = len(self.displays)
            self.displays.append(content["data"])
        else:
            self.displays[self._places[name]] = content["data"]


class Notebook:
    """Runs cells one after the other; answers what they ask."""

    def __init__(self, kernel: Any, client: Any) -> None:
        self._kernel = kernel
        self._client = client
        self.asked: list[tuple[str, bool]] = []  # by the cell that `run` ran last

    def interrupt(self) -> None:
        """The button."""
        self._kernel.interrupt_kernel()

    def run(self, code: str, *answers: str, can_ask: bool = True) -> str:
        """What the cell printed and gave, or the name of the error that it raised."""
        cell = self.execute(code, *answers, can_ask=can_ask)
        self.asked = cell.asked
        return cell.error or cell.stdout + cell.result.get("text/plain", "")

    def execute(
        self,
        code: str,
        *answers: str,
        can_ask: bool = True,
        meanwhile: Callable[[Cell], object] | None = None,
    ) -> Cell:
        """Where the answers have run out the cell is interrupted.

        `meanwhile` is called after each thing that the cell shows, before it has ended.
        """
        waiting, cell = list(answers), Cell()

        def on_output(message: Any) -> None:
            cell.take(message["msg_type"], message["content"])
            if meanwhile is not None and message["msg_type"] != "status":
                meanwhile(cell)

        def on_question(message: Any) -> None:
            cell.asked.append((message["content"]["prompt"], message["content"]["password"]))
            if waiting:
                self._client.input(waiting.pop(0))
            else:
                self.interrupt()

        self._client.execute_interactive(
            code,
            timeout=CELL_SECONDS,
            allow_stdin=can_ask,
            output_hook=on_output,
            stdin_hook=on_question if can_ask else None,
        )
        return cell

    def complete(self, code: str) -> list[str]:
        """What the Tab key offers at the end of `code`."""
        asked = self._client.complete(code)
        by = time.monotonic() + CELL_SECONDS
        while time.monotonic() < by:
            try:
                reply = self._client.get_shell_msg(timeout=1)
            except queue.Empty:
                continue
            if reply["parent_header"].get("msg_id") == asked:
                return list(reply["content"]["matches"])
        raise AssertionError(f"no answer to {code!r} and Tab")


@contextmanager
def running_notebook(environment: Mapping[str, str] | None = None) -> Iterator[Notebook]:
    """A kernel of this Python; with the block."""
    more: dict[str, Any] = {} if environment is None else {"env": dict(environment)}
    kernel, client = start_new_kernel(startup_timeout=START_SECONDS, **more)
    try:
        yield Notebook(kernel, client)
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)
