"""The far end of a transfer: a program of the far half, between its stdin and its stdout.

Its first line of input says what is wished.  What goes wrong is told to the near end, which
tells the user; stderr is for what nobody foresaw.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from .end import End, Fault, Wish, fault_frame
from .entries import Malformed, from_wire
from .pump import pump, write_all
from .sink import Sink, names_a_folder
from .source import Source

__all__ = ["main"]

MAX_LINE = 1024 * 1024
FAILED = 1


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0 where the transfer came to its end, however it went."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, _leave)  # not before it has put away what it was writing
    end: End | None = None
    try:
        end = _made(Wish.read(_first_line()))
        return 0 if pump(end, 0, 1) else FAILED
    except Fault as fault:
        return FAILED if fault.is_far else _tell(fault)
    except Malformed as wrong:
        return _tell(Fault(0, f"what arrived makes no sense: {wrong}", ""))
    except BrokenPipeError:
        return FAILED  # nobody is there any more
    finally:
        if end is not None:
            end.close()


def _made(wish: Wish) -> End:
    place = _absolute(from_wire(wish.place))
    return Source(place, wish) if wish.sends else Sink(place, wish)


def _absolute(place: str) -> str:
    """A path as the user wrote it: ~ is his home, and so is where a relative one begins."""
    is_folder = names_a_folder(place) or place == "~"
    whole = os.path.normpath(os.path.join(os.path.expanduser("~"), os.path.expanduser(place)))
    return os.path.join(whole, "") if is_folder else whole


def _first_line() -> bytes:
    line = b""
    while not line.endswith(b"\n") and len(line) < MAX_LINE:
        letter = os.read(0, 1)  # unbuffered: what follows belongs to the end
        if not letter:
            break
        line += letter
    return line


def _tell(fault: Fault) -> int:
    write_all(1, fault_frame(fault))
    return FAILED


def _leave(number: int, frame: object) -> NoReturn:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
