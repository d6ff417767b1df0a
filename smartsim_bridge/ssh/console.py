"""The terminal of Windows: keys are read one by one, and shown or not as we like.

Stands in for /dev/tty, which is not there.  Knows keys and lines; why something is asked, and
whether anybody may be asked, is the business of `ask`.
"""

from __future__ import annotations

from typing import Any

__all__ = ["ask_console"]

_ENTER = "\r\n"
_BACKSPACE = "\b"
_CTRL_C = "\x03"
_END = "\x1a\x04\uffff"  # Ctrl-Z, Ctrl-D, and what a console gives that was closed
_KEYS_OF_TWO = "\x00\xe0"  # arrows and function keys: another code follows


def ask_console(shown: str, secret: bool) -> str:
    """One line that is typed after `shown`.

    Raises OSError where the process has no console, EOFError at the end of input.
    """
    # Opened for the question alone: without a console the keys below are read from nowhere.
    with open("CONIN$", "rb", buffering=0):
        return _read_line(_keyboard(), shown, secret)


def _keyboard() -> Any:
    import importlib

    return importlib.import_module("msvcrt")  # by its name: elsewhere it has no types


def _read_line(keyboard: Any, shown: str, secret: bool) -> str:
    _write(keyboard, shown)
    line = ""
    try:
        while (key := _next_key(keyboard)) not in _ENTER:
            if key != _BACKSPACE:
                line += key
                _write(keyboard, "" if secret else key)
            elif line:
                line = line[:-1]
                _write(keyboard, "" if secret else "\b \b")
    finally:
        _write(keyboard, "\n")
    return line


def _next_key(keyboard: Any) -> str:
    while (key := str(keyboard.getwch())) in _KEYS_OF_TWO:
        keyboard.getwch()
    if key == _CTRL_C:
        raise KeyboardInterrupt
    if key in _END:
        raise EOFError
    return key


def _write(keyboard: Any, text: str) -> None:
    for char in text.replace("\n", "\r\n"):
        keyboard.putwch(char)
